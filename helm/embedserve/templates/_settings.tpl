{{/* The settings file: what the server is told beside where it listens. */}}

{{/* A value in TOML: a table of strings, or anything that JSON and TOML write alike (texts, numbers, true, arrays). */}}
{{- define "embedserve.toml" -}}
{{- if kindIs "map" . -}}
{ {{ $comma := "" }}{{ range $key, $value := . }}{{ $comma }}{{ $key | toJson }} = {{ $value | toJson }}{{ $comma = ", " }}{{ end }} }
{{- else -}}
{{ toJson . }}
{{- end }}
{{- end }}

{{- define "embedserve.config" -}}
drain_grace = {{ .Values.drain.graceSeconds }}
drain_timeout = {{ .Values.drain.timeoutSeconds }}
{{- if .Values.auth.apiKeys.existingSecret }}
api_key_file = "/etc/embedserve/keys/api-keys"
{{- end }}
{{- if .Values.auth.adminKeys.existingSecret }}
admin_key_file = "/etc/embedserve/keys/admin-keys"
{{- end }}
{{- if .Values.tls.existingSecret }}
tls_certificate = "/etc/embedserve/tls/tls.crt"
tls_private_key = "/etc/embedserve/tls/tls.key"
{{- end }}
{{- if .Values.tls.clientCA.existingSecret }}
tls_client_ca = "/etc/embedserve/client-ca/{{ .Values.tls.clientCA.key }}"
{{- end }}
{{- $executors := include "embedserve.executors" . }}
{{- if $executors }}
executors = {{ $executors }}
{{- end }}
{{- if not .Values.models }}
{{- with .Values.model.servedName }}
served_model_name = {{ toJson . }}
{{- end }}
{{- with .Values.model.aliases }}
model_aliases = {{ toJson . }}
{{- end }}
{{- with .Values.model.precision }}
precision = {{ toJson . }}
{{- end }}
{{- end }}
{{- range $key, $value := omit .Values.settings "host" }}
{{- if not (kindIs "invalid" $value) }}
{{ $key }} = {{ include "embedserve.toml" $value }}
{{- end }}
{{- end }}
{{- range .Values.models }}

[[models]]
model = {{ include "embedserve.modelPath" (list $ .model) | toJson }}
{{- range $key, $value := omit . "model" }}
{{ $key }} = {{ include "embedserve.toml" $value }}
{{- end }}
{{- end }}
{{- end }}

{{/* Without a limit a process sees all cores of its node, and would take a thread for each: then its request counts. */}}
{{- define "embedserve.executors" -}}
{{- $cpu := dig "requests" "cpu" "" .Values.resources | toString -}}
{{- if and $cpu (not (dig "limits" "cpu" "" .Values.resources)) (not .Values.gpu.enabled) (not (hasKey .Values.settings "executors")) -}}
{{- $cores := ternary (divf (trimSuffix "m" $cpu | float64) 1000) (float64 $cpu) (hasSuffix "m" $cpu) -}}
{{- max 1 (floor $cores | int) -}}
{{- end }}
{{- end }}

{{/* Where models lie: below /models if they are mounted there; names of the catalogue and of the hub stay as they are. */}}
{{- define "embedserve.modelRoot" -}}
{{- if and (eq .Values.modelSource.type "oci") (eq (include "embedserve.ociMode" .) "volume") -}}
{{- printf "/models%s" (trimSuffix "/" .Values.modelSource.oci.path) }}
{{- else -}}
/models
{{- end }}
{{- end }}

{{/* Called with (list $ "name"). */}}
{{- define "embedserve.modelPath" -}}
{{- $root := first . }}{{ $name := last . -}}
{{- if or (eq $root.Values.modelSource.type "download") (hasPrefix "/" $name) (and (eq $root.Values.modelSource.type "image") (not $name)) -}}
{{- $name -}}
{{- else -}}
{{- printf "%s/%s" (include "embedserve.modelRoot" $root) $name | trimSuffix "/" -}}
{{- end }}
{{- end }}

{{/* volume or copy. Image volumes are on by default since Kubernetes 1.35, and a feature gate since 1.31. */}}
{{- define "embedserve.ociMode" -}}
{{- if eq .Values.modelSource.oci.mode "auto" -}}
{{- ternary "volume" "copy" (semverCompare ">=1.35.0-0" .Capabilities.KubeVersion.Version) }}
{{- else -}}
{{- .Values.modelSource.oci.mode }}
{{- end }}
{{- end }}
