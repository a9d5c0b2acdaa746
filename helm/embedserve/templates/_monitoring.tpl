{{/* Labels of what operators and sidecars look for, over those of everything: none is said twice. Called with (list $ labels). */}}
{{- define "embedserve.labelsAnd" -}}
{{- toYaml (mergeOverwrite (include "embedserve.labels" (first .) | fromYaml) (last .)) }}
{{- end }}

{{/* Of a PromQL selector: these pods alone. By the full name, as a release may have the chart twice, by an alias. */}}
{{- define "embedserve.ownSeries" -}}
{{ printf "job=\"embedserve\", namespace=%q, release=%q" .Release.Namespace (include "embedserve.fullname" .) }}
{{- end }}

{{/* In a PromQL regular expression of routes, behind those that no user asks: a probe's own. */}}
{{- define "embedserve.probeRoute" -}}
|unmatched
{{- with .Values.settings.health_route }}|{{ regexQuoteMeta . | replace "\\" "\\\\" | replace "\"" "\\\"" }}{{ end }}
{{- end }}

{{/* The Secret by whose ca.crt Prometheus compares certificates, if it does. */}}
{{- define "embedserve.scrapesByCA" -}}
{{- if and (or .Values.monitoring.serviceMonitor.enabled .Values.monitoring.podMonitor.enabled) (not .Values.monitoring.tlsConfig) }}
{{- .Values.tls.existingSecret }}
{{- end }}
{{- end }}

{{/* How the admin port is scraped, by either monitor. Rules and dashboard go by the labels job and release. */}}
{{- define "embedserve.scrape" -}}
port: admin
path: /metrics
scheme: {{ include "embedserve.scheme" . }}
{{- with .Values.tls.existingSecret }}
tlsConfig:
  {{- if $.Values.monitoring.tlsConfig }}
  {{- toYaml $.Values.monitoring.tlsConfig | nindent 2 }}
  {{- else }}
  ca:
    secret:
      name: {{ . | quote }}
      key: ca.crt
  serverName: {{ include "embedserve.fullname" $ }}-admin.{{ $.Release.Namespace }}.svc
  {{- end }}
{{- end }}
interval: {{ .Values.monitoring.interval }}
relabelings:
  - targetLabel: job
    replacement: embedserve
  - targetLabel: release
    replacement: {{ include "embedserve.fullname" . | quote }}
{{- end }}
