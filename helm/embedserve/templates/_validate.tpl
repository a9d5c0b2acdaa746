{{/* Values that contradict each other. The schema says what each of them may be alone. */}}
{{- define "embedserve.validate" -}}
{{- if and .Values.autoscaling.hpa.enabled .Values.autoscaling.keda.enabled }}
{{- fail "autoscaling.hpa and autoscaling.keda are both enabled: KEDA makes an HPA of its own. Enable one of them." }}
{{- end }}
{{- end }}
