{{/* What NOTES.txt says in words. */}}

{{- define "embedserve.served" -}}
{{- if .Values.models -}}
{{- $names := list }}
{{- range .Values.models }}{{ $names = append $names (default .model .name) }}{{ end -}}
{{ len $names }} models: {{ join ", " $names }}
{{- else if or .Values.model.name (eq .Values.modelSource.type "download") -}}
{{ default "all-MiniLM-L6-v2" .Values.model.name }}{{ with .Values.model.servedName }} as {{ . }}{{ end }}
{{- else -}}
what lies in {{ eq .Values.modelSource.type "image" | ternary "its image" "/models" }}
{{- end }}
{{- end }}

{{- define "embedserve.replicasText" -}}
{{- if .Values.autoscaling.hpa.enabled -}}
{{ .Values.autoscaling.hpa.minReplicas }} to {{ .Values.autoscaling.hpa.maxReplicas }}, by a HorizontalPodAutoscaler
{{- else if .Values.autoscaling.keda.enabled -}}
{{ .Values.autoscaling.keda.minReplicas }} to {{ .Values.autoscaling.keda.maxReplicas }}, by KEDA
{{- else -}}
{{ .Values.replicaCount }}
{{- end }}
{{- end }}

{{- define "embedserve.sourceText" -}}
{{- $source := .Values.modelSource -}}
{{- if eq $source.type "download" -}}
fetched and compiled by each pod's init container, into {{ with .Values.cache.existingClaim }}the claim {{ . }}{{ else }}a folder of the pod's own{{ end }}
{{- else if eq $source.type "pvc" -}}
of the claim {{ $source.pvc.claimName }}
{{- else if eq $source.type "oci" -}}
of the image {{ $source.oci.reference }} ({{ include "embedserve.ociMode" . }})
{{- else if eq $source.type "s3" -}}
copied from {{ $source.s3.uri }}
{{- else -}}
in the image {{ include "embedserve.image" . }}
{{- end }}
{{- end }}

{{- define "embedserve.warnings" -}}
{{- if not (or .Values.auth.apiKeys.existingSecret .Values.networkPolicy.apiFrom .Values.tls.clientCA.existingSecret) }}
- Everybody who reaches the Service may use it: name a Secret in auth.apiKeys.existingSecret, or peers in networkPolicy.apiFrom.
{{- end }}
{{- if and .Values.auth.apiKeys.existingSecret (eq (include "embedserve.scheme" .) "http") (or .Values.ingress.enabled .Values.httpRoute.enabled | not) }}
- Keys travel unencrypted: name a certificate in tls.existingSecret, or let an ingress or a mesh encrypt.
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.tls) }}
- The Ingress has no certificate (ingress.tls), so what it takes is readable on the way, keys and texts.
{{- end }}
{{- if and (eq (include "embedserve.scheme" .) "https") (or .Values.ingress.enabled .Values.httpRoute.enabled) }}
- Pods speak HTTPS: the ingress controller must be told by an annotation of its own, a gateway by a BackendTLSPolicy.
{{- end }}
{{- $patience := include "embedserve.seconds" .Values.httpRoute.timeout | float64 }}
{{- $longest := get .Values.settings "request_timeout" | default 60 | float64 }}
{{- if and .Values.httpRoute.enabled (gt $patience 0.0) (le $patience $longest) }}
- The gateway gives up after {{ .Values.httpRoute.timeout }} (httpRoute.timeout), and a request may take {{ $longest }} s (settings.request_timeout): clients get its 504 instead of the server's.
{{- end }}
{{- if lt (include "embedserve.minReplicas" . | int) 2 }}
- There may be a single replica: nothing is served while it starts anew, or its node is drained.
{{- end }}
{{- if not .Values.podDisruptionBudget.enabled }}
- Without a PodDisruptionBudget a drain of nodes may take all replicas at once.
{{- end }}
{{- if ne (toString .Values.strategy.maxUnavailable) "0" }}
- Updates take pods away before new ones are ready (strategy.maxUnavailable).
{{- end }}
{{- if and (include "embedserve.autoscaled" .) (not .Values.monitoring.serviceMonitor.enabled) (not .Values.monitoring.podMonitor.enabled) }}
- Autoscaling goes by what Prometheus scrapes with the labels job=embedserve, namespace, pod and release={{ include "embedserve.fullname" . }}: set monitoring.podMonitor.enabled=true, or write them yourself.
{{- end }}
{{- if and (or .Values.monitoring.prometheusRule.enabled .Values.monitoring.dashboard.enabled) (not .Values.monitoring.serviceMonitor.enabled) (not .Values.monitoring.podMonitor.enabled) }}
- Alerts and the dashboard see only what is scraped with the labels job=embedserve, namespace, pod and release={{ include "embedserve.fullname" . }}; without it EmbedserveAbsent fires: set monitoring.podMonitor.enabled=true, or write them yourself.
{{- end }}
{{- with include "embedserve.scrapesByCA" . }}
- Prometheus compares the certificate with ca.crt of the Secret {{ . }}, and with the name {{ include "embedserve.fullname" $ }}-admin.{{ $.Release.Namespace }}.svc: where they are others, set monitoring.tlsConfig.
{{- end }}
{{- if and (lt (float64 .Values.drain.graceSeconds) 1.0) (not (include "embedserve.lifecycle" .)) }}
- Without drain.graceSeconds requests are lost in each update: pods refuse them before the cluster sends them elsewhere.
{{- end }}
{{- if not (dig "limits" "memory" "" .Values.resources) }}
- Without a limit of memory a pod may take its node's; resources.limits.memory bounds it.
{{- end }}
{{- if and .Values.gpu.enabled (eq (toString (dig "limits" "memory" "" .Values.resources)) "1Gi") }}
- A process with CUDA holds 0.7 GB before its first request, and a pod may have 1Gi: set resources.requests.memory and resources.limits.memory to 4Gi.
{{- end }}
{{- if and (not (dig "limits" "cpu" "" .Values.resources)) (not (dig "requests" "cpu" "" .Values.resources)) (not (hasKey .Values.settings "executors")) (not .Values.gpu.enabled) }}
- Without CPU in resources each pod takes a thread for every core of its node: set resources.requests.cpu.
{{- end }}
{{- if and (eq .Values.modelSource.type "download") (not .Values.cache.existingClaim) }}
- Each new pod fetches its models anew, and none starts while the hub is away: modelSource.type image, oci or pvc for production, or cache.existingClaim.
{{- end }}
{{- if or (ne (toString .Values.podSecurityContext.runAsNonRoot) "true") (ne (toString .Values.securityContext.allowPrivilegeEscalation) "false") }}
- Pods are not those of the Pod Security Standard "restricted" any more (podSecurityContext, securityContext).
{{- end }}
{{- if not .Values.networkPolicy.enabled }}
- There is no network policy: whoever is in the cluster reaches the admin port {{ .Values.admin.port }} (metrics{{ if .Values.auth.adminKeys.existingSecret }}, loading of models{{ end }}).
{{- end }}
{{- if and (or (get .Values.settings "requests_per_minute") (get .Values.settings "tokens_per_minute")) (ne (include "embedserve.minReplicas" . | int) 1) }}
- Limits of keys are each pod's own: with n replicas a key has n times as much.
{{- end }}
{{- end }}
