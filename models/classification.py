"""Checkpoints that give scores instead of vectors: cross-encoders, and other classifiers of texts or pairs of texts.

The files are those of transformers (config.json: architectures, id2label, problem_type) and of sentence-transformers'
CrossEncoder: up to version 3 config.json's sbert_ce_default_activation_function, from 4 on its
sentence_transformers.activation_fn, from 6 on modules.json with config_sentence_transformers.json's activation_fn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.descriptions import refused
from service.bundle import Activation

_ARCHITECTURE = "ForSequenceClassification"
_ACTIVATIONS: dict[str, Activation] = {"Identity": "identity", "Sigmoid": "sigmoid"}
_KNOWN = "Identity and Sigmoid are"


@dataclass(frozen=True)
class Classifier:
    """`labels` in the order of the logits; `activation` as the model's authors apply it, `probabilities` as one that
    gives values between 0 and 1. `has_segments` says that the model is told which tokens are a second text's."""

    labels: tuple[str, ...]
    activation: Activation
    probabilities: Activation
    has_segments: bool


def is_classifier(config: Mapping[str, Any]) -> bool:
    """Whether an encoder's config.json says that its weights end in logits."""
    return any(str(one).endswith(_ARCHITECTURE) for one in config.get("architectures") or ())


def read_classifier(
    folder: Path, config: Mapping[str, Any], saved: Mapping[str, Any], *, has_segments: bool
) -> Classifier:
    """`saved` is config_sentence_transformers.json, empty where there is none. Raises CheckpointError."""
    labels = _labels(folder, config)
    has_shares = len(labels) > 1 and config.get("problem_type") != "multi_label_classification"
    activation = _activation(folder, config, saved, labels)
    return Classifier(labels, activation, "softmax" if has_shares else "sigmoid", has_segments)


def _labels(folder: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    """As transformers: two where config.json names none."""
    names = config.get("id2label")
    if names is None:
        count = config.get("num_labels", 2)
        return tuple(f"LABEL_{i}" for i in range(count if isinstance(count, int) and count > 0 else 2))
    if not isinstance(names, dict) or sorted(names) != sorted(str(i) for i in range(len(names))) or not names:
        raise refused(folder / "config.json", f"id2label = {names!r} does not name the logits 0, 1, …")
    return tuple(str(names[str(i)]) for i in range(len(names)))


def _activation(
    folder: Path, config: Mapping[str, Any], saved: Mapping[str, Any], labels: tuple[str, ...]
) -> Activation:
    """As CrossEncoder chooses it: its own file, then config.json in its newer and its older form, then by labels."""
    older = config.get("sentence_transformers")
    found = saved.get("activation_fn")
    if found is None and isinstance(older, dict) and "activation_fn" in older:
        found = older["activation_fn"]
    elif found is None:
        found = config.get("sbert_ce_default_activation_function")
    if found is None:
        return "sigmoid" if len(labels) == 1 else "identity"
    name = str(found).rpartition(".")[2]
    if not str(found).startswith("torch.") or name not in _ACTIVATIONS:
        raise refused(folder, f"the activation function {found} is not supported ({_KNOWN})")
    return _ACTIVATIONS[name]
