{{/* The server's variables for traces, by OpenTelemetry's names; none without an endpoint. */}}
{{- define "embedserve.tracingEnv" -}}
{{- with .Values.tracing }}
{{- if .endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .endpoint | quote }}
- name: OTEL_TRACES_SAMPLER
  value: {{ .sampler }}
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ .share | quote }}
- name: OTEL_SERVICE_NAME
  value: {{ default (include "embedserve.fullname" $) .serviceName | quote }}
- name: OTEL_RESOURCE_ATTRIBUTES_POD_NAME # not POD_NAME, which extraEnv often has: its own comes later, and $(…) knows earlier ones alone
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: OTEL_RESOURCE_ATTRIBUTES
  value: {{ include "embedserve.resourceAttributes" $ | quote }}
{{- if .headers.existingSecret }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef:
      name: {{ .headers.existingSecret | quote }}
      key: {{ .headers.key | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* As the variable wants them: pairs between commas, their values percent-encoded. */}}
{{- define "embedserve.resourceAttributes" -}}
k8s.namespace.name={{ .Release.Namespace }},k8s.pod.name=$(OTEL_RESOURCE_ATTRIBUTES_POD_NAME)
{{- range $name, $value := .Values.tracing.resourceAttributes }},{{ $name }}={{ $value | urlquery | replace "+" "%20" }}{{ end }}
{{- end }}

{{/* The port of an URL, for the way out. */}}
{{- define "embedserve.portOf" -}}
{{- $url := urlParse . }}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" }}
{{- default (ternary "443" "80" (eq $url.scheme "https")) $port }}
{{- end }}

{{- define "embedserve.validate.tracing" -}}
{{- if and .Values.tracing.headers.existingSecret (not .Values.tracing.endpoint) }}
{{- fail "tracing.headers names a Secret, and there is no collector to send it to: name one in tracing.endpoint." }}
{{- end }}
{{- end }}
