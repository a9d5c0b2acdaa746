{{/* Kubernetes' quantities as numbers: "1.5Gi" → 1610612736, "500m" → 0.5. "" stays "". */}}
{{- define "embedserve.quantity" -}}
{{- $text := toString (default "" .) -}}
{{- $factors := dict "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 -}}
{{- if $text -}}
{{- $unit := regexFind "[A-Za-z]*$" $text -}}
{{- mulf (trimSuffix $unit $text | float64) (get $factors $unit | default 1.0) -}}
{{- end -}}
{{- end }}

{{/* A duration of the Gateway API in seconds: "1m30s" → 90. */}}
{{- define "embedserve.seconds" -}}
{{- $factors := dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 0.001 -}}
{{- $sum := 0.0 -}}
{{- range regexFindAll "[0-9]+(h|ms|m|s)" . -1 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- $sum = addf $sum (mulf (trimSuffix $unit . | float64) (get $factors $unit)) -}}
{{- end -}}
{{- $sum -}}
{{- end }}
