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

{{/* Without a limit a process sees all cores of its node, and would take a thread for each: then its request counts, which
several processes share. */}}
{{- define "embedserve.executors" -}}
{{- $cpu := include "embedserve.quantity" (dig "requests" "cpu" "" .Values.resources) -}}
{{- $unlimited := not (dig "limits" "cpu" "" .Values.resources) -}}
{{- if and $cpu $unlimited (not .Values.gpu.enabled) (not (hasKey .Values.settings "executors")) -}}
{{- max 1 (div (floor $cpu | int) (get .Values.settings "processes" | default 1 | int)) -}}
{{- end }}
{{- end }}

{{/* Models that are mounted lie below /models; names of the catalogue and of the hub stay as they are, and so does what
an image has baked in. Called with (list $ "name"). */}}
{{- define "embedserve.modelPath" -}}
{{- $type := (first .).Values.modelSource.type }}{{ $name := last . -}}
{{- if or (eq $type "download") (hasPrefix "/" $name) (and (eq $type "image") (not $name)) -}}
{{- $name -}}
{{- else -}}
{{- printf "/models/%s" $name | trimSuffix "/" -}}
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
