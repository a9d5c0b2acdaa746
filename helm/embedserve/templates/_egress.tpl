{{/* Where pods may go. A server of models that lie beside it needs nobody, and so may reach nobody. */}}
{{- define "embedserve.egress" -}}
{{- $fetches := and (has .Values.modelSource.type (list "download" "s3")) .Values.networkPolicy.egressPorts }}
{{- if or $fetches .Values.tracing.endpoint }}
{{ include "embedserve.dnsEgress" . }}
{{- end }}
{{- if $fetches }}
- ports:
    {{- range include "embedserve.fetchPorts" . | fromJsonArray }}
    - port: {{ . }}
      protocol: TCP
    {{- end }}
{{- end }}
{{- if .Values.tracing.endpoint }}
- ports: # the collector of traces
    - port: {{ include "embedserve.portOf" .Values.tracing.endpoint }}
      protocol: TCP
{{- end }}
{{- if include "embedserve.workloadIdentity" . }}
- ports: # who the pod is to a cloud: EKS (80), Google's (80) and GKE's (988) metadata
    - port: 80
      protocol: TCP
    - port: 988
      protocol: TCP
  to:
    - ipBlock:
        cidr: 169.254.0.0/16
{{- end }}
{{- with .Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Those that are told, that of the endpoint, and those of proxies. */}}
{{- define "embedserve.fetchPorts" -}}
{{- $ports := list }}
{{- range .Values.networkPolicy.egressPorts }}{{ $ports = append $ports (toString .) }}{{ end }}
{{- with dig .Values.modelSource.type "endpoint" "" .Values.modelSource }}
{{- $ports = append $ports (include "embedserve.portOf" .) }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if and (has (lower .name) (list "https_proxy" "http_proxy" "all_proxy")) (contains "://" (default "" .value)) }}
{{- $ports = append $ports (include "embedserve.portOf" .value) }}
{{- end }}
{{- end }}
{{- uniq $ports | toJson }}
{{- end }}

{{/* Whether models are fetched by the pod's own rights. */}}
{{- define "embedserve.workloadIdentity" -}}
{{- $names := list .Values.model.name }}
{{- range .Values.models }}{{ $names = append $names .model }}{{ end }}
{{- $source := .Values.modelSource }}
{{- if eq $source.type "s3" }}
{{- if not $source.s3.existingSecret }}true{{ end }}
{{- else if eq $source.type "download" }}
{{- range $names }}{{ if hasPrefix "gs://" . }}true{{ end }}{{ end }}
{{- end }}
{{- end }}

{{- define "embedserve.dnsEgress" -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
    - port: 5353 # of OpenShift's DNS pods: policies go by the port behind the Service
      protocol: UDP
    - port: 5353
      protocol: TCP
  to:
    - namespaceSelector: {}
    - ipBlock: # a node's own cache of names
        cidr: 169.254.0.0/16
{{- end }}
