{{/* Parts of the pod that the Deployment, its init containers and tests have in common. */}}

{{/* Where and on what a process works. These win over what an image says; the settings file has the rest, and extraEnv
wins over both: no name may be there twice. Called with (list $ more), `more` being a list of variables as well. */}}
{{- define "embedserve.env" -}}
{{- $root := first . -}}
{{- $own := list
      (dict "name" "EMBEDSERVE_CONFIG" "value" "/etc/embedserve/config/embedserve.toml")
      (dict "name" "EMBEDSERVE_HOST" "value" (dig "host" "0.0.0.0" $root.Values.settings))
      (dict "name" "EMBEDSERVE_PORT" "value" (toString $root.Values.service.containerPort))
      (dict "name" "EMBEDSERVE_ADMIN_PORT" "value" (toString $root.Values.admin.port))
      (dict "name" "EMBEDSERVE_CACHE_DIR" "value" "/cache")
      (dict "name" "HOME" "value" "/tmp") -}}
{{- $model := $root.Values.models | empty | ternary (include "embedserve.modelPath" (list $root $root.Values.model.name)) "" -}}
{{- if or $model $root.Values.models -}}
{{- $own = append $own (dict "name" "EMBEDSERVE_MODEL" "value" $model) -}}
{{- end -}}
{{- include "embedserve.envAndExtra" (list $root (concat $own (last .))) }}
{{- end }}

{{/* Called with (list $ own): extraEnv behind the chart's own variables, in place of those of the same name. */}}
{{- define "embedserve.envAndExtra" -}}
{{- $extra := (first .).Values.extraEnv -}}
{{- $theirs := list -}}
{{- range $extra }}{{ $theirs = append $theirs .name }}{{ end -}}
{{- $all := list -}}
{{- range last . -}}
{{- if not (has .name $theirs) }}{{ $all = append $all . }}{{ end -}}
{{- end -}}
{{- toYaml (concat $all $extra) }}
{{- end }}

{{/* The variables of what copies models from S3. */}}
{{- define "embedserve.s3Env" -}}
{{- $env := list (dict "name" "HOME" "value" "/tmp") -}}
{{- with .Values.modelSource.s3.endpoint -}}
{{- $env = append $env (dict "name" "AWS_ENDPOINT_URL" "value" .) -}}
{{- end -}}
{{- include "embedserve.envAndExtra" (list . $env) }}
{{- end }}

{{/* Where a model is fetched from, and with whose rights. */}}
{{- define "embedserve.downloadEnv" -}}
{{- $download := .Values.modelSource.download -}}
{{- $env := list (dict "name" "HF_HOME" "value" "/cache/huggingface") -}}
{{- with $download.endpoint -}}
{{- $env = append $env (dict "name" "HF_ENDPOINT" "value" .) -}}
{{- end -}}
{{- with $download.tokenSecret -}}
{{- if .name -}}
{{- $env = append $env (dict "name" "HF_TOKEN" "valueFrom" (dict "secretKeyRef" (dict "name" .name "key" .key))) -}}
{{- end -}}
{{- end -}}
{{- toJson $env -}}
{{- end }}

{{/* What every container that runs embedserve sees. */}}
{{- define "embedserve.mounts" -}}
- name: config
  mountPath: /etc/embedserve/config
  readOnly: true
- name: tmp
  mountPath: /tmp
- name: cache
  mountPath: /cache
{{- end }}

{{/* The server's volume of models: at /models, if they are mounted. */}}
{{- define "embedserve.modelMount" -}}
{{- if has .Values.modelSource.type (list "pvc" "oci" "s3") }}
- name: models
  mountPath: /models
  readOnly: true
  {{- with include "embedserve.modelSubPath" . }}
  subPath: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What is copied has no path any more. */}}
{{- define "embedserve.modelSubPath" -}}
{{- $source := .Values.modelSource -}}
{{- if eq $source.type "pvc" -}}
{{- $source.pvc.subPath -}}
{{- else if and (eq $source.type "oci") (eq (include "embedserve.ociMode" .) "volume") -}}
{{- trimAll "/" $source.oci.path -}}
{{- end -}}
{{- end }}

{{- define "embedserve.modelVolume" -}}
{{- $source := .Values.modelSource }}
{{- if eq $source.type "pvc" }}
- name: models
  persistentVolumeClaim:
    claimName: {{ $source.pvc.claimName | quote }}
    readOnly: true
{{- else if and (eq $source.type "oci") (eq (include "embedserve.ociMode" .) "volume") }}
- name: models
  image:
    reference: {{ $source.oci.reference | quote }}
    pullPolicy: {{ $source.oci.pullPolicy }}
{{- else if has $source.type (list "oci" "s3") }}
- name: models
  emptyDir:
    sizeLimit: {{ $source.sizeLimit }}
{{- end }}
{{- end }}

{{/* The init container that brings models, if one must. */}}
{{- define "embedserve.modelInit" -}}
{{- $source := .Values.modelSource }}
{{- if eq $source.type "download" }}
- name: model
  image: {{ include "embedserve.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [compile, --config, /etc/embedserve/config/embedserve.toml]
  env:
    {{- include "embedserve.env" (list . (include "embedserve.downloadEnv" . | fromJsonArray)) | nindent 4 }}
  {{- with .Values.extraEnvFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- include "embedserve.initRest" . | nindent 2 }}
  volumeMounts:
    {{- include "embedserve.mounts" . | nindent 4 }}
    {{- with .Values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- else if and (eq $source.type "oci") (eq (include "embedserve.ociMode" .) "copy") }}
- name: model
  image: {{ $source.oci.reference | quote }}
  imagePullPolicy: {{ $source.oci.pullPolicy }}
  command: [cp, -R, {{ printf "%s/." (trimSuffix "/" $source.oci.path) | quote }}, /mnt/models]
  {{- include "embedserve.initRest" . | nindent 2 }}
  volumeMounts:
    - name: models
      mountPath: /mnt/models
{{- else if eq $source.type "s3" }}
- name: model
  image: {{ $source.s3.image | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  {{- with $source.s3.command }}
  command:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  args:
    {{- toYaml (default (list "s3" "sync" "--no-progress" $source.s3.uri "/models") $source.s3.args) | nindent 4 }}
  env:
    {{- include "embedserve.s3Env" . | nindent 4 }}
  {{- if or $source.s3.existingSecret .Values.extraEnvFrom }}
  envFrom:
    {{- with .Values.extraEnvFrom }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $source.s3.existingSecret }}
    - secretRef:
        name: {{ . | quote }}
    {{- end }}
  {{- end }}
  {{- include "embedserve.initRest" . | nindent 2 }}
  volumeMounts:
    - name: models
      mountPath: /models
    - name: tmp
      mountPath: /tmp
    {{- with .Values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
{{- end }}

{{/* With the GPU as well, for which `compile` compiles then: of init containers and servers the larger request counts, not the sum. */}}
{{- define "embedserve.initRest" -}}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
resources:
  {{- include "embedserve.resources" . | nindent 2 }}
{{- end }}

{{/* Called with (list $ "kind" "path"). */}}
{{- define "embedserve.probe" -}}
{{- $root := index . 0 }}{{ $kind := index . 1 }}{{ $path := index . 2 -}}
httpGet:
  path: {{ $path }}
  port: admin
  scheme: {{ include "embedserve.scheme" $root | upper }}
{{ toYaml (index $root.Values.probes $kind) }}
{{- end }}

{{/* All that a drain may take, a sleep of preStop before it, and 5 seconds in which the process ends. */}}
{{- define "embedserve.leastGracePeriod" -}}
{{- $sleep := dig "preStop" "sleep" "seconds" 0 .Values.lifecycle -}}
{{- with .Values.drain -}}
{{- ceil (addf (float64 .preStopSeconds) (float64 $sleep) (float64 .graceSeconds) (float64 .timeoutSeconds) 5.0) | int -}}
{{- end -}}
{{- end }}

{{/* Before SIGKILL. */}}
{{- define "embedserve.terminationGracePeriod" -}}
{{- $told := .Values.drain.terminationGracePeriodSeconds -}}
{{- kindIs "invalid" $told | ternary (include "embedserve.leastGracePeriod" .) $told -}}
{{- end }}

{{- define "embedserve.lifecycle" -}}
{{- if .Values.lifecycle }}
{{- toYaml .Values.lifecycle }}
{{- else if gt (float64 .Values.drain.preStopSeconds) 0.0 }}
preStop:
  {{- if semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version }}
  sleep:
    seconds: {{ .Values.drain.preStopSeconds }}
  {{- else }}
  exec:
    command: [sleep, {{ .Values.drain.preStopSeconds | quote }}]
  {{- end }}
{{- end }}
{{- end }}

{{/* `resources`, and the GPU, which needs no request of its own. */}}
{{- define "embedserve.resources" -}}
{{- $resources := deepCopy .Values.resources }}
{{- if .Values.gpu.enabled }}
{{- $limits := merge (dict .Values.gpu.resourceName .Values.gpu.count) (default dict $resources.limits) }}
{{- $_ := set $resources "limits" $limits }}
{{- end }}
{{- toYaml $resources }}
{{- end }}
