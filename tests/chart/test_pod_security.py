"""The check of pods itself: a good pod passes it, and each way to break the standard is noticed."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.chart.pod_security import violations

GOOD: dict[str, Any] = {
    "metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/one": "runtime/default"}},
    "spec": {
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "one",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "ports": [{"containerPort": 8080}],
                "livenessProbe": {"httpGet": {"path": "/livez", "port": 8080}},
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "models", "image": {"reference": "models:1"}}],
    },
}
POD, ONE = ("spec",), ("spec", "containers", 0)
BROKEN: dict[str, tuple[tuple[str | int, ...], Any]] = {
    "host process": ((*ONE, "securityContext", "windowsOptions"), {"hostProcess": True}),
    "host namespaces": ((*POD, "hostPID"), True),
    "privileged": ((*ONE, "securityContext", "privileged"), True),
    "host ports": ((*ONE, "ports", 0, "hostPort"), 80),
    "host probes and hooks": ((*ONE, "livenessProbe", "httpGet", "host"), "10.0.0.1"),
    "AppArmor: the pod": ((*POD, "securityContext", "appArmorProfile"), {"type": "Unconfined"}),
    "AppArmor: container.apparmor": (
        ("metadata", "annotations", "container.apparmor.security.beta.kubernetes.io/one"),
        "unconfined",
    ),
    "SELinux": ((*POD, "securityContext", "seLinuxOptions"), {"user": "root"}),
    "/proc": ((*ONE, "securityContext", "procMount"), "Unmasked"),
    "sysctls": ((*POD, "securityContext", "sysctls"), [{"name": "kernel.msgmax", "value": "1"}]),
    "privilege escalation": ((*ONE, "securityContext", "allowPrivilegeEscalation"), None),
    "non-root: container one": ((*POD, "securityContext", "runAsNonRoot"), None),
    "non-root user": ((*ONE, "securityContext", "runAsUser"), 0),
    "seccomp": ((*POD, "securityContext", "seccompProfile"), None),
    "seccomp: container": ((*ONE, "securityContext", "seccompProfile"), {"type": "Unconfined"}),
    "capabilities": ((*ONE, "securityContext", "capabilities"), {"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
    "volume types: tmp": ((*POD, "volumes", 0), {"name": "tmp", "hostPath": {"path": "/"}}),
}


def test_a_pod_that_keeps_to_the_standard_passes() -> None:
    assert violations(GOOD, 33) == []


def test_volumes_of_images_are_refused_by_older_versions() -> None:
    assert violations(GOOD, 32) == ["volume types: models"]


@pytest.mark.parametrize("told", BROKEN)
def test_each_breach_is_noticed(told: str) -> None:
    (*path, last), value = BROKEN[told]
    template: Any = copy.deepcopy(GOOD)
    where = template
    for key in path:
        where = where[key]
    where[last] = value
    assert any(found.startswith(told) for found in violations(template, 33))


def test_init_containers_and_sidecars_count() -> None:
    template = copy.deepcopy(GOOD)
    template["spec"]["initContainers"] = [{"name": "bare"}]
    assert set(violations(template, 33)) == {
        "privilege escalation: container bare",
        "capabilities: container bare",
    }
