{{/* Of what is measured, and what is made of it. */}}
{{- define "embedserve.validate.monitoring" -}}
{{- $targets := .Values.autoscaling.targets }}
{{- $has := or $targets.utilisation $targets.queueWaitSeconds $targets.tokensPerSecond }}
{{- range $name, $one := pick .Values.autoscaling "hpa" "keda" }}
{{- if and $one.enabled (not (or $has $one.extraMetrics)) }}
{{- fail (printf "autoscaling.%s is enabled, and there is nothing to go by: set one of autoscaling.targets." $name) }}
{{- end }}
{{- end }}
{{- if and .Values.autoscaling.keda.enabled (not .Values.autoscaling.keda.serverAddress) }}
{{- fail "autoscaling.keda is enabled, and nothing says where Prometheus is: set autoscaling.keda.serverAddress, such as http://prometheus-operated.monitoring:9090." }}
{{- end }}
{{- $scraped := or .Values.monitoring.serviceMonitor.enabled .Values.monitoring.podMonitor.enabled }}
{{- $scaled := include "embedserve.autoscaled" . }}
{{- if and $scraped $scaled (gt (trimSuffix "s" .Values.monitoring.interval | int) 15) }}
{{- fail (printf "monitoring.interval is %s, and autoscaling goes by the last minute, which must hold four scrapes: lower it to 15s." .Values.monitoring.interval) }}
{{- end }}
{{- if and .Values.monitoring.serviceMonitor.enabled .Values.monitoring.podMonitor.enabled }}
{{- fail "monitoring.serviceMonitor and monitoring.podMonitor are both enabled, and each pod would be counted twice: disable one of them." }}
{{- end }}
{{- end }}
