{{/* Names and labels. */}}

{{- define "embedserve.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Cut to 52 characters: room for the suffixes of what belongs to it, such as -smoke-test. */}}
{{- define "embedserve.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "embedserve.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "embedserve.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What a Deployment can never change, and Services look for. `component` keeps pods of tests and loads out. */}}
{{- define "embedserve.selectorLabels" -}}
app.kubernetes.io/name: {{ include "embedserve.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: server
{{- end }}

{{/* Labels of everything. Called with (list $ "component"). */}}
{{- define "embedserve.labelsOf" -}}
{{- $root := first . -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "embedserve.name" $root | quote }}
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ last . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: embedserve
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Without the chart's version: another one alone is no reason to start pods anew. */}}
{{- define "embedserve.podLabels" -}}
{{- $own := include "embedserve.selectorLabels" . | fromYaml -}}
{{- $own = merge $own (dict "app.kubernetes.io/version" .Chart.AppVersion "app.kubernetes.io/part-of" "embedserve") -}}
{{- toYaml (merge $own .Values.podLabels .Values.commonLabels) }}
{{- end }}

{{- define "embedserve.labels" -}}
{{- include "embedserve.labelsOf" (list . "server") }}
{{- end }}

{{- define "embedserve.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "embedserve.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* A digest says exactly which image; else the tag, by default the one of this chart's version. */}}
{{- define "embedserve.image" -}}
{{- $tag := default (printf "%s%s" .Chart.AppVersion (ternary "-gpu" "" .Values.gpu.enabled)) .Values.image.tag -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository $tag }}
{{- end }}
{{- end }}

{{- define "embedserve.scheme" -}}
{{- ternary "https" "http" (not (empty .Values.tls.existingSecret)) }}
{{- end }}

{{/* Whether something else says how many replicas there are. */}}
{{- define "embedserve.autoscaled" -}}
{{- if or .Values.autoscaling.hpa.enabled .Values.autoscaling.keda.enabled }}true{{ end }}
{{- end }}

{{/* How many replicas there are at least. */}}
{{- define "embedserve.minReplicas" -}}
{{- if .Values.autoscaling.hpa.enabled }}
{{- default 1 .Values.autoscaling.hpa.minReplicas }}
{{- else if .Values.autoscaling.keda.enabled }}
{{- default 1 .Values.autoscaling.keda.minReplicas }}
{{- else }}
{{- .Values.replicaCount }}
{{- end }}
{{- end }}

{{- define "embedserve.trafficDistribution" -}}
{{- if and .Values.service.trafficDistribution (semverCompare ">=1.31.0-0" .Capabilities.KubeVersion.Version) }}true{{ end }}
{{- end }}
