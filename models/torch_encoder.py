"""A checkpoint as transformers runs it: what the export route exports, and what its graph is compared with.

The only importer of torch and transformers, which come with the extra `export`. No code of a checkpoint is ever run
(`trust_remote_code` stays off) and no pickle is read.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
import transformers

from service.errors import CheckpointError, StartupError
from service.types import Matrix

OPSET = 18
VERSIONS = f"transformers {transformers.__version__}, torch {torch.__version__.partition('+')[0]}"

# Encoder-decoders whose first half transformers can load by itself.
_ENCODERS = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
}
_EXAMPLE_ROWS, _EXAMPLE_LENGTH = 3, 11  # neither is in any model: a size that is baked in by mistake shows


class TorchEncoder:
    """The encoder of a checkpoint's folder in float32, on the CPU, for inference."""

    def __init__(self, folder: Path) -> None:
        """Raises CheckpointError for what transformers cannot load, or would fill with random weights."""
        with _quiet(folder, "transformers cannot load it"):
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
            model, report = _model_class(config, folder).from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        _refuse_unfit_weights(folder, model, report)
        model.config.use_cache = False
        self._folder = folder
        self._module = _LastHiddenState(model.eval())

    def states(self, row: Sequence[int]) -> Matrix:
        """(length, hidden): the last hidden state of one row of token ids, by itself. Raises CheckpointError."""
        ids = torch.tensor([row], dtype=torch.int64)
        with _quiet(self._folder, "transformers cannot run it"), torch.inference_mode():
            found: Matrix = self._module(ids, torch.ones_like(ids))[0].numpy()
        return found

    def export(self, path: Path, max_length: int) -> None:
        """Writes (input_ids, attention_mask) → last_hidden_state as ONNX, its weights beside it.

        torch proves that rows and length stay open, the length up to `max_length` tokens, or fails. Raises
        CheckpointError, and OSError where the disk is full.
        """
        length = min(_EXAMPLE_LENGTH, max_length)
        ids = torch.zeros((_EXAMPLE_ROWS, length), dtype=torch.int64)
        mask = torch.ones_like(ids)
        mask[-1, length // 2 :] = 0
        shape = {0: torch.export.Dim("rows"), 1: torch.export.Dim("length", max=max(max_length, 2))}
        with _quiet(self._folder, "torch cannot export it"), torch.inference_mode():
            torch.onnx.export(
                self._module,
                (ids, mask),
                path,
                input_names=["input_ids", "attention_mask"],
                output_names=["last_hidden_state"],
                dynamic_shapes=(shape, shape),
                opset_version=OPSET,
                dynamo=True,
                external_data=True,
                verbose=False,
            )


class _LastHiddenState(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """(rows, length) ids and mask → (rows, length, hidden). Positions are the model's own: 0, 1, … in each row."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


class TorchTokenizer:
    """The tokenizer that transformers makes of a checkpoint's folder."""

    def __init__(self, folder: Path) -> None:
        """Raises CheckpointError, also for tokenizers that the library `tokenizers` does not have."""
        with _quiet(folder, "transformers cannot load its tokenizer"):
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._folder = folder
        if not getattr(self._tokenizer, "is_fast", False):
            raise CheckpointError(
                f"{folder}: its tokenizer ({type(self._tokenizer).__name__}) cannot be written as tokenizer.json",
                "this model cannot be served: its tokenizer runs in Python only",
            )

    @property
    def kind(self) -> str:
        """transformers' class."""
        return type(self._tokenizer).__name__

    def json(self) -> str:
        """As the content of tokenizer.json."""
        content: str = self._tokenizer.backend_tokenizer.to_str()
        return content

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text with special tokens, uncut. Raises CheckpointError where they have parts."""
        with _quiet(self._folder, "its tokenizer fails"):
            encoded: Mapping[str, list[list[int]]] = self._tokenizer(list(texts), truncation=False, padding=False)
        if any(any(row) for row in encoded.get("token_type_ids", ())):
            raise CheckpointError(
                f"{self._folder}: its tokenizer marks the tokens of a single text with token types other than 0",
                "this model cannot be served as its authors meant it",
            )
        return [list(row) for row in encoded["input_ids"]]


def _model_class(config: Any, folder: Path) -> Any:
    if name := _ENCODERS.get(config.model_type):
        return getattr(transformers, name)
    if getattr(config, "is_encoder_decoder", False):
        raise CheckpointError(
            f"{folder}: model_type {config.model_type!r} has an encoder and a decoder, and no encoder of its own "
            f"({', '.join(_ENCODERS)} have)",
            "save its encoder alone, or put an ONNX export of the encoder into the folder as onnx/model.onnx",
        )
    return transformers.AutoModel


def _refuse_unfit_weights(folder: Path, model: Any, report: Mapping[str, Any]) -> None:
    """transformers makes up what is missing and leaves out what it has no place for; either gives wrong vectors.

    A pooler is not used here. What lies beside the encoder (a decoder, a head) is no part of it; what lies inside a
    module of it is.
    """
    missing = sorted(name for name in report["missing_keys"] if "pooler." not in f".{name}")
    if missing:
        raise CheckpointError(
            f"{folder}: the weights have no {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else ""),
            "the checkpoint is incomplete, or is not of the model_type that config.json says",
        )
    modules = {name for name, _ in model.named_modules() if name}
    for name in sorted(report["unexpected_keys"]):
        parent, _, leaf = name.removeprefix(f"{model.base_model_prefix}.").rpartition(".")
        above = {parent, parent.rpartition(".")[0]}
        if leaf in ("weight", "bias") and above & modules:
            raise CheckpointError(
                f"{folder}: config.json gives the model no place for the weights' {name}",
                "config.json and the weights do not belong together: fetch both again",
            )


@contextmanager
def _quiet(folder: Path, what: str) -> Iterator[None]:
    """Turns what the libraries raise into one line, and keeps what they print off standard output."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # what matters is raised; the rest is advice to programmers
    transformers.logging.disable_progress_bar()
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except CheckpointError:
        raise
    except Exception as error:  # neither library has a base for what it raises, and a model's own code may raise all
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's, which `staged` explains
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise StartupError(
                f"{folder}: {what}: out of memory",
                "compile on a machine with four times the size of its float32 weights",
            ) from error
        raise CheckpointError(f"{folder}: {what}: {_one_line(error)}", _REMEDY) from error
    finally:
        logging.disable(before)


_REMEDY = "put an ONNX export of the encoder into the folder as onnx/model.onnx and compile with --route onnx"


def _one_line(error: BaseException) -> str:
    """The innermost cause's first line: the exporter wraps it in pages about itself."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
