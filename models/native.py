"""The native route: a checkpoint's weights → a graph, by the builder of its model type."""

from __future__ import annotations

from collections.abc import Mapping

from models import classifier, heads, splade
from models.checkpoint import Checkpoint
from models.descriptions import refused
from models.families import distilbert, electra, gte, modernbert, mpnet, nomic_bert, roberta
from models.families.bert import read_config
from models.families.family import Family, refuse_foreign_code
from models.families.relatives import relative
from models.graph import Graph
from models.weights import Array, Weights, read_weights, weight_files
from service.bundle import Task
from service.errors import CheckpointError

FAMILIES: dict[str, Family] = {
    "bert": relative(read_config, "bert."),
    "roberta": roberta.FAMILY,
    "xlm-roberta": roberta.FAMILY,
    "camembert": roberta.FAMILY,
    "distilbert": distilbert.FAMILY,
    "electra": electra.FAMILY,
    "mpnet": mpnet.FAMILY,
    "modernbert": modernbert.FAMILY,
    "nomic_bert": nomic_bert.FAMILY,
    "gte": gte.FAMILY,
    "new": gte.FAMILY,
}
"""config.json's model_type → how it is built. A new family is one file and one entry."""

_LOADERS: Mapping[Task, str] = {"score": "AutoModelForSequenceClassification", "sparse": "AutoModelForMaskedLM"}
"""What transformers loads the whole model by, where that is more than an encoder."""


def build(checkpoint: Checkpoint) -> Graph:
    """The whole graph, from token ids to the sentence vector. Raises CheckpointError."""
    graph = Graph()
    if checkpoint.classifier is not None and checkpoint.classifier.has_segments:
        graph.input("token_type_ids")
    weights = _weights(checkpoint)
    _finish(graph, family_of(checkpoint).build(graph, checkpoint.config, weights), checkpoint, weights)
    return graph


def build_int8(checkpoint: Checkpoint, peaks: Mapping[str, Array]) -> Graph:
    """The same graph with the matrices of its layers in 8 bits. Raises CheckpointError."""
    builder = family_of(checkpoint).build_int8
    if builder is None:
        raise CheckpointError(
            f"model_type {checkpoint.config['model_type']!r} has no int8 graph", "leave --precision out"
        )
    graph = Graph()
    weights = _weights(checkpoint)
    _finish(graph, builder(graph, checkpoint.config, weights, peaks), checkpoint, weights)
    return graph


def family_of(checkpoint: Checkpoint) -> Family:
    """Raises CheckpointError where no family is known by that name."""
    model_type = checkpoint.config.get("model_type")
    if checkpoint.config.get("is_causal"):
        raise refused(
            "config.json",
            "is_causal hides from each token what follows it, and the graphs built from weights look both ways",
            "compile its authors' ONNX file with --route onnx",
        )
    if family := FAMILIES.get(str(model_type)):
        if not family.knows_its_code and checkpoint.task in _LOADERS:
            refuse_foreign_code(checkpoint.config, _LOADERS[checkpoint.task])
        return family
    raise CheckpointError(
        f"model_type {model_type!r} cannot be built from its weights ({', '.join(FAMILIES)} can)",
        "put an ONNX export of the encoder into the folder as onnx/model.onnx and compile with --route onnx",
    )


def _finish(graph: Graph, hidden: str, checkpoint: Checkpoint, weights: Weights) -> None:
    if checkpoint.task == "sparse":
        splade.append(graph, hidden, "attention_mask", checkpoint, weights)
    elif checkpoint.classifier is not None:
        classifier.append(graph, hidden, "attention_mask", checkpoint, checkpoint.classifier, weights)
    else:
        heads.append(graph, hidden, "attention_mask", checkpoint)


def _weights(checkpoint: Checkpoint) -> Weights:
    return read_weights(weight_files(checkpoint.folder))
