"""What was rendered, as the API server would hold it: found by kind and name, and a workload's pods made of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]


class NotConfigured(Exception):
    """A container that cannot be created: what it refers to is not there. The kubelet tries again later."""


class Unsupported(Exception):
    """The manifest asks for something that this test kubelet does not know."""


class Objects:
    """The objects of one namespace."""

    def __init__(self, documents: Iterable[Object]) -> None:
        self.all = list(documents)

    def of_kind(self, kind: str) -> list[Object]:
        """In the order they were rendered in."""
        return [one for one in self.all if one["kind"] == kind]

    def find(self, kind: str, name: str) -> Object | None:
        """The one of that name."""
        return next((one for one in self.of_kind(kind) if one["metadata"]["name"] == name), None)

    def workload(self) -> Object:
        """The only Deployment, or StatefulSet."""
        (found,) = [*self.of_kind("Deployment"), *self.of_kind("StatefulSet")]
        return found

    def data(self, kind: str, name: str, optional: bool = False) -> dict[str, str]:
        """Of a ConfigMap or Secret, as text. Raises NotConfigured where it is missing, unless that is allowed."""
        found = self.find(kind, name)
        if found is None:
            if optional:
                return {}
            raise NotConfigured(f'{kind.lower()} "{name}" not found')
        if found.get("data") and kind == "Secret":
            raise Unsupported("data of a Secret: write stringData")
        return {**(found.get("data") or {}), **(found.get("stringData") or {})}
