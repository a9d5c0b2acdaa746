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
{{- if and .Values.monitoring.serviceMonitor.enabled .Values.monitoring.podMonitor.enabled }}
{{- fail "monitoring.serviceMonitor and monitoring.podMonitor are both enabled, and each pod would be counted twice: disable one of them." }}
{{- end }}
{{- end }}
