"""What the compiler refuses, and what it says: the table in docs/MODELS.md, which `python -m` this writes anew."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from models.compile import compile_checkpoint
from service.errors import StartupError
from tests.models import tiny, words
from tests.models.tiny import HIDDEN, Tiny, change_json, write_json

DOCUMENT = Path(__file__).parents[2] / "docs" / "MODELS.md"
BEGIN, END = "<!-- refusals: begin, written by `python -m tests.models.refusals` -->", "<!-- refusals: end -->"
_HEAD = ("what is wrong", "what is said", "and what to do")


@dataclass(frozen=True)
class Case:
    """A checkpoint that is good but for `spoil`."""

    what: str
    spoil: Callable[[Path], object]
    tiny: Tiny = field(default_factory=Tiny)

    def said(self, root: Path) -> tuple[str, str]:
        """Reason and remedy, with MODEL for the folder's path. Fails where it compiles."""
        folder = self.tiny.write(root / "model")
        self.spoil(folder)
        return _refusal(self.what, folder, root)


@dataclass(frozen=True)
class WordsCase:
    """A file of word vectors."""

    what: str
    content: bytes

    def said(self, root: Path) -> tuple[str, str]:
        """As of a folder."""
        return _refusal(self.what, words.write(root / "vectors", self.content), root)


def _refusal(what: str, source: Path, root: Path) -> tuple[str, str]:
    try:
        compile_checkpoint(str(source), cache_dir=root / "cache", say=lambda _: None)
    except StartupError as error:
        assert not any((root / "cache").glob("bundles/*")), "something is left of it"
        return _shown(error.message, source), _shown(error.remedy, source)
    raise AssertionError(f"{what}: it compiles")


def _shown(text: str, folder: Path) -> str:
    """Without lists of what can be had instead, which grow."""
    text = re.sub(r" \([^()]*, [^()]* (can|are)\)", "", text)
    return text.replace(f"{folder}", "MODEL").replace("|", "\\|").replace("\n", " ")


def _gte(**changes: Any) -> Callable[[Path], object]:
    return _set("config.json", model_type="gte", **changes)


def _set(file: str, **changes: Any) -> Callable[[Path], object]:
    return lambda folder: change_json(folder / file, **changes)


def _modules(*kinds: str) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        paths = {"Transformer": "", "Pooling": "1_Pooling"}
        types = ((kind if "." in kind else f"sentence_transformers.models.{kind}", kind) for kind in kinds)
        write_json(folder / "modules.json", [{"type": kind, "path": paths.get(name, name)} for kind, name in types])

    return write


def _remove(file: str) -> Callable[[Path], object]:
    return lambda folder: (folder / file).unlink()


def _cut_off(file: str) -> Callable[[Path], object]:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:-100])


def _weights(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return write


def _not_numbers(tensors: dict[str, Any]) -> None:
    tensors["encoder.layer.0.output.dense.bias"] = np.full(HIDDEN, np.nan, np.float32)


def _add_token(folder: Path) -> None:
    special = tiny.tokenizer()["added_tokens"]
    change_json(folder / "tokenizer.json", added_tokens=[*special, special[-1] | {"id": 99, "content": "[NEW]"}])


def _other_padding(folder: Path) -> None:
    change_json(folder / "tokenizer_config.json", pad_token="[MASK]")


def _part_missing(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    mapped = {name: f"model-0000{number}-of-00002.safetensors" for number, name in enumerate("ab", 1)}
    write_json(folder / "model.safetensors.index.json", {"weight_map": mapped})


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


_POOLING, _DENSE = "1_Pooling/config.json", "2_Dense/config.json"
_SENTENCE, _SAVED = "sentence_bert_config.json", "config_sentence_transformers.json"
_TANH = Tiny(dense=tiny.dense_config("activation.Tanh"))


def cases() -> Iterator[Case]:
    """In the order of the table."""
    yield Case("no word on pooling", _remove("modules.json"))
    yield Case("another pooling", _set(_POOLING, pooling_mode="attention"))
    yield Case(
        "a pooling that versions read differently", _set(_POOLING, pooling_mode=None, pooling_mode_cls_token=True)
    )
    yield Case("a pooling without a mode", _set(_POOLING, pooling_mode=None))
    yield Case("a pooling of another width", _set(_POOLING, embedding_dimension=31))
    yield Case("code of the model's own", _modules("custom_st.Transformer", "Pooling"))
    yield Case("routes for queries and documents", _modules("Router"))
    yield Case("the same, older", _modules("Transformer", "Pooling", "Asym"))
    yield Case("vectors of several layers", _modules("Transformer", "WeightedLayerPooling", "Pooling"))
    yield Case("networks over words", _modules("Transformer", "LSTM", "Pooling"))
    yield Case("networks over words", _modules("Transformer", "CNN", "Pooling"))
    yield Case("weighted words", _modules("Transformer", "WordWeights", "Pooling"))
    yield Case("bags of words", _modules("BoW"))
    yield Case("images", _modules("CLIPModel"))
    yield Case("an activation with weights", _set(_DENSE, activation_function="torch.nn.PReLU"), _TANH)
    yield Case("an activation of elsewhere", _set(_DENSE, activation_function="my.Tanh"), _TANH)
    yield Case("a layer that does not fit", _set(_DENSE, in_features=31), _TANH)
    yield Case("a layer for token vectors", _set(_DENSE, module_input_name="token_embeddings"), _TANH)
    yield Case("a pickled layer", _remove("2_Dense/model.safetensors"), _TANH)
    yield Case("a setting that is not known", _set(_SENTENCE, query_length=32))
    yield Case("another task", _set(_SENTENCE, transformer_task="text-generation"))
    yield Case("a default prompt that is not there", _set(_SAVED, default_prompt_name="query"))
    yield Case("no dimensions left", _set(_SAVED, truncate_dim=0))
    yield Case("other positions", _set("config.json", position_embedding_type="relative_key"))
    yield Case("a decoder", _set("config.json", is_decoder=True))
    yield Case("an activation of the layers", _set("config.json", hidden_act="silu"))
    yield Case("an encoder's own code", _set("config.json", auto_map={"AutoModel": "modeling_other.OtherModel"}))
    yield Case("angles that grow with the text", _gte(rope_scaling={"type": "dynamic", "factor": 2.0}))
    yield Case("norms of another kind", _gte(layer_norm_type="rms_norm"))
    yield Case(
        "layers that see something else", _set("config.json", model_type="modernbert", layer_types=["chunked"] * 2)
    )
    yield Case("tokens that do not see what follows", _set("config.json", is_causal=True))
    yield Case("a window by another name", _set("config.json", model_type="modernbert", sliding_window=4))
    yield Case("weights cut off", _cut_off("model.safetensors"))
    yield Case("a tensor missing", _weights(lambda all_: all_.pop("embeddings.LayerNorm.bias")))
    yield Case("a tensor of another shape", _set("config.json", intermediate_size=64))
    yield Case("weights that are not numbers", _weights(_not_numbers))
    yield Case("pickled weights", _pickled)
    yield Case("a part of the weights missing", _part_missing)
    yield Case("weights of another name", _set("config.json", transformers_weights="best.safetensors"))
    yield Case("an adapter", lambda folder: write_json(folder / "adapter_config.json", {"peft_type": "LORA"}))
    yield Case("no tokenizer", _remove("tokenizer.json"))
    yield Case("a tokenizer cut off", _cut_off("tokenizer.json"))
    yield Case("long texts cut on the left", _set("tokenizer_config.json", truncation_side="left"))
    yield Case("words that its class would make otherwise", _set("tokenizer.json", normalizer={"type": "NFC"}))
    yield Case("a vocabulary missing", _set("tokenizer.json", model={"type": "WordPiece"}))
    yield Case("a vocabulary too large for the weights", _set("config.json", vocab_size=len(tiny.VOCABULARY) - 1))
    yield Case("a special token beyond the weights", _add_token)
    yield Case("another padding", _other_padding)
    yield Case("another beginning", _set("config.json", cls_token_id=9))
    yield Case("another end", _set("config.json", sep_token_id=9))


def words_cases() -> Iterator[WordsCase]:
    """Behind the others."""
    vectors = words.rows()
    text = words.text(words.WORDS, vectors)
    counted = words.text(words.WORDS, vectors, words.header(vectors))
    matrix = words.rows(len(words.WORDS) + 50)
    yield WordsCase("word vectors: a number missing", text + b"late 1 2 3\n")
    yield WordsCase("word vectors: a first line that lies", counted.replace(b"9 6", b"10 6", 1))
    yield WordsCase("word2vec's binary, cut off", words.binary([b"the", b"mill"], vectors[:2])[:-9])
    yield WordsCase("word vectors of one number", b"2 1\nthe 1\nmill 2\n")
    yield WordsCase("gensim's own files", b"\x80\x04\x95")
    yield WordsCase("other text", b"Once upon a time\n")
    yield WordsCase("fastText, supervised", words.fasttext(words.WORDS, matrix, model=3))
    yield WordsCase("fastText, quantised", words.fasttext(words.WORDS, matrix, quantised=True))


def rows() -> list[str]:
    """The table's lines, from compiling each case."""
    found = []
    everything: list[Case | WordsCase] = [*cases(), *words_cases()]
    for case in everything:
        with TemporaryDirectory() as root:
            found.append(_line((case.what, *case.said(Path(root).resolve()))))
    return [_line(_HEAD), _line(["---"] * len(_HEAD)), *found]


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def documented() -> list[str]:
    """The table's lines as they are in the document."""
    return DOCUMENT.read_text("utf-8").partition(BEGIN)[2].partition(END)[0].strip().splitlines()


def _write() -> None:
    before, _, rest = DOCUMENT.read_text("utf-8").partition(BEGIN)
    DOCUMENT.write_text("\n".join([f"{before}{BEGIN}", *rows(), f"{END}{rest.partition(END)[2]}"]), "utf-8")


if __name__ == "__main__":
    _write()
