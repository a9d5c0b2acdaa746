"""Folders in the files of sentence-transformers 2 to 6: a `Variant` is one tiny checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.modules import MODES
from tests.models import reference, tiny
from tests.models.test_heads import current, legacy
from tests.models.tiny import Tiny, write_json

# "half" and the text "er and …" are fewer tokens together than each alone.
PROMPTS = {"query": "find the river: ", "document": "mill ", "none": "", "half": "riv"}
TEXTS = (
    *("", "a", "river", "the river and the mill", "abc def ghi jkl", "The MILL grinds CORN", "x . y , z ! ?"),
    "er and the mill",
    "the mill grinds the corn of the town " * 3,
)


@dataclass(frozen=True)
class Variant:
    """`prompt_names` are tried one by one; None leaves it to the model."""

    name: str
    tiny: Tiny
    prompt_names: tuple[str | None, ...] = (None,)
    sentence_file: str = "sentence_bert_config.json"
    encoder_folder: str = ""

    def write(self, root: Path) -> Path:
        """The folder, with a tokenizer that transformers loads as it is."""
        folder = self.tiny.write(root / self.name)
        roles = {"unk": "[UNK]", "pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
        described = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512}
        write_json(folder / "tokenizer_config.json", described | {f"{role}_token": t for role, t in roles.items()})
        (folder / "sentence_bert_config.json").rename(folder / self.sentence_file)
        if self.encoder_folder:
            self._move_encoder(folder)
        return folder

    def _move_encoder(self, folder: Path) -> None:
        """Where versions before 2.1 put it."""
        (folder / self.encoder_folder).mkdir()
        for file in folder.glob("*.*"):
            if file.is_file() and file.name not in ("modules.json", "config_sentence_transformers.json"):
                file.rename(folder / self.encoder_folder / file.name)
        listed = json.loads((folder / "modules.json").read_text("utf-8"))
        write_json(folder / "modules.json", [listed[0] | {"path": self.encoder_folder}, *listed[1:]])


def variants() -> Iterator[Variant]:
    """All of them."""
    for mode in MODES:
        yield Variant(f"{mode}-legacy", Tiny(pooling=legacy(mode), normalize=False))
        yield Variant(f"{mode}-normalised", Tiny(pooling=current(mode)))
        yield _prompted(f"{mode}-prompt", current(mode))
        yield _prompted(f"{mode}-prompt-left-out", current(mode, include_prompt=False))
    yield Variant("all-legacy", Tiny(pooling=legacy(*MODES), normalize=False))
    yield _prompted("all-backwards", current(*reversed(MODES), include_prompt=False), normalize=False)
    for activation in reference.DENSE_ACTIVATIONS:
        described = tiny.dense_config(activation)
        yield Variant(activation, Tiny(dense=described, normalize=activation == "activation.Tanh"))
    for out in (20, tiny.HIDDEN):
        described = tiny.dense_config("activation.SiLU", out) | {"use_residual": True}
        yield Variant(f"residual-{out}", Tiny(dense=described, normalize=False))
    yield Variant("chain", _chain())
    for normalize in (True, False):
        yield Variant(f"truncated-{normalize}", Tiny(saved={"truncate_dim": 12}, normalize=normalize))
    yield Variant("lower-case", Tiny(sentence_bert={"max_seq_length": 24, "do_lower_case": True}))
    yield Variant("old-name", Tiny(sentence_bert={"max_seq_length": 9}), sentence_file="sentence_roberta_config.json")
    yield Variant("encoder-in-a-folder", Tiny(sentence_bert={"max_seq_length": 9}), encoder_folder="0_Transformer")
    saved = {"prompts": PROMPTS, "default_prompt_name": "query"}
    yield Variant("default-prompt", Tiny(saved=saved, normalize=False), (None, "document", "none"))


def _prompted(name: str, pooling: dict[str, Any], *, normalize: bool = True) -> Variant:
    return Variant(name, Tiny(pooling=pooling, saved={"prompts": PROMPTS}, normalize=normalize), (None, *PROMPTS))


def _chain() -> Tiny:
    first = tiny.dense_config("linear.Identity", 48, bias=False) | {"in_features": 2 * tiny.HIDDEN}
    second = tiny.dense_config("activation.GELU", 16) | {"in_features": 48}
    heads: list[tuple[str, dict[str, Any], Any]] = [
        ("Normalize", {}, {}),
        ("Dense", first, tiny.dense_weights(first)),
        ("Dropout", {"dropout": 0.5}, {}),
        ("LayerNorm", {"dimension": 48}, tiny.layer_norm_weights(48)),
        ("Dense", second, tiny.dense_weights(second, seed=9)),
    ]
    return Tiny(pooling=current("cls", "mean"), heads=heads, normalize=False)
