{{/* Values that contradict each other, each with the remedy. The schema says what each of them may be alone. */}}
{{- define "embedserve.validate" -}}
{{- range list "names" "scaling" "disruptions" "sources" "models" "variables" "volumes" "gpu" "access" "network" "resources" "lifetimes" "secrets" "monitoring" "tracing" }}
{{- include (printf "embedserve.validate.%s" .) $ }}
{{- end }}
{{- end }}

{{- define "embedserve.validate.names" -}}
{{- $name := include "embedserve.fullname" . }}
{{- if not (regexMatch "^[a-z]([a-z0-9-]*[a-z0-9])?$" $name) }}
{{- fail (printf "%s cannot be a Service's name, which begins with a letter and has small letters, digits and - alone: set fullnameOverride, or give the release another name." $name) }}
{{- end }}
{{- range $label := concat (keys .Values.commonLabels) (keys .Values.podLabels) }}
{{- if or (hasPrefix "app.kubernetes.io/" $label) (eq $label "helm.sh/chart") }}
{{- fail (printf "%s is a label of the chart's own, by which objects find each other: leave it out of commonLabels and podLabels (nameOverride changes the name)." $label) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "embedserve.validate.scaling" -}}
{{- $hpa := .Values.autoscaling.hpa }}{{ $keda := .Values.autoscaling.keda }}
{{- if and $hpa.enabled $keda.enabled }}
{{- fail "autoscaling.hpa and autoscaling.keda are both enabled, and KEDA makes an HPA of its own: disable one of them." }}
{{- end }}
{{- range $name, $one := dict "hpa" $hpa "keda" $keda }}
{{- if and $one.enabled (gt (int $one.minReplicas) (int $one.maxReplicas)) }}
{{- fail (printf "autoscaling.%s: minReplicas %v is more than maxReplicas %v: raise maxReplicas." $name $one.minReplicas $one.maxReplicas) }}
{{- end }}
{{- end }}
{{- if and (eq (toString .Values.strategy.maxSurge | trimSuffix "%") "0") (eq (toString .Values.strategy.maxUnavailable | trimSuffix "%") "0") }}
{{- fail "strategy.maxSurge and strategy.maxUnavailable are both 0, and nothing could ever be updated: raise maxSurge, or maxUnavailable where there is no room for one pod more." }}
{{- end }}
{{- end }}

{{/* Both numbers are rounded up where they are percents, as Kubernetes does. */}}
{{- define "embedserve.validate.disruptions" -}}
{{- $budget := .Values.podDisruptionBudget }}
{{- if $budget.enabled }}
{{- $most := kindIs "invalid" $budget.maxUnavailable | ternary "" (toString $budget.maxUnavailable) }}
{{- $least := kindIs "invalid" $budget.minAvailable | ternary "" (toString $budget.minAvailable) }}
{{- if and $most $least }}
{{- fail "podDisruptionBudget has both maxUnavailable and minAvailable, and Kubernetes takes one: set the other to null." }}
{{- else if not (or $most $least) }}
{{- fail "podDisruptionBudget has neither maxUnavailable nor minAvailable: set one, or podDisruptionBudget.enabled=false." }}
{{- else if has $most (list "0" "0%") }}
{{- fail (printf "podDisruptionBudget.maxUnavailable is %s: no node with such a pod could be drained. Set it to 1." $most) }}
{{- end }}
{{- $replicas := max 1 (include "embedserve.minReplicas" . | int) }}
{{- $kept := int $least }}
{{- if hasSuffix "%" $least }}
{{- $kept = divf (mulf (trimSuffix "%" $least | float64) (float64 $replicas)) 100 | ceil | int }}
{{- end }}
{{- if and $least (ge $kept $replicas) }}
{{- fail (printf "podDisruptionBudget.minAvailable %s keeps all of the %d replicas: no node with such a pod could be drained. Lower it, raise replicaCount (or autoscaling's minReplicas), or set maxUnavailable=1 and minAvailable=null." $least $replicas) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "embedserve.validate.sources" -}}
{{- $source := .Values.modelSource }}
{{- $told := dict "modelSource.download.tokenSecret.name" $source.download.tokenSecret.name "modelSource.download.endpoint" $source.download.endpoint "modelSource.pvc.claimName" $source.pvc.claimName "modelSource.pvc.subPath" $source.pvc.subPath "modelSource.oci.reference" $source.oci.reference "modelSource.s3.uri" $source.s3.uri "modelSource.s3.image" $source.s3.image "modelSource.s3.existingSecret" $source.s3.existingSecret }}
{{- range $name, $value := $told }}
{{- if and $value (not (hasPrefix (printf "modelSource.%s." $source.type) $name)) }}
{{- fail (printf "%s is set, and modelSource.type is %s: a pod has its models from one source. Set the type that is meant, or leave %s out." $name $source.type $name) }}
{{- end }}
{{- end }}
{{- $needed := dict "pvc" (list "claimName") "oci" (list "reference") "s3" (list "uri" "image") }}
{{- range get $needed $source.type | default list }}
{{- if not (dig $source.type . "" $source) }}
{{- fail (printf "modelSource.type is %s, and modelSource.%s.%s is empty: set it." $source.type $source.type .) }}
{{- end }}
{{- end }}
{{- if eq $source.type "oci" }}
{{- if and (eq $source.oci.mode "volume") (semverCompare "<1.31.0-0" .Capabilities.KubeVersion.Version) }}
{{- fail (printf "modelSource.oci.mode is volume, which Kubernetes has since 1.31, and this is %s: set it to copy." .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- if and (include "embedserve.modelSubPath" .) (semverCompare "<1.33.0-0" .Capabilities.KubeVersion.Version) }}
{{- fail (printf "modelSource.oci.path %s is a folder of an image volume, which Kubernetes can mount since 1.33, and this is %s: set modelSource.oci.mode=copy, or put the models into the root and the path to /." $source.oci.path .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- if and (eq (include "embedserve.ociMode" .) "copy") (eq (clean $source.oci.path) "/") }}
{{- fail "modelSource.oci.path is /, and an init container cannot copy all of its own image: put the models into a folder of it, and name that." }}
{{- end }}
{{- end }}
{{- if and (has $source.type (list "download" "s3")) .Values.networkPolicy.enabled (not .Values.networkPolicy.egressPorts) (not .Values.networkPolicy.extraEgress) }}
{{- fail (printf "modelSource.type is %s, and the network policy lets nothing out: add the port to networkPolicy.egressPorts, or a rule to networkPolicy.extraEgress." $source.type) }}
{{- end }}
{{- end }}

{{- define "embedserve.validate.models" -}}
{{- $names := .Values.models | empty | ternary (list .Values.model.name) (list) }}
{{- range .Values.models }}
{{- $names = append $names .model }}
{{- end }}
{{- range $names }}
{{- if and (eq $.Values.modelSource.type "download") (or (hasPrefix "/" .) (hasPrefix "." .)) }}
{{- fail (printf "%s is a path, and modelSource.type is download: name a model of the hub, or set modelSource.type=pvc, image, oci or s3." .) }}
{{- end }}
{{- if and (contains "://" .) (not (and (hasPrefix "gs://" .) (eq $.Values.modelSource.type "download"))) }}
{{- fail (printf "%s is an address, and modelSource.type is %s: models are fetched by name from gs://BUCKET/FOLDER alone, with modelSource.type=download; what lies at s3:// is named in modelSource.s3.uri." . $.Values.modelSource.type) }}
{{- end }}
{{- end }}
{{- if .Values.models }}
{{- range $key, $value := .Values.model }}
{{- if $value }}
{{- fail (printf "models lists what is served, and model.%s is set as well: move it into the list, or leave it out." $key) }}
{{- end }}
{{- end }}
{{- $seen := dict }}{{ $first := false }}
{{- range .Values.models }}
{{- $later := eq (toString .load_at_start) "false" }}
{{- $first = or $first (not $later) }}
{{- if and $later (not .name) }}
{{- fail (printf "models: %s has load_at_start=false and no name to be asked for: give it one." .model) }}
{{- end }}
{{- if and $later (hasPrefix "gs://" .model) }}
{{- fail (printf "models: %s has load_at_start=false, and a model in a bucket is read at the start alone: leave that out." .name) }}
{{- end }}
{{- if and $later (not $.Values.auth.adminKeys.existingSecret) }}
{{- fail (printf "models: %s has load_at_start=false, and nobody may load it: name a Secret in auth.adminKeys.existingSecret." .name) }}
{{- end }}
{{- range concat (list .name) (default list .aliases) | compact }}
{{- if hasKey $seen . }}
{{- fail (printf "models: the name %q is given twice: give each model its own." .) }}
{{- end }}
{{- $_ := set $seen . true }}
{{- end }}
{{- end }}
{{- if not $first }}
{{- fail "models: none is loaded at the start: leave load_at_start out of one of them." }}
{{- end }}
{{- end }}
{{- $elsewhere := dict "host" "" "port" "service.containerPort" "admin_port" "admin.port" "admin_host" "nothing: it is that of host" "model" "model.name" "models" "models" "served_model_name" "model.servedName" "model_aliases" "model.aliases" "precision" "model.precision" "api_keys" "auth.apiKeys.existingSecret: keys come from a Secret" "api_key_file" "auth.apiKeys.existingSecret" "admin_keys" "auth.adminKeys.existingSecret: keys come from a Secret" "admin_key_file" "auth.adminKeys.existingSecret" "tls_certificate" "tls.existingSecret" "tls_private_key" "tls.existingSecret" "tls_client_ca" "tls.clientCA.existingSecret" "drain_grace" "drain.graceSeconds" "drain_timeout" "drain.timeoutSeconds" "cache_dir" "cache.existingClaim" }}
{{- range $key, $value := .Values.settings }}
{{- with get $elsewhere $key }}
{{- fail (printf "settings.%s is the chart's own to say: use %s." $key .) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Of variables: those that the chart says itself, and secrets in plain text. */}}
{{- define "embedserve.validate.variables" -}}
{{- $elsewhere := dict "EMBEDSERVE_HOST" "settings.host" "EMBEDSERVE_ADMIN_HOST" "settings.host" "EMBEDSERVE_REQUEST_TIMEOUT" "settings.request_timeout" "EMBEDSERVE_STALL_TIMEOUT" "settings.stall_timeout" "EMBEDSERVE_HEALTH_ROUTE" "settings.health_route" "AIP_HEALTH_ROUTE" "settings.health_route" "EMBEDSERVE_TLS_CERTIFICATE" "tls.existingSecret" "EMBEDSERVE_TLS_PRIVATE_KEY" "tls.existingSecret" "EMBEDSERVE_TLS_CLIENT_CA" "tls.clientCA.existingSecret" "EMBEDSERVE_PORT" "service.containerPort" "EMBEDSERVE_ADMIN_PORT" "admin.port" "EMBEDSERVE_CONFIG" "settings" "EMBEDSERVE_CACHE_DIR" "cache.existingClaim" "EMBEDSERVE_MODEL" "model.name" "EMBEDSERVE_MODELS" "models" "EMBEDSERVE_DRAIN_GRACE" "drain.graceSeconds" "EMBEDSERVE_DRAIN_TIMEOUT" "drain.timeoutSeconds" }}
{{- $secret := dict "EMBEDSERVE_API_KEYS" "auth.apiKeys.existingSecret" "EMBEDSERVE_ADMIN_KEYS" "auth.adminKeys.existingSecret" "HF_TOKEN" "modelSource.download.tokenSecret" }}
{{- $seen := list }}
{{- range .Values.extraEnv }}
{{- if has .name $seen }}
{{- fail (printf "extraEnv has %s twice: leave one of them out." .name) }}
{{- end }}
{{- $seen = append $seen .name }}
{{- with get $elsewhere .name }}
{{- fail (printf "extraEnv has a variable of the chart's own, and the pod would not be as its objects say: use %s." .) }}
{{- end }}
{{- if and .value (hasKey $secret .name) }}
{{- fail (printf "extraEnv has %s in plain text, which all who may read the release can read: name a Secret in %s." .name (get $secret .name)) }}
{{- end }}
{{- end }}
{{- range $name, $kind := dict "EMBEDSERVE_API_KEY_FILE" "apiKeys" "EMBEDSERVE_ADMIN_KEY_FILE" "adminKeys" }}
{{- if and (has $name $seen) (get $.Values.auth $kind).existingSecret }}
{{- fail (printf "extraEnv has %s, which wins over the Secret of auth.%s: its keys would open nothing. Leave one of them out." $name $kind) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "embedserve.validate.volumes" -}}
{{- $own := list "config" "tmp" "cache" "models" "keys" "tls" "client-ca" "shared-memory" }}
{{- $there := list "tmp" "cache" }}
{{- range .Values.extraVolumes }}
{{- if has .name $own }}
{{- fail (printf "extraVolumes has %s, the name of a volume of the chart's own: give it another." .name) }}
{{- end }}
{{- $there = append $there .name }}
{{- end }}
{{- $paths := list "/etc/embedserve/config" "/etc/embedserve/keys" "/etc/embedserve/tls" "/etc/embedserve/client-ca" "/tmp" "/cache" (ternary "/dev/shm" "" .Values.gpu.enabled) (ternary "/models" "" (include "embedserve.modelMount" . | contains "/models")) }}
{{- range .Values.extraVolumeMounts }}
{{- if not (has .name $there) }}
{{- fail (printf "extraVolumeMounts names the volume %s, and extraVolumes has none of that name: add it there." .name) }}
{{- end }}
{{- if has (clean .mountPath) $paths }}
{{- fail (printf "extraVolumeMounts has %s, where the chart mounts a volume of its own: mount %s elsewhere." .mountPath .name) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "embedserve.validate.gpu" -}}
{{- $gpu := .Values.gpu }}
{{- $ofAll := dig "device" "auto" .Values.settings }}
{{- $devices := .Values.models | empty | ternary (list $ofAll) list }}{{ $precisions := .Values.models | empty | ternary (list .Values.model.precision) list }}
{{- range .Values.models }}
{{- $devices = append $devices (default $ofAll .device) }}{{ $precisions = append $precisions (default "" .precision) }}
{{- end }}
{{- if not $gpu.enabled }}
{{- range $devices }}
{{- if or (hasPrefix "cuda" .) (hasPrefix "tensorrt" .) }}
{{- fail (printf "the device %s is asked for, and pods get no GPU: set gpu.enabled=true." .) }}
{{- end }}
{{- end }}
{{- if has "fp16" $precisions }}
{{- fail "the precision fp16 is one for GPUs, and pods get none: set gpu.enabled=true, or fp32 or int8." }}
{{- end }}
{{- range $name := concat (keys (default dict .Values.resources.limits)) (keys (default dict .Values.resources.requests)) }}
{{- if or (contains "nvidia.com/" $name) (eq $gpu.resourceName $name) }}
{{- fail (printf "resources has %s: leave it out and set gpu.enabled=true (gpu.resourceName, gpu.count), which brings image, tolerations and shared memory." $name) }}
{{- end }}
{{- end }}
{{- if hasSuffix "-gpu" .Values.image.tag }}
{{- fail (printf "image.tag %s is that of GPUs, and pods get none: set gpu.enabled=true, or leave the tag out." .Values.image.tag) }}
{{- end }}
{{- else }}
{{- if without $devices "cpu" | empty }}
{{- fail "gpu.enabled, and the device of all models is cpu: the GPU would idle. Leave one of them out." }}
{{- end }}
{{- range $number, $device := $devices }}
{{- $precision := index $precisions $number }}
{{- if and (eq $precision "int8") (ne $device "cpu") }}
{{- fail "the precision int8 is one for CPUs, and gpu.enabled is set: take fp16 or fp32, or of `models` the device cpu for that one." }}
{{- else if and (eq $precision "fp16") (eq $device "cpu") }}
{{- fail "the precision fp16 is one for GPUs, and the device of that model is cpu: take fp32 or int8, or another device." }}
{{- end }}
{{- end }}
{{- if or (and (contains "cpu" .Values.image.tag) (not (contains "gpu" .Values.image.tag))) (eq .Values.image.tag .Chart.AppVersion) }}
{{- fail (printf "gpu.enabled, and image.tag %s is an image without CUDA: leave the tag out, or take %s-gpu." .Values.image.tag .Chart.AppVersion) }}
{{- end }}
{{- $numbers := list }}
{{- range without $devices "cpu" }}
{{- $number := regexFind "[0-9]+$" . | int }}{{ $numbers = append $numbers $number }}
{{- if ge $number (int $gpu.count) }}
{{- fail (printf "the device %s is asked for, and a pod has %d, counted from 0: raise gpu.count, or take another." . (int $gpu.count)) }}
{{- end }}
{{- end }}
{{- if and (gt (int $gpu.count) 1) (lt (len (uniq $numbers)) (int $gpu.count)) }}
{{- fail (printf "gpu.count is %d, one process serves one GPU, and the others would idle: set it to 1 and raise replicaCount, or give models a device each (cuda:0, cuda:1)." (int $gpu.count)) }}
{{- end }}
{{- range list "limits" "requests" }}
{{- if hasKey (get $.Values.resources . | default dict) $gpu.resourceName }}
{{- fail (printf "resources.%s has %s, and gpu.enabled is set as well: leave it to gpu.count." . $gpu.resourceName) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "embedserve.validate.access" -}}
{{- $auth := .Values.auth }}
{{- if not $auth.apiKeys.existingSecret }}
{{- range list "requests_per_minute" "tokens_per_minute" }}
{{- if get $.Values.settings . }}
{{- fail (printf "settings.%s is a limit for each key, and there are no keys: name a Secret in auth.apiKeys.existingSecret. (For one limit of all clients together set EMBEDSERVE_%s by extraEnv.)" . (upper .)) }}
{{- end }}
{{- end }}
{{- else if and (eq $auth.apiKeys.existingSecret $auth.adminKeys.existingSecret) (eq $auth.apiKeys.key $auth.adminKeys.key) }}
{{- fail "auth.apiKeys and auth.adminKeys are the same key of the same Secret, and no client's key may be an administrator's: give them a key each." }}
{{- end }}
{{- if gt (get .Values.settings "processes" | default 1 | int) 1 }}
{{- if get .Values.settings "model_dir" }}
{{- fail "settings.model_dir and settings.processes do not go together, as models would be loaded into one process alone: leave one of them out, or take more replicas." }}
{{- end }}
{{- if $auth.adminKeys.existingSecret }}
{{- fail "auth.adminKeys and settings.processes do not go together, as models would be loaded into one process alone: leave one of them out, or take more replicas." }}
{{- end }}
{{- end }}
{{- $origins := get .Values.settings "cors_origins" | default list }}
{{- if and (has "*" $origins) (gt (len $origins) 1) }}
{{- fail "settings.cors_origins has * beside others, and it stands for all: leave it or the others out." }}
{{- end }}
{{- if and .Values.tls.clientCA.existingSecret (not .Values.tls.existingSecret) }}
{{- fail "tls.clientCA asks clients for certificates, and the server has none itself: name a Secret in tls.existingSecret." }}
{{- end }}
{{- if and .Values.serviceAccount.annotations (not .Values.serviceAccount.create) }}
{{- fail "serviceAccount.annotations are for one that the chart makes: set serviceAccount.create=true, or annotate the one you named." }}
{{- end }}
{{- end }}

{{- define "embedserve.validate.network" -}}
{{- $host := dig "host" "0.0.0.0" .Values.settings }}
{{- if or (hasPrefix "127." $host) (has $host (list "localhost" "::1")) }}
{{- fail (printf "settings.host is %s, where neither probes nor Services reach a pod: leave it out, or take :: where pods have IPv6 addresses alone." $host) }}
{{- end }}
{{- if eq (int .Values.admin.port) (int .Values.service.containerPort) }}
{{- fail (printf "admin.port and service.containerPort are both %d: metrics and administration have a port of their own. Change one of them." (int .Values.admin.port)) }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
{{- fail "ingress.enabled, and ingress.hosts is empty: name a host, such as --set ingress.hosts[0].host=embed.example.org." }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- fail "httpRoute.enabled, and httpRoute.parentRefs is empty: name a gateway, such as --set httpRoute.parentRefs[0].name=gateway." }}
{{- end }}
{{- if and (hasPrefix "PreferSame" .Values.service.trafficDistribution) (semverCompare "<1.34.0-0" .Capabilities.KubeVersion.Version) }}
{{- fail (printf "service.trafficDistribution %s is there since Kubernetes 1.34, and this is %s: take PreferClose." .Values.service.trafficDistribution .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- end }}

{{- define "embedserve.validate.resources" -}}
{{- range list "cpu" "memory" "ephemeral-storage" }}
{{- $asked := dig "requests" . "" $.Values.resources }}{{ $most := dig "limits" . "" $.Values.resources }}
{{- if and $asked $most (gt (include "embedserve.quantity" $asked | float64) (include "embedserve.quantity" $most | float64)) }}
{{- fail (printf "resources: %v of %s is requested, and the limit is %v: lower the request or raise the limit." $asked . $most) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "embedserve.validate.lifetimes" -}}
{{- $drain := .Values.drain }}
{{- $needed := include "embedserve.leastGracePeriod" . | int }}
{{- if and (not (kindIs "invalid" $drain.terminationGracePeriodSeconds)) (lt (int $drain.terminationGracePeriodSeconds) $needed) }}
{{- fail (printf "drain.terminationGracePeriodSeconds %d is shorter than preStopSeconds (or lifecycle.preStop.sleep) + graceSeconds + timeoutSeconds + 5 = %d: requests in flight would be killed. Leave it out, or shorten the others." (int $drain.terminationGracePeriodSeconds) $needed) }}
{{- end }}
{{- $longest := get .Values.settings "request_timeout" | default 60 }}
{{- if gt (float64 $longest) (float64 $drain.timeoutSeconds) }}
{{- fail (printf "a request may take %vs (settings.request_timeout), and a drain waits %vs for it (drain.timeoutSeconds): it would be cut off. Raise drain.timeoutSeconds, or lower settings.request_timeout." $longest $drain.timeoutSeconds) }}
{{- end }}
{{- if and .Values.lifecycle (gt (float64 $drain.preStopSeconds) 0.0) }}
{{- fail "lifecycle and drain.preStopSeconds are both set, and a container has one preStop: put the wait into lifecycle, or leave that out." }}
{{- end }}
{{- $startup := mul .Values.probes.startup.periodSeconds .Values.probes.startup.failureThreshold }}
{{- if le (int .Values.progressDeadlineSeconds) (add $startup .Values.minReadySeconds | int) }}
{{- fail (printf "progressDeadlineSeconds %d is not longer than a start may take (probes.startup: %d s, and minReadySeconds): raise it." (int .Values.progressDeadlineSeconds) $startup) }}
{{- end }}
{{- end }}

{{/* Only where a cluster is asked: `helm template` finds nothing, not even what is in every namespace. */}}
{{- define "embedserve.validate.secrets" -}}
{{- $namespace := .Release.Namespace }}
{{- if and .Values.auth.checkSecrets (lookup "v1" "ConfigMap" $namespace "kube-root-ca.crt") }}
{{- $auth := .Values.auth }}{{ $tls := .Values.tls }}{{ $source := .Values.modelSource }}
{{- $wanted := list (list "auth.apiKeys" $auth.apiKeys.existingSecret $auth.apiKeys.key) (list "auth.adminKeys" $auth.adminKeys.existingSecret $auth.adminKeys.key) (list "tls" $tls.existingSecret "tls.crt") (list "tls" $tls.existingSecret "tls.key") (list "tls (or set monitoring.tlsConfig)" (include "embedserve.scrapesByCA" .) "ca.crt") (list "tls.clientCA" $tls.clientCA.existingSecret $tls.clientCA.key) (list "modelSource.download.tokenSecret" $source.download.tokenSecret.name $source.download.tokenSecret.key) (list "modelSource.s3" $source.s3.existingSecret "") (list "tracing.headers" .Values.tracing.headers.existingSecret .Values.tracing.headers.key) (list "test" .Values.test.existingSecret .Values.test.key) }}
{{- range $wanted }}
{{- $value := index . 0 }}{{ $name := index . 1 }}{{ $key := index . 2 }}
{{- if $name }}
{{- $secret := lookup "v1" "Secret" $namespace $name }}
{{- if not $secret }}
{{- fail (printf "%s names the Secret %s, and there is none in the namespace %s: make it first (auth.checkSecrets=false where the release makes it)." $value $name $namespace) }}
{{- else if and $key (not (hasKey (default dict $secret.data) $key)) }}
{{- fail (printf "%s: the Secret %s has no key %s, but %s: name the right one." $value $name $key (keys (default dict $secret.data) | sortAlpha | join ", ")) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
