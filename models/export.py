"""The export route: a checkpoint of any architecture that transformers knows → an ONNX checkpoint, by torch.

What it makes lies in a temporary folder and goes through the ONNX route, as an export of the authors' would. But here
the reference is at hand: the tokens are compared with those of transformers, the vectors with those of torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from models import heads
from models.checkpoint import Checkpoint
from models.descriptions import read_json, read_tokenizer
from models.graph import Graph
from models.named_tokens import with_named_tokens
from models.sources import Say
from models.staging import scratch
from models.tokenizer_file import tokens
from models.verify import GOLDEN_TEXTS, golden_of, token_rows
from models.weights import weight_files
from service.bundle import MODEL_ONNX, OUTPUT, TOKENIZER_JSON, Bundle, Golden
from service.errors import CheckpointError
from service.runtime.providers import CPU
from service.runtime.session import Session
from service.types import Matrix

if TYPE_CHECKING:
    from models.torch_encoder import TorchEncoder, TorchTokenizer

PACKAGES = ("torch", "transformers", "onnxscript")
EXTRA = "pip install 'embedserve[export]'"


def missing_packages() -> list[str]:
    """Of those the route needs. Imports none of them."""
    return [name for name in PACKAGES if find_spec(name) is None]


@dataclass(frozen=True)
class Exported:
    """`checkpoint` is what the ONNX route compiles; its folder exists as long as the context that gave it."""

    checkpoint: Checkpoint
    encoder: TorchEncoder
    tokenizer: TorchTokenizer

    def golden(self, folder: Path, bundle: Bundle) -> Golden:
        """The vectors of torch's hidden states for the bundle's tokens. Raises CheckpointError for other tokens."""
        from models.torch_encoder import VERSIONS

        rows = token_rows(folder, bundle, GOLDEN_TEXTS)
        self._compare_tokens(rows, bundle.max_seq_length)
        with TemporaryDirectory(dir=self.checkpoint.folder) as temporary:
            head = _Head(self.checkpoint, Path(temporary))
            vectors = np.concatenate([head.run(self._states(row)) for row in rows])
        return golden_of(vectors, VERSIONS, bundle)

    def _states(self, row: Sequence[int]) -> Matrix:
        states = self.encoder.states(row)
        expected = (len(row), self.checkpoint.hidden_size)
        if states.shape != expected:
            raise CheckpointError(
                f"the model gives token vectors of shape {states.shape}, config.json implies {expected}",
                "this model cannot be served: its vectors are not one a token",
            )
        return states

    def _compare_tokens(self, rows: Sequence[Sequence[int]], max_seq_length: int) -> None:
        texts = [text.lower() if self.checkpoint.lower_case else text for text in GOLDEN_TEXTS]
        for text, row, expected in zip(texts, rows, self.tokenizer.rows(texts), strict=True):
            if len(expected) <= max_seq_length and list(row) != expected:
                raise CheckpointError(
                    f"the tokens of {text[:40]!r} are {list(row)[:12]}, transformers' {self.tokenizer.kind} gives "
                    f"{expected[:12]}",
                    "this is a defect of the compiler: report it",
                )


@contextmanager
def exported(checkpoint: Checkpoint, beside: Path, say: Say) -> Iterator[Exported]:
    """Exports into a temporary folder in `beside`, on whose disk the bundle will lie too.

    Raises CheckpointError for what cannot be exported, StartupError for want of memory, OSError for want of space.
    """
    if checkpoint.task != "embedding":
        raise CheckpointError(
            f"{checkpoint.folder}: the export route is for embedding models, not for {checkpoint.task} ones",
            "put an ONNX export of the model into the folder as onnx/model.onnx and compile with --route onnx",
        )
    _refuse_own_code(checkpoint.folder)
    weight_files(checkpoint.folder)
    if missing := missing_packages():
        raise CheckpointError(f"the export route needs {', '.join(missing)}", EXTRA)
    say("loading torch and transformers")
    from models.torch_encoder import VERSIONS, TorchEncoder, TorchTokenizer

    with scratch(beside) as folder:
        tokenizer = TorchTokenizer(checkpoint.folder)
        _write_tokenizer(checkpoint, tokenizer, folder, say)
        encoder = TorchEncoder(checkpoint.folder)
        say(f"exporting with {VERSIONS}: this takes a minute, or some for billions of parameters")
        encoder.export(folder / MODEL_ONNX, checkpoint.max_seq_length)
        _strip(folder / MODEL_ONNX)
        yield Exported(replace(checkpoint, folder=folder), encoder, tokenizer)


def _refuse_own_code(folder: Path) -> None:
    """Where a checkpoint brings code of its own, transformers' class of the same name may be another model.

    It may be causal, for one, where the authors' looks both ways.
    """
    for name in ("config.json", "tokenizer_config.json"):
        if own := read_json(folder / name, optional=True).get("auto_map"):
            raise CheckpointError(
                f"{folder / name} names code of the checkpoint's own ({_first(own)}), which is never run",
                "put an ONNX export by its authors into the folder as onnx/model.onnx and compile with --route onnx",
            )


def _first(own: Any) -> str:
    while isinstance(own, dict | list) and own:
        own = next(iter(own.values())) if isinstance(own, dict) else own[0]
    return str(own)


def _write_tokenizer(checkpoint: Checkpoint, tokenizer: TorchTokenizer, folder: Path, say: Say) -> None:
    """The checkpoint's tokenizer.json; transformers' where there is none, or where it makes other tokens of it.

    Its classes read settings beside the file: whether to end every text with a token, for one.
    """
    from tokenizers import Tokenizer

    found = checkpoint.folder / TOKENIZER_JSON
    content = json.loads(tokenizer.json()) | {"truncation": None, "padding": None}
    if found.is_file():
        own = read_tokenizer(found)
        own = with_named_tokens(own, dict(tokens(own)), checkpoint.folder, checkpoint.vocab_size)
        own |= {"truncation": None, "padding": None}
        encoded = Tokenizer.from_str(json.dumps(own)).encode_batch(list(GOLDEN_TEXTS))
        if [list(one.ids) for one in encoded] == tokenizer.rows(GOLDEN_TEXTS):
            content = own
        else:
            say(f"{found} by itself gives other tokens than transformers' {tokenizer.kind}: taking the latter's")
    else:
        say(f"no {TOKENIZER_JSON}: converting the tokenizer with transformers' {tokenizer.kind}")
    (folder / TOKENIZER_JSON).write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}), "utf-8")


def _strip(path: Path) -> None:
    """Removes what the exporter notes beside the graph: stack traces with this machine's paths, and names of shapes."""
    model = onnx.load(str(path), load_external_data=False)
    del model.graph.value_info[:], model.metadata_props[:], model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    path.write_bytes(model.SerializeToString(deterministic=True))


class _Head:
    """What comes after the encoder, as a graph of its own: (length, hidden) → (1, dimensions)."""

    def __init__(self, checkpoint: Checkpoint, folder: Path) -> None:
        graph = Graph()
        shape: list[str | int | None] = ["rows", "length", checkpoint.hidden_size]
        graph.model.graph.input.append(helper.make_tensor_value_info("hidden", TensorProto.FLOAT, shape))
        heads.append(graph, "hidden", graph.input("attention_mask"), checkpoint)
        graph.save(folder)
        self._masks = graph.inputs
        self._session = Session(folder / MODEL_ONNX, CPU, 1)

    def run(self, states: Matrix) -> Matrix:
        mask: NDArray[Any] = np.ones((1, len(states)), np.int64)
        return self._session.run([OUTPUT], {"hidden": states[None]} | dict.fromkeys(self._masks, mask))[0]
