"""Values that contradict each other, or that the schema does not know: both Helms refuse them and say what to do."""

from __future__ import annotations

import pytest

import service
from tests.chart.helm import HELMS, Helm, Refused, Rendering, Values

pytestmark = pytest.mark.heavy

TWO_GPUS = [{"model": "a", "device": "cuda:0", "name": "a"}, {"model": "b", "device": "tensorrt:1", "name": "b"}]
ON_CPU = {"model": "a", "name": "a", "device": "cpu"}
NO_PLACES = ("c:4318?x=1", "c:4318/v1#x", "c:99999", "c:0", "c d:4318", "user:password@c:4318", ":4318", "[::1")
MEMORY = {"name": "memory", "emptyDir": {"medium": "Memory"}}
KEY_FILE = {"name": "EMBEDSERVE_API_KEY_FILE", "value": "/secrets/keys"}
AT_KEYS = {"name": "memory", "mountPath": "/etc/embedserve/keys"}
AT_SHM = {"name": "memory", "mountPath": "/dev/shm"}
# Values, and words of the refusal that are the remedy, or name what is wrong where the schema speaks.
BAD: tuple[tuple[Values, str], ...] = (
    ({"autoscaling": {"hpa": {"enabled": True}, "keda": {"enabled": True}}}, "disable one"),
    ({"autoscaling": {"hpa": {"enabled": True, "minReplicas": 20}}}, "maxReplicas"),
    ({"strategy": {"maxSurge": 0}}, "raise maxSurge"),
    ({"strategy": {"maxSurge": "0%", "maxUnavailable": "0%"}}, "raise maxSurge"),
    ({"podDisruptionBudget": {"maxUnavailable": 0}}, "drained"),
    ({"podDisruptionBudget": {"maxUnavailable": "0%"}}, "drained"),
    ({"podDisruptionBudget": {"minAvailable": 1}}, "null"),
    ({"podDisruptionBudget": {"minAvailable": 2, "maxUnavailable": None}}, "keeps all"),
    ({"podDisruptionBudget": {"minAvailable": "51%", "maxUnavailable": None}}, "keeps all"),
    ({"podDisruptionBudget": {"minAvailable": "100%", "maxUnavailable": None}, "replicaCount": 20}, "keeps all"),
    ({"podDisruptionBudget": {"maxUnavailable": None}}, "neither"),
    ({"modelSource": {"oci": {"reference": "x"}}}, "one source"),
    ({"modelSource": {"type": "pvc"}}, "claimName is empty"),
    ({"modelSource": {"type": "oci"}}, "reference is empty"),
    ({"modelSource": {"type": "s3", "s3": {"uri": "s3://a/b"}}}, "image is empty"),
    ({"modelSource": {"type": "pvc", "pvc": {"claimName": "c"}, "s3": {"uri": "s3://x"}}}, "one source"),
    ({"modelSource": {"type": "oci", "oci": {"reference": "c", "path": "/", "mode": "copy"}}}, "folder of it"),
    ({"networkPolicy": {"egressPorts": []}}, "egressPorts"),
    ({"networkPolicy": {"adminFrom": []}}, "adminFrom"),
    ({"networkPolicy": {"adminFrom": None}}, "adminFrom"),
    ({"networkPolicy": {"enabled": None}}, "enabled"),
    ({"podLabels": None}, "podLabels"),
    ({"replicaCount": None}, "replicaCount"),
    ({"drain": {"graceSeconds": None}}, "graceSeconds"),
    ({"image": {"repository": None}}, "repository"),
    ({"autoscaling": {"targets": None}}, "targets"),
    ({"image": {"repository": "registry.example.org:5000/embedserve:0.1.0"}}, "repository"),
    ({"model": {"name": "./x"}}, "is a path"),
    ({"model": {"name": "gs://a/b"}, "modelSource": {"type": "image"}}, "modelSource.type=download"),
    ({"models": [{"model": "s3://a/b"}]}, "modelSource.s3.uri"),
    ({"models": [{"model": "gs://a/b", "name": "x", "load_at_start": False}]}, "at the start alone"),
    ({"models": [{"model": "a", "name": "x"}], "model": {"name": "x"}}, "model.name"),
    ({"models": [{"model": "a", "name": "x", "load_at_start": False}]}, "adminKeys"),
    ({"models": [{"model": "a", "load_at_start": False}]}, "no name"),
    (
        {
            "models": [{"model": "a", "name": "x", "load_at_start": False}],
            "auth": {"adminKeys": {"existingSecret": "a"}},
        },
        "none is loaded",
    ),
    ({"models": [{"model": "a", "name": "x"}, {"model": "b", "aliases": ["x"]}]}, "given twice"),
    ({"models": [{"model": "a", "executors": 2}]}, "executors"),
    ({"models": [{"name": "a"}]}, "model"),
    ({"settings": {"port": 1}}, "containerPort"),
    ({"settings": {"api_keys": ["a"]}}, "from a Secret"),
    ({"settings": {"max_batch": 1}}, "max_batch"),
    ({"settings": {"health_route": "/health"}}, "health_route"),
    ({"settings": {"health_route": "health"}}, "health_route"),
    ({"settings": {"predict_route": "/predict"}}, "predict_route"),
    ({"settings": {"predict_route": "/{name}"}}, "predict_route"),
    ({"settings": {"cors_origins": ["example.org"]}}, "cors_origins"),
    ({"settings": {"cors_origins": ["*", "https://example.org"]}}, "stands for all"),
    ({"settings": {"device": "gpu"}}, "device"),
    ({"models": [{"model": "a", "device": "cuda:x"}], "gpu": {"enabled": True}}, "device"),
    ({"extraEnv": [{"name": "EMBEDSERVE_PORT", "value": "1"}]}, "use service.containerPort"),
    ({"extraEnv": [{"name": "EMBEDSERVE_REQUEST_TIMEOUT", "value": "600"}]}, "use settings.request_timeout"),
    ({"extraEnv": [{"name": "EMBEDSERVE_ADMIN_HOST", "value": "127.0.0.1"}]}, "use settings.host"),
    ({"extraEnv": [{"name": "AIP_HEALTH_ROUTE", "value": "/a"}]}, "use settings.health_route"),
    ({"extraEnv": [{"name": "EMBEDSERVE_TLS_CERTIFICATE", "value": "/a"}]}, "use tls.existingSecret"),
    ({"settings": {"host": "127.0.0.1"}}, "take :: where"),
    ({"settings": {"host": "::1"}}, "take :: where"),
    ({"extraEnv": [{"name": "A"}, {"name": "A"}]}, "leave one of them out"),
    ({"extraEnv": [{"name": "EMBEDSERVE_API_KEYS", "value": "secret"}]}, "name a Secret in auth.apiKeys"),
    ({"extraVolumes": [{"name": "cache", "emptyDir": {}}]}, "give it another"),
    ({"extraVolumeMounts": [{"name": "keys", "mountPath": "/a"}]}, "add it there"),
    ({"extraVolumeMounts": [{"name": "tmp", "mountPath": "/cache/"}]}, "mount tmp elsewhere"),
    ({"extraVolumes": [MEMORY], "extraVolumeMounts": [AT_KEYS]}, "mount memory elsewhere"),
    (
        {"auth": {"apiKeys": {"existingSecret": "keys"}}, "extraEnv": [KEY_FILE]},
        "wins over the Secret of auth.apiKeys",
    ),
    ({"extraVolumes": [MEMORY], "extraVolumeMounts": [AT_SHM], "gpu": {"enabled": True}}, "mount memory elsewhere"),
    ({"fullnameOverride": "1st"}, "fullnameOverride"),
    ({"podLabels": {"app.kubernetes.io/name": "mine"}}, "leave it out of commonLabels"),
    ({"nameOverride": "a.b"}, "set fullnameOverride"),
    ({"settings": {"device": "cuda"}}, "gpu.enabled=true"),
    ({"models": [{"model": "a", "device": "tensorrt:0"}]}, "gpu.enabled=true"),
    ({"model": {"precision": "fp16"}}, "gpu.enabled=true"),
    ({"resources": {"limits": {"nvidia.com/gpu": 1}}}, "gpu.enabled=true"),
    ({"resources": {"limits": {"nvidia.com/mig-1g.10gb": 1}}}, "gpu.enabled=true"),
    ({"resources": {"limits": {"nvidia.com/gpu": 1}}, "gpu": {"enabled": True}}, "gpu.count"),
    ({"image": {"tag": "0.1.0-gpu"}}, "gpu.enabled=true"),
    ({"image": {"tag": service.__version__}, "gpu": {"enabled": True}}, "without CUDA"),
    ({"image": {"tag": "x-cpu"}, "gpu": {"enabled": True}}, "without CUDA"),
    ({"gpu": {"enabled": True}, "settings": {"device": "cpu"}}, "idle"),
    ({"gpu": {"enabled": True}, "models": [{"model": "a", "device": "cpu"}]}, "idle"),
    ({"gpu": {"enabled": True}, "settings": {"device": "cpu"}, "models": [{"model": "a"}]}, "idle"),
    ({"gpu": {"enabled": True}, "model": {"precision": "int8"}}, "fp16"),
    ({"gpu": {"enabled": True}, "models": [ON_CPU | {"precision": "fp16"}, {"model": "b"}]}, "fp32 or int8"),
    ({"gpu": {"enabled": True}, "models": [ON_CPU, {"model": "b", "precision": "int8"}]}, "fp16 or fp32"),
    ({"gpu": {"enabled": True, "count": 2}}, "one GPU"),
    ({"gpu": {"enabled": True, "count": 0}}, "count"),
    ({"gpu": {"enabled": True, "count": 3}, "models": TWO_GPUS}, "others would idle"),
    ({"gpu": {"enabled": True}, "models": TWO_GPUS}, "counted from 0"),
    ({"gpu": {"enabled": True}, "settings": {"device": "cuda:3"}}, "counted from 0"),
    (
        {
            "gpu": {"enabled": True},
            "models": [
                {"model": "a", "device": "cuda:0", "name": "a"},
                {"model": "b", "device": "cuda:1", "name": "b"},
            ],
        },
        "raise gpu.count",
    ),
    (
        {
            "monitoring": {"interval": "60s", "serviceMonitor": {"enabled": True}},
            "autoscaling": {"hpa": {"enabled": True}},
        },
        "interval",
    ),
    ({"settings": {"requests_per_minute": 5}}, "apiKeys"),
    ({"settings": {"processes": 2}, "auth": {"adminKeys": {"existingSecret": "a"}}}, "one process alone"),
    ({"settings": {"processes": 2, "model_dir": "/models"}}, "one process alone"),
    (
        {"auth": {"apiKeys": {"existingSecret": "a", "key": "k"}, "adminKeys": {"existingSecret": "a", "key": "k"}}},
        "a key each",
    ),
    ({"tls": {"clientCA": {"existingSecret": "a"}}}, "tls.existingSecret"),
    *(({"tracing": {"endpoint": f"http://{place}"}}, "endpoint") for place in NO_PLACES),
    ({"modelSource": {"download": {"endpoint": "https://hub:99999"}}}, "endpoint"),
    ({"modelSource": {"download": {"endpoint": "https://user:password@hub"}}}, "endpoint"),
    ({"serviceAccount": {"create": False, "annotations": {"a": "b"}}}, "create=true"),
    ({"admin": {"port": 8080}}, "Change one"),
    ({"admin": {"port": 80}}, "port"),
    ({"ingress": {"enabled": True}}, "name a host"),
    ({"httpRoute": {"enabled": True}}, "name a gateway"),
    ({"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1500Mi"}}}, "raise the limit"),
    ({"resources": {"requests": {"cpu": "2500m"}}}, "raise the limit"),
    ({"drain": {"terminationGracePeriodSeconds": 60}}, "= 75"),
    ({"drain": {"terminationGracePeriodSeconds": 80}, "lifecycle": {"preStop": {"sleep": {"seconds": 6}}}}, "= 81"),
    ({"drain": {"timeoutSeconds": 30}}, "Raise drain.timeoutSeconds"),
    ({"settings": {"request_timeout": 120}}, "Raise drain.timeoutSeconds"),
    ({"drain": {"preStopSeconds": 5}, "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}, "one preStop"),
    ({"progressDeadlineSeconds": 600}, "raise it"),
    ({"auth": {"apiKeys": {"existingSecret": "Has Space"}}}, "existingSecret"),
    ({"image": {"digest": "sha256:12"}}, "digest"),
    ({"resources": None}, "resources"),
    ({"extraEnv": [{"name": "WORKERS", "value": 4}]}, "extraEnv"),
    ({"podLabels": {"team search": "yes"}}, "team search"),
    ({"commonLabels": {"team": "search and more"}}, "commonLabels"),
    ({"monitoring": {"labels": {"release": "kube prometheus stack"}}}, "labels"),
    ({"monitoring": {"dashboard": {"labels": {"a": "b c"}}}}, "labels"),
    ({"monitoring": {"prometheusRule": {"runbookUrl": "https://wiki/page#own"}}}, "runbookUrl"),
    ({"loadtest": {"nodeSelector": {"a": "b c"}}}, "nodeSelector"),
    ({"extraEnv": [{"name": "A=B", "value": "c"}]}, "extraEnv"),
    ({"extraEnv": [{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "c"}}}]}, "extraEnv"),
    ({"extraEnv": [{"name": "A", "valueFrom": {}}]}, "extraEnv"),
    ({"ingress": {"enabled": True, "hosts": [{"host": "http://x/y"}]}}, "host"),
    ({"httpRoute": {"hostnames": ["http://x"]}}, "hostnames"),
    ({"strategy": {"maxUnavailable": "150%"}}, "maxUnavailable"),
    ({"networkPolicy": {"apiFrom": [{"podSelector": {"app": "x"}}]}}, "podSelector"),
    ({"networkPolicy": {"adminFrom": [{"ipBlock": {"cdir": "10.0.0.0/8"}}]}}, "ipBlock"),
    ({"autoscaling": {"keda": {"authenticationRef": {"kind": "TriggerAuthentication"}}}}, "authenticationRef"),
    ({"podAnnotations": {"two words": "yes"}}, "two words"),
    ({"modelSource": {"type": "pvc", "pvc": {"claimName": "c", "subPath": "a/../../b"}}}, "subPath"),
)
# Beside those refused, and right.
GOOD: tuple[Values, ...] = (
    {},
    {"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}},
    {"podDisruptionBudget": {"minAvailable": "50%", "maxUnavailable": None}, "replicaCount": 4},
    {"drain": {"terminationGracePeriodSeconds": 75}},
    {"drain": {"graceSeconds": 2.5}},
    {"drain": {"timeoutSeconds": 30}, "settings": {"request_timeout": 30}},
    {"image": {"repository": "registry.example.org:5000/team/embedserve"}},
    {"resources": {"limits": None}},
    {"gpu": {"enabled": True, "count": 2}, "models": TWO_GPUS},
    {"gpu": {"enabled": True, "count": 2}, "models": [{"model": "a", "name": "a"}, TWO_GPUS[1]]},
    {"gpu": {"enabled": True, "count": 2}, "models": [{"model": "a", "name": "a", "device": "auto"}, TWO_GPUS[1]]},
    {"gpu": {"enabled": True}, "models": [ON_CPU, {"model": "b", "name": "b"}]},
    {"auth": {"adminKeys": {"existingSecret": "keys"}}, "extraEnv": [KEY_FILE]},
    {"gpu": {"enabled": True}, "models": [ON_CPU | {"precision": "int8"}, {"model": "b", "precision": "fp16"}]},
    {"gpu": {"enabled": True}, "settings": {"device": "cuda"}, "image": {"tag": "main-cpupool-gpu"}},
    {"resources": {"limits": {"cpu": None}}},
    {"resources": {"limits": {"cpu": None}, "requests": {"cpu": "3500m"}}},
    {"podSecurityContext": {"runAsUser": None}},
    {"replicaCount": 0},
    {"strategy": {"maxSurge": "150%", "maxUnavailable": "100%"}},
    {"ingress": {"enabled": True, "hosts": [{"host": "*.example.org"}]}},
    {
        "networkPolicy": {
            "apiFrom": [{"podSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]
        }
    },
    {"settings": {"host": "::"}},
    {"extraVolumes": [MEMORY], "extraVolumeMounts": [AT_SHM, {"name": "tmp", "mountPath": "/var/tmp"}]},
    {
        "tracing": {"endpoint": "http://[fd00::1]:65535/otlp"},
        "modelSource": {"download": {"endpoint": "https://hub/a"}},
    },
    {"settings": {"cors_origins": ["*"], "health_route": "/healthy", "predict_route": "/v1/mine:predict"}},
)


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
@pytest.mark.parametrize(("values", "words"), BAD, ids=str)
def test_refused(values: Values, words: str, helm: Helm) -> None:
    with pytest.raises(Refused) as refusal:
        helm.render(Rendering(values=values))
    assert words in str(refusal.value)


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
@pytest.mark.parametrize("values", GOOD, ids=str)
def test_taken(values: Values, helm: Helm) -> None:
    helm.render(Rendering(values=values))
