"""What folders of cross-encoders say of themselves, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models.cross_encoder import find_cross_encoder
from models.verify import check, render
from service.bundle import OUTPUTS, Bundle, read_bundle, sha256_of
from service.encoder import Encoder
from service.errors import CheckpointError
from service.runtime.providers import CPU
from service.tokenizer import Tokenizer
from service.types import TwoPartRow
from tests.models.conftest import Compile
from tests.models.scores import LENGTH, expected_logits, write_cross_encoder
from tests.models.tiny import Tiny, change_json, write_json

_SIGMOID = "torch.nn.modules.activation.Sigmoid"
_IDENTITY = "torch.nn.modules.linear.Identity"


def write_modules(folder: Path, *kinds: str, **saved: Any) -> Path:
    """The form of version 6."""
    write_cross_encoder(folder)
    modules = [{"idx": i, "path": "", "type": f"sentence_transformers.base.modules.{k}"} for i, k in enumerate(kinds)]
    write_json(folder / "modules.json", modules)
    write_json(folder / "config_sentence_transformers.json", {"model_type": "CrossEncoder"} | saved)
    return folder


@pytest.mark.parametrize(
    ("labels", "config", "activation", "probabilities"),
    [
        (1, {}, "sigmoid", "sigmoid"),
        (3, {}, "identity", "softmax"),
        (3, {"problem_type": "multi_label_classification"}, "identity", "sigmoid"),
        (1, {"sentence_transformers": {"activation_fn": _IDENTITY}}, "identity", "sigmoid"),
        (3, {"sentence_transformers": {"activation_fn": _SIGMOID}}, "sigmoid", "softmax"),
        (1, {"sbert_ce_default_activation_function": _IDENTITY}, "identity", "sigmoid"),
        (1, {"sentence_transformers": {"activation_fn": None}}, "sigmoid", "sigmoid"),
    ],
)
def test_activations(tmp_path: Path, labels: int, config: dict[str, Any], activation: str, probabilities: str) -> None:
    found = find_cross_encoder(write_cross_encoder(tmp_path, labels, **config))
    assert found is not None
    assert found.classifier is not None
    assert (found.classifier.activation, found.classifier.probabilities) == (activation, probabilities)
    assert found.classifier.labels == tuple(f"LABEL_{i}" for i in range(labels))
    assert found.max_seq_length == LENGTH


def test_the_newest_form(tmp_path: Path) -> None:
    found = find_cross_encoder(write_modules(tmp_path, "transformer.Transformer", activation_fn=_IDENTITY))
    assert found is not None
    assert found.classifier is not None
    assert found.classifier.activation == "identity"


def test_other_folders_are_not_cross_encoders(tmp_path: Path) -> None:
    assert find_cross_encoder(Tiny().write(tmp_path / "embedder")) is None
    assert find_cross_encoder(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sentence_transformers": {"activation_fn": "mine.Activation"}}, "mine.Activation is not supported"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Tanh"}}, "Tanh is not supported"),
        ({"id2label": {"0": "A", "2": "B"}}, "does not name the logits"),
        ({"type_vocab_size": "two"}, "type_vocab_size: Input should be a valid integer"),
        ({"id2label": {}}, "does not name the logits"),
    ],
)
def test_refused_settings(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    write_cross_encoder(tmp_path)
    change_json(tmp_path / "config.json", **change)
    with pytest.raises(CheckpointError, match=reason):
        find_cross_encoder(tmp_path)


def test_cut_off_on_the_left_is_refused(tmp_path: Path) -> None:
    write_cross_encoder(tmp_path)
    change_json(tmp_path / "tokenizer_config.json", truncation_side="left")
    with pytest.raises(CheckpointError, match="truncation_side left is not kept"):
        find_cross_encoder(tmp_path)


def test_refused_folders(tmp_path: Path) -> None:
    for name, folder, reason in (
        ("a", write_modules(tmp_path / "a", "transformer.Transformer", "logit_score.LogitScore"), "LogitScore"),
        ("b", write_modules(tmp_path / "b", "transformer.Transformer", default_prompt_name="q"), "default prompt"),
    ):
        with pytest.raises(CheckpointError, match=reason):
            find_cross_encoder(folder)
        assert folder.name == name
    decoder = write_modules(tmp_path / "c", "transformer.Transformer")
    change_json(decoder / "config.json", architectures=["BertForCausalLM"])
    with pytest.raises(CheckpointError, match="no classification head"):
        find_cross_encoder(decoder)


def test_types_of_tokens_follow_the_tokenizer(tmp_path: Path, compiled: Compile) -> None:
    folder = write_cross_encoder(tmp_path / "typed")
    assert "token_type_ids" in read_bundle(compiled(folder)).inputs
    write_json(folder / "tokenizer_config.json", {"model_max_length": LENGTH, "model_input_names": ["input_ids"]})
    assert "token_type_ids" not in read_bundle(compiled(folder)).inputs
    template = json.loads((folder / "tokenizer.json").read_text("utf-8"))["post_processor"]
    template["pair"][1]["Sequence"]["type_id"] = 1
    write_json(folder / "tokenizer_config.json", {"model_max_length": LENGTH})
    change_json(folder / "tokenizer.json", post_processor=template)
    with pytest.raises(CheckpointError, match="types"):
        compiled(folder)


def logits_of(folder: Path, bundle: Bundle, first: str, second: str) -> list[float]:
    tokenizer = Tokenizer(folder / "tokenizer.json")
    parts = [one.ids for one in tokenizer.encode([first, second], ["", ""], LENGTH)]
    template = tokenizer.pair
    before = [*template.prefix, *parts[0], *template.middle]
    row = TwoPartRow([*before, *parts[1], *template.suffix], len(before))
    found: list[float] = Encoder(folder, bundle, CPU).run([row])[0].tolist()
    return found


def test_a_found_graph_gives_the_same_logits(tmp_path: Path, compiled: Compile) -> None:
    """The native graph, as if the authors had exported it."""
    source = write_cross_encoder(tmp_path / "source", labels=3)
    native = compiled(source)
    onnx.save_model(onnx.load(str(native / "model.onnx")), str(source / "model.onnx"))
    found = compiled(source, route="onnx")
    bundle = read_bundle(found)
    assert (bundle.task, bundle.dimensions, bundle.provenance.route) == ("score", 3, "onnx")
    expected = expected_logits(source, "the mill", "abc", labels=3)
    np.testing.assert_allclose(logits_of(found, bundle, "the mill", "abc"), expected, atol=1e-4)
    np.testing.assert_allclose(logits_of(native, read_bundle(native), "the mill", "abc"), expected, atol=1e-4)
    assert OUTPUTS[bundle.task] == ("logits",)


def test_a_found_graph_of_other_labels_is_refused(tmp_path: Path, compiled: Compile) -> None:
    source = write_cross_encoder(tmp_path / "source", labels=3)
    onnx.save_model(onnx.load(str(compiled(source) / "model.onnx")), str(source / "model.onnx"))
    change_json(source / "config.json", id2label={"0": "A", "1": "B"})
    with pytest.raises(CheckpointError, match="logits is 3 wide"):
        compiled(source, route="onnx")


def test_int8_is_refused(tmp_path: Path, compiled: Compile) -> None:
    with pytest.raises(CheckpointError, match="int8 is for embeddings"):
        compiled(write_cross_encoder(tmp_path / "source"), precision="int8")


def test_check_compares_scores_by_their_differences(tmp_path: Path, compiled: Compile) -> None:
    folder = compiled(write_cross_encoder(tmp_path / "source"))
    report = check(folder)
    assert report.passed
    assert "max |Δ| of the scores" in render(report)
    assert "cosine" not in render(report)
    golden = json.loads((folder / "golden.json").read_text("utf-8"))
    golden["vectors"][0] = [golden["vectors"][0][0] * 2 + 1]  # a cosine of one number would still be 1
    write_json(folder / "golden.json", golden)
    described = json.loads((folder / "bundle.json").read_text("utf-8"))
    described["files"]["golden.json"] = sha256_of(folder / "golden.json")
    write_json(folder / "bundle.json", described)
    assert not check(folder).passed
