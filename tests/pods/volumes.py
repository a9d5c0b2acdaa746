"""A pod's volumes as folders of this machine, with the owners and modes that the kubelet gives them.

Rules: Kubernetes' documentation of volumes (ConfigMap, Secret and projected: links through `..data`, mode 0644 unless
told; emptyDir: mode 0777) and of fsGroup (volumes belong to that group, which may read, and write where they can be).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.pods.environment import expand, field
from tests.pods.objects import NotConfigured, Object, Objects, Unsupported
from tests.pods.quantities import number

_MODE = 0o644


class Volumes:
    """Those of one pod, by name. `claims` are folders in the place of PersistentVolumeClaims, by the claims' names."""

    def __init__(self, folder: Path, pod: Object, objects: Objects, claims: Mapping[str, Path]) -> None:
        """Raises NotConfigured where a ConfigMap, a Secret or a claim is missing."""
        self._folder, self._pod, self._objects, self._claims = folder, pod, objects, claims
        self._group = pod["spec"].get("securityContext", {}).get("fsGroup")
        self._mounted: list[Path] = []
        self._places = {volume["name"]: self._make(volume) for volume in pod["spec"].get("volumes", ())}

    def options(self, container: Object, variables: Mapping[str, str]) -> list[str]:
        """podman's, for the container's mounts."""
        return [option for mount in container.get("volumeMounts", ()) for option in self._mount(mount, variables)]

    def remove(self) -> None:
        """All but the claims."""
        for place in self._mounted:
            subprocess.run(["umount", str(place)], capture_output=True, check=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _mount(self, mount: Object, variables: Mapping[str, str]) -> list[str]:
        place, writable = self._places[mount["name"]]
        part = mount.get("subPath") or expand(mount.get("subPathExpr", ""), variables)
        source = (place / part).resolve() if part else place
        if writable and not source.exists():
            source.mkdir(parents=True)
        mode = "rw" if writable and not mount.get("readOnly") else "ro"
        return ["--volume", f"{source}:{mount['mountPath']}:{mode}"]

    def _make(self, volume: Object) -> tuple[Path, bool]:
        """Where it is, and whether it may be written."""
        name = volume["name"]
        ((kind, about),) = ((kind, about) for kind, about in volume.items() if kind != "name")
        place = self._folder / name
        if kind == "emptyDir":
            return self._empty(place, about or {}), True
        if kind == "persistentVolumeClaim":
            writable = not about.get("readOnly", False)
            return self._claim(about["claimName"], writable), writable
        place.mkdir(parents=True)
        self._write(place, self._files(kind, about, about.get("defaultMode", _MODE)))
        return place, False

    def _empty(self, place: Path, about: Object) -> Path:
        place.mkdir(parents=True)
        if about.get("medium") == "Memory":
            size = f"size={int(number(about['sizeLimit']))}" if "sizeLimit" in about else "size=50%"
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)], capture_output=True, check=True)
            self._mounted.append(place)
        elif about.get("medium"):
            raise Unsupported(f"emptyDir of {about['medium']}")
        place.chmod(0o777)
        self._give(place, 0o2070)
        return place

    def _claim(self, name: str, writable: bool) -> Path:
        if name not in self._claims:
            raise NotConfigured(f'persistentvolumeclaim "{name}" not found')
        for path in (self._claims[name], *self._claims[name].rglob("*")) if writable else ():
            self._give(path, 0o2070 if path.is_dir() else 0o060)
        return self._claims[name]

    def _files(self, kind: str, about: Object, mode: int) -> dict[str, tuple[str, int]]:
        """Text and mode by path."""
        if kind == "projected":
            parts = (part for source in about["sources"] for part in source.items())
            return {path: file for kind, part in parts for path, file in self._files(kind, part, mode).items()}
        if kind == "downwardAPI":
            return {one["path"]: (field(one["fieldRef"]["fieldPath"], self._pod), mode) for one in about["items"]}
        if kind not in ("configMap", "secret"):
            raise Unsupported(f"a volume of {kind}")
        named, name = ("ConfigMap", about["name"]) if kind == "configMap" else ("Secret", _secret(about))
        data = self._objects.data(named, name, about.get("optional", False))
        items = about.get("items") or [{"key": key, "path": key} for key in data]
        if missing := [item["key"] for item in items if item["key"] not in data]:
            raise NotConfigured(f"{named} {name} has no key {missing[0]}")
        return {item["path"]: (data[item["key"]], item.get("mode", mode)) for item in items}

    def _write(self, place: Path, files: Mapping[str, tuple[str, int]]) -> None:
        """As Kubernetes does it: a change of all files is the change of one link."""
        version = place / "..version"
        version.mkdir()
        (place / "..data").symlink_to(version.name)
        for path, (text, mode) in files.items():
            file = version / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
            file.chmod(mode)
            self._give(file, 0o040)
            link = place / Path(path).parts[0]
            if not link.is_symlink():
                link.symlink_to(Path("..data", link.name))

    def _give(self, path: Path, mode: int) -> None:
        """To the pod's group, with these modes added."""
        if self._group is not None:
            os.chown(path, -1, self._group)
            path.chmod(path.stat().st_mode | mode)


def _secret(about: Object) -> str:
    """A projected one is named as a ConfigMap is."""
    name: str = about.get("secretName") or about["name"]
    return name
