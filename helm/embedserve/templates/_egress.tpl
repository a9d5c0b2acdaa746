{{/* Where pods may go. A server of models that lie beside it needs nobody, and so may reach nobody. */}}
{{- define "embedserve.egress" -}}
{{- $fetches := and (has .Values.modelSource.type (list "download" "s3")) .Values.networkPolicy.egressPorts }}
{{- $collector := include "embedserve.collector" . }}
{{- if or $fetches $collector }}
{{ include "embedserve.dnsEgress" . }}
{{- end }}
{{- if $fetches }}
- ports:
    {{- range include "embedserve.fetchPorts" . | fromJsonArray }}
    - port: {{ . }}
      protocol: TCP
    {{- end }}
{{- end }}
{{- with $collector }}
- ports: # the collector of traces
    - port: {{ include "embedserve.portOf" . }}
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

{{/* Those that are told, that of the endpoint, and those of proxies and endpoints that extraEnv names. */}}
{{- define "embedserve.fetchPorts" -}}
{{- $ports := list }}
{{- range .Values.networkPolicy.egressPorts }}{{ $ports = append $ports (toString .) }}{{ end }}
{{- with dig .Values.modelSource.type "endpoint" "" .Values.modelSource }}
{{- $ports = append $ports (include "embedserve.portOf" .) }}
{{- end }}
{{- range include "embedserve.urlsOf" (list . "https_proxy" "http_proxy" "all_proxy" "hf_endpoint" "aws_endpoint_url" "aws_endpoint_url_s3") | fromJsonArray }}
{{- $ports = append $ports (include "embedserve.portOf" .) }}
{{- end }}
{{- uniq $ports | toJson }}
{{- end }}

{{/* Where traces go: the variable of traces alone wins over the other, and extraEnv's over the chart's own. */}}
{{- define "embedserve.collector" -}}
{{- $own := compact (list .Values.tracing.endpoint) }}
{{- $general := include "embedserve.urlsOf" (list . "otel_exporter_otlp_endpoint") | fromJsonArray }}
{{- $ofTraces := include "embedserve.urlsOf" (list . "otel_exporter_otlp_traces_endpoint") | fromJsonArray }}
{{- first (concat $ofTraces $general $own (list "")) }}
{{- end }}

{{/* URLs among the variables of extraEnv, as far as their ports can be told here: $(…) is the kubelet's to know.
Called with (list $ "name" …), names in small letters. */}}
{{- define "embedserve.urlsOf" -}}
{{- $names := rest . }}{{ $urls := list }}
{{- range (first .).Values.extraEnv }}
{{- $value := default "" .value | trim }}
{{- if and (has (lower .name) $names) (contains "://" $value) (not (regexMatch ":[$][(][^)]*[)](/|$)" $value)) }}
{{- $urls = append $urls $value }}
{{- end }}
{{- end }}
{{- toJson $urls }}
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
