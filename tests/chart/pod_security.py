"""The Pod Security Standard "restricted", field by field, as the API server's admission checks it.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/, baseline and restricted together. Where
the page and the admission plugin differ, the plugin counts: it also allows volumes of images, since Kubernetes 1.33.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

Spec = Mapping[str, Any]
RUNTIME_PROFILES = ("RuntimeDefault", "Localhost")
VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
IMAGE_VOLUMES_SINCE = 33  # Kubernetes 1.33
SELINUX_TYPES = (None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_syncookies",
}
APPARMOR = "container.apparmor.security.beta.kubernetes.io/"


class Control(NamedTuple):
    """One row of the standard: whether a pod, and each of its containers, keeps it."""

    name: str
    of_pod: Callable[[Spec], bool]
    of_container: Callable[[Spec, Spec], bool]


def violations(template: Spec, minor: int) -> list[str]:
    """The controls that a pod template breaks on Kubernetes 1.`minor`, each with the name of what breaks it."""
    spec = template["spec"]
    found = [f"{control.name}: the pod" for control in CONTROLS if not control.of_pod(spec)]
    found += [
        f"{control.name}: container {container['name']}"
        for container in containers(spec)
        for control in CONTROLS
        if not control.of_container(container, spec)
    ]
    found += [f"volume types: {name}" for name in _bad_volumes(spec, minor)]
    notes = template.get("metadata", {}).get("annotations") or {}
    return found + [
        f"AppArmor: {key}" for key, value in notes.items() if key.startswith(APPARMOR) and not _profile(value)
    ]


def containers(spec: Spec) -> Iterator[Spec]:
    """All that run in a pod; sidecars are among the init containers."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(kind) or ()


def _bad_volumes(spec: Spec, minor: int) -> list[str]:
    allowed = VOLUMES | ({"image"} if minor >= IMAGE_VOLUMES_SINCE else set())
    return [volume["name"] for volume in spec.get("volumes") or () if not set(volume) & allowed or "hostPath" in volume]


def _profile(annotation: str) -> bool:
    return annotation == "runtime/default" or annotation.startswith("localhost/")


def _security(container: Spec) -> Spec:
    return container.get("securityContext") or {}


def _either(name: str) -> Callable[[Spec, Spec], Any]:
    """A container's own field, or else its pod's."""

    def find(container: Spec, spec: Spec) -> Any:
        own = _security(container).get(name)
        return _security(spec).get(name) if own is None else own

    return find


def _no_rule_of_pods(spec: Spec) -> bool:
    return True


def _no_rule_of_containers(container: Spec, spec: Spec) -> bool:
    return True


def _both(holds: Callable[[Spec], bool]) -> tuple[Callable[[Spec], bool], Callable[[Spec, Spec], bool]]:
    """The same of the security context of a pod and of every container."""
    return lambda spec: holds(_security(spec)), lambda container, spec: holds(_security(container))


def _no_host(container: Spec, spec: Spec) -> bool:
    probes = [container.get(f"{kind}Probe") or {} for kind in ("liveness", "readiness", "startup")]
    hooks = (container.get("lifecycle") or {}).values()
    actions = [probe.get(kind) or {} for probe in [*probes, *hooks] for kind in ("httpGet", "tcpSocket")]
    return not any(action.get("host") for action in actions)


def _capabilities(container: Spec) -> Spec:
    return _security(container).get("capabilities") or {}


def _type(context: Spec, name: str) -> Any:
    return (context.get(name) or {}).get("type")


CONTROLS = (
    Control("host process", *_both(lambda own: not (own.get("windowsOptions") or {}).get("hostProcess"))),
    Control(
        "host namespaces",
        lambda spec: not any(spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")),
        _no_rule_of_containers,
    ),
    Control("privileged", _no_rule_of_pods, lambda own, _: not _security(own).get("privileged")),
    Control(
        "host ports",
        _no_rule_of_pods,
        lambda own, _: not any(port.get("hostPort") for port in own.get("ports") or ()),
    ),
    Control("host probes and hooks", _no_rule_of_pods, _no_host),
    Control("AppArmor", *_both(lambda own: _type(own, "appArmorProfile") in (None, *RUNTIME_PROFILES))),
    Control(
        "SELinux",
        *_both(
            lambda own: (
                _type(own, "seLinuxOptions") in SELINUX_TYPES
                and not any((own.get("seLinuxOptions") or {}).get(name) for name in ("user", "role"))
            )
        ),
    ),
    Control("/proc", _no_rule_of_pods, lambda own, _: _security(own).get("procMount") in (None, "Default")),
    Control(
        "sysctls",
        lambda spec: {each["name"] for each in _security(spec).get("sysctls") or ()} <= SYSCTLS,
        _no_rule_of_containers,
    ),
    Control(
        "privilege escalation",
        _no_rule_of_pods,
        lambda own, _: _security(own).get("allowPrivilegeEscalation") is False,
    ),
    Control("non-root", _no_rule_of_pods, lambda own, spec: _either("runAsNonRoot")(own, spec) is True),
    Control("non-root user", *_both(lambda own: own.get("runAsUser") != 0)),
    Control(
        "seccomp",
        lambda spec: _type(_security(spec), "seccompProfile") in (None, *RUNTIME_PROFILES),
        lambda own, spec: (_either("seccompProfile")(own, spec) or {}).get("type") in RUNTIME_PROFILES,
    ),
    Control(
        "capabilities",
        _no_rule_of_pods,
        lambda own, _: (
            "ALL" in (_capabilities(own).get("drop") or ())
            and set(_capabilities(own).get("add") or ()) <= {"NET_BIND_SERVICE"}
        ),
    ),
)
