"""deploy/kustomize: its base from the chart (python -m tests.deploy.kustomize writes it), and what is built of it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.chart.helm import HELM4, KUBERNETES, Document, Rendering, parse

FOLDER = Path(__file__).parents[2] / "deploy" / "kustomize"
BASE = FOLDER / "base"
OVERLAYS = sorted(path.parent for path in FOLDER.glob("overlays/*/kustomization.yaml"))
_HEADER = "# Written by `make kustomize` from helm/embedserve: change that.\n"
# What is Helm's own, of the release's, or made by kustomize instead.
_HELMS = ("helm.sh/chart", "app.kubernetes.io/managed-by", "checksum/config")


def files() -> dict[str, str]:
    """Those of the base that are written, by name, as the chart has them now."""
    what = Rendering(release="embedserve", kubernetes=KUBERNETES[0], apis=(), extra=("--no-hooks",))
    found = [_without_helm(document) for document in HELM4.documents(what)]
    [settings] = [document["data"]["embedserve.toml"] for document in found if document["kind"] == "ConfigMap"]
    objects = [document for document in found if document["kind"] != "ConfigMap"]
    text = yaml.safe_dump_all(objects, sort_keys=False, width=120, allow_unicode=True)
    return {"objects.yaml": _HEADER + text, "embedserve.toml": _HEADER + settings}


def _without_helm(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_helm(one) for one in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _without_helm(one) for key, one in value.items() if key not in _HELMS}
    if "metadata" in kept:
        kept["metadata"].pop("namespace", None)
    return kept


def build(folder: Path) -> list[Document]:
    """`kubectl kustomize`, which needs no cluster. Raises CalledProcessError."""
    done = subprocess.run(
        [HELM4.kubectl(), "kustomize", folder], capture_output=True, text=True, timeout=120, check=True
    )
    return parse(done.stdout)


if __name__ == "__main__":
    for name, text in files().items():
        (BASE / name).write_text(text, "utf-8")
