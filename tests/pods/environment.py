"""A container's environment, as the kubelet makes it: Services' variables, envFrom, env, and $(NAME) within them.

Rules: Kubernetes' documentation, "Define Dependent Environment Variables" ($$ is a dollar; what is not defined stays as
it is written) and "Service: Discovering services: Environment variables".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.pods.objects import NotConfigured, Object, Objects, Unsupported
from tests.pods.quantities import number

_REFERENCE = re.compile(r"\$\$|\$\(([^()]+)\)")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """With the variables that are defined in the place of their references."""

    def replaced(found: re.Match[str]) -> str:
        return "$" if found[1] is None else variables.get(found[1], found[0])

    return _REFERENCE.sub(replaced, text)


def environment(container: Object, pod: Object, objects: Objects) -> dict[str, str]:
    """`pod` has its name, its address (status.podIP) and its spec. Raises NotConfigured."""
    variables = _of_services(objects) if pod["spec"].get("enableServiceLinks", True) else {}
    for source in container.get("envFrom", ()):
        variables |= _all_of(source, objects)
    for one in container.get("env", ()):
        if (value := _value(one, container, pod, objects)) is not None:
            variables[one["name"]] = expand(value, variables)
    return variables


def _of_services(objects: Objects) -> dict[str, str]:
    """A Service named embedserve makes EMBEDSERVE_PORT, of all names."""
    variables: dict[str, str] = {}
    for service in objects.of_kind("Service"):
        address = service["spec"].get("clusterIP", "10.96.0.10")
        if address == "None":
            continue
        name = service["metadata"]["name"].upper().replace("-", "_")
        ports = service["spec"]["ports"]
        variables |= {f"{name}_SERVICE_HOST": address, f"{name}_SERVICE_PORT": str(ports[0]["port"])}
        variables[f"{name}_PORT"] = f"tcp://{address}:{ports[0]['port']}"
        for port in ports:
            if "name" in port:
                variables[f"{name}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
            whole = f"{name}_PORT_{port['port']}_TCP"
            variables |= {whole: f"tcp://{address}:{port['port']}", f"{whole}_PORT": str(port["port"])}
            variables |= {f"{whole}_PROTO": "tcp", f"{whole}_ADDR": address}
    return variables


def _all_of(source: Object, objects: Objects) -> dict[str, str]:
    kind, reference = (
        ("ConfigMap", source["configMapRef"]) if "configMapRef" in source else ("Secret", source["secretRef"])
    )
    data = objects.data(kind, reference["name"], reference.get("optional", False))
    return {f"{source.get('prefix', '')}{name}": value for name, value in data.items()}


def _value(one: Object, container: Object, pod: Object, objects: Objects) -> str | None:
    """None for what is optional and missing."""
    source = one.get("valueFrom")
    if source is None:
        return str(one.get("value", ""))
    ((kind, reference),) = source.items()
    if kind in ("configMapKeyRef", "secretKeyRef"):
        return _key(kind, reference, objects)
    if kind == "fieldRef":
        return field(reference["fieldPath"], pod)
    if kind == "resourceFieldRef":
        return _resource(reference, container)
    raise Unsupported(f"env from {kind}")


def _key(kind: str, reference: Object, objects: Objects) -> str | None:
    named = "ConfigMap" if kind == "configMapKeyRef" else "Secret"
    optional = reference.get("optional", False)
    data = objects.data(named, reference["name"], optional)
    if reference["key"] not in data and not optional:
        raise NotConfigured(f"couldn't find key {reference['key']} in {named} {reference['name']}")
    return data.get(reference["key"])


def field(path: str, pod: Object) -> str:
    """A field of the pod, as `metadata.labels['app']`, or `status.podIP`."""
    found: Any = pod
    for part in re.findall(r"[A-Za-z]+|\['[^']+'\]", path):
        found = found[part.strip("[']")]
    return str(found)


def _resource(reference: Object, container: Object) -> str:
    bound, _, name = reference["resource"].partition(".")
    amount = number(container["resources"][bound][name])
    return str(int(-(-amount // number(reference.get("divisor", "1")))))
