"""Every value of the chart is used, documented and checked."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart import readme
from tests.chart.conftest import Note
from tests.chart.helm import CHART, HELM4, KUBERNETES, Refused, Rendering
from tests.chart.matrix import EVERYTHING
from tests.chart.values_schema import (
    DEFAULTS,
    SCHEMA,
    another,
    at,
    leaves,
    listed,
    merged,
    nested,
    strict_objects,
    value_at,
)
from tests.chart.values_schema import (
    Path as ValuePath,
)

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

PEER = {"podSelector": {"matchLabels": {"app": "another"}}}
CONTAINER = {"name": "another", "image": "example.org/another:1"}
# Where another value is not plain to see from the schema.
OTHERS: dict[str, Any] = {
    "models": [{"model": "all-MiniLM-L6-v2"}],
    "settings": {"max_inputs": 7},
    "image.repository": "example.org/another",
    "gpu.count": 2,
    "drain.terminationGracePeriodSeconds": 600,
    "podDisruptionBudget.minAvailable": 1,
    "podSecurityContext": {"runAsUser": 10002},
    "securityContext": {"runAsUser": 10002},
    "resources": {"requests": {"memory": "128Mi"}},
    "loadtest.resources": {"requests": {"memory": "128Mi"}},
    "tracing.resourceAttributes": {"deployment.environment": "another"},
    "affinity": {"podAffinity": {}},
    "lifecycle": {"postStart": {"exec": {"command": ["true"]}}},
    "modelSource.s3.args": ["cp"],
    "modelSource.s3.command": ["s5cmd"],
    "autoscaling.keda.authenticationRef": {"name": "prometheus"},
    "autoscaling.behavior.scaleUp.policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
    "autoscaling.behavior.scaleDown.policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
    "autoscaling.hpa.extraMetrics": [],
    "monitoring.tlsConfig": {"insecureSkipVerify": True},
    "tolerations": [{"operator": "Exists"}],
    "gpu.tolerations": [{"operator": "Exists"}],
    "networkPolicy.apiFrom": [PEER],
    "networkPolicy.adminFrom": [PEER],
    "networkPolicy.egressPorts": [8443],
    "networkPolicy.extraEgress": [{"to": [PEER]}],
    "ingress.hosts": [{"host": "another.example.org"}],
    "ingress.tls": [{"secretName": "another"}],
    "httpRoute.parentRefs": [{"name": "another"}],
    "extraEnv": [{"name": "ANOTHER", "value": "1"}],
    "extraEnvFrom": [{"secretRef": {"name": "another"}}],
    "extraVolumes": [{"name": "another", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/another"}],
    "extraInitContainers": [CONTAINER],
    "extraContainers": [CONTAINER],
    "extraObjects": [],
}
# What the file of everything leaves out, because it does not go with the rest.
PVC = {"modelSource": {"type": "pvc", "pvc": {"claimName": "models"}}}
OCI = {"modelSource": {"type": "oci", "oci": {"reference": "example.org/models:1", "mode": "copy"}}}
S3 = {"modelSource": {"type": "s3", "s3": {"uri": "s3://models", "image": "example.org/aws:1"}}}
ELSEWHERE: tuple[dict[str, Any], ...] = (
    {},
    {**PVC, "model": {"name": "minilm"}},
    OCI,
    merged(OCI, {"modelSource": {"oci": {"mode": "volume"}}}),
    S3,
    {"tls": {"existingSecret": "certificate", "clientCA": {"existingSecret": "authority"}}},
    {"podDisruptionBudget": {"maxUnavailable": None, "minAvailable": 1}, "replicaCount": 3},
    {"autoscaling": {"keda": {"enabled": True, "serverAddress": "http://prometheus:9090"}}},
    {"monitoring": {"podMonitor": {"enabled": True}}},
    {"serviceAccount": {"create": False, "name": "another"}},
)
# Read only where a cluster is asked, which `helm template` never does.
NEEDS_A_CLUSTER = {"auth.checkSecrets"}


@cache
def bases() -> list[dict[str, Any]]:
    """Values to change one of: everything first, as most have their effect there."""
    return [yaml.safe_load(EVERYTHING.read_text("utf-8")), *ELSEWHERE]


def rendering(values: dict[str, Any]) -> str:
    """What is rendered; or the templates' own refusal, which is an effect as well."""
    try:
        return HELM4.render(Rendering(values=values, kubernetes=KUBERNETES[-1]))
    except Refused as refused:
        words = str(refused)
    if "don't meet the specifications of the schema" in words:
        raise AssertionError(words)
    return words


@cache
def plain(number: int) -> str:
    """The rendering of a base."""
    return rendering(bases()[number])


def other_values(path: ValuePath, base: dict[str, Any]) -> Any:
    """Another value than the one that it has on top of this base."""
    name = ".".join(path)
    said = value_at(base, path)
    return OTHERS[name] if name in OTHERS else another(value_at(DEFAULTS, path) if said is None else said, at(path))


def has_effect(path: ValuePath) -> bool:
    """Whether another value changes what is rendered from one of the bases."""
    for number, base in enumerate(bases()):
        changed = merged(base, nested(path, other_values(path, base)))
        if rendering(changed) != plain(number):
            return True
    return False


def test_every_value_has_an_effect(seen: Note) -> None:
    paths = [path for path in leaves() if ".".join(path) not in NEEDS_A_CLUSTER]
    HELM4.program()
    for number in range(len(bases())):
        assert plain(number).startswith("---"), plain(number)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        effects = dict(zip(paths, threads.map(has_effect, paths), strict=True))
    seen(f"{len(paths)} values: another one changes what is rendered, or is refused")
    assert len(paths) > 100
    assert [".".join(path) for path, effect in effects.items() if not effect] == []


def test_what_needs_a_cluster_is_asked_for_by_a_template() -> None:
    templates = "".join(file.read_text("utf-8") for file in (CHART / "templates").rglob("*.*"))
    assert all(f".Values.{name}" in templates for name in NEEDS_A_CLUSTER)


def test_every_value_is_in_the_schema_with_words() -> None:
    assert [".".join(path) for path in leaves() if not at(path).get("description")] == []


def test_every_value_of_the_schema_is_there() -> None:
    there = set(leaves())
    missing = [path for path in listed() if not any(path[:length] in there for length in range(1, len(path) + 1))]
    assert missing == [("global",), ("enabled",)]  # of charts that this one is a part of


def test_the_schema_refuses_what_it_does_not_name() -> None:
    assert [where for where, strict in strict_objects(SCHEMA) if not strict] == []


def test_the_readme_says_what_the_values_say() -> None:
    written = readme.README.read_text("utf-8")
    assert readme.generated() == written, "make chart-docs writes it anew"


def test_a_value_without_a_word_is_noticed(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(f"{readme.VALUES.read_text('utf-8')}\nsilent: 1\n")
    with pytest.raises(readme.Undocumented, match="silent"):
        readme.generated(values)
