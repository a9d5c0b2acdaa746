"""What KServe makes of a runtime and an InferenceService, as far as the container sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "kserve"
RUNTIME = "clusterservingruntime.yaml"
MODELS = "/mnt/models"
"""Where the storage initializer puts what storageUri names."""

Document = dict[str, Any]


def document(name: str) -> Document:
    """A file's one document."""
    found: Document = yaml.safe_load((FOLDER / name).read_text("utf-8"))
    return found


def services() -> dict[str, Document]:
    """Every InferenceService, by its file's name."""
    return {path.name: document(path.name) for path in sorted(FOLDER.glob("inferenceservice*.yaml"))}


def container(runtime: Document, service: Document) -> Document:
    """The runtime's, with the service's name in the placeholders and the arguments of its model behind its own."""
    [template] = runtime["spec"]["containers"]
    text = json.dumps(template).replace("{{.Name}}", service["metadata"]["name"])
    made: Document = json.loads(text.replace("{{.Namespace}}", "default"))
    model = service["spec"]["predictor"]["model"]
    made["args"] += model.get("args", [])
    made["env"] = [*made.get("env", []), *model.get("env", [])]
    return made
