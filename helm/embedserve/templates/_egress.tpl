{{/* Where pods may go. A server of models that lie beside it needs nobody, and so may reach nobody. */}}
{{- define "embedserve.egress" -}}
{{- if and (has .Values.modelSource.type (list "download" "s3")) .Values.networkPolicy.egressPorts }}
{{ include "embedserve.dnsEgress" . }}
- ports:
    {{- range .Values.networkPolicy.egressPorts }}
    - port: {{ . }}
      protocol: TCP
    {{- end }}
{{- end }}
{{- with .Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "embedserve.dnsEgress" -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
  to:
    - namespaceSelector: {}
    - ipBlock: # a node's own cache of names
        cidr: 169.254.0.0/16
{{- end }}
