"""How large the values between the layers become: seen by running the float32 graph on drawn token ids.

Token ids drawn at random serve as well as real texts (docs/PERFORMANCE.md), need no texts in any language, and give
the same bundle everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from models.weights import Array
from service.bundle import MODEL_ONNX, TOKENIZER_JSON, Bundle
from service.encoder import padded_feeds
from service.runtime.providers import CPU
from service.runtime.session import Session
from service.tokenizer import Tokenizer

_TOKENS = 512  # of each batch
_LENGTHS = (8, 32, 128)  # of the batches' rows: short texts meet other positions and attention than long ones
_SEED = 0
_PROBE = "calibration.onnx"


def peaks(folder: Path, bundle: Bundle, vocabulary: int) -> dict[str, Array]:
    """The largest absolute value of each channel (hidden,) of each LayerNormalization, by the name of its scale.

    `folder` holds the float32 graph and the tokenizer. Token ids are below `vocabulary`.
    """
    probe, taps = _tapped(folder)
    found: dict[str, Array] = {}
    try:
        session = Session(probe, CPU, 1)
        for rows in _rows(Tokenizer(folder / TOKENIZER_JSON), bundle.max_seq_length, vocabulary):
            values = session.run(list(taps.values()), padded_feeds(rows, bundle.inputs, bundle.pad_token_id))
            for name, value in zip(taps, values, strict=True):
                found[name] = np.maximum(found.get(name, np.float32(0)), _peaks(value))
    finally:
        probe.unlink()
    return found


def _tapped(folder: Path) -> tuple[Path, dict[str, str]]:
    """The graph with more outputs, on the same weights; and those outputs by the scales' names."""
    model = onnx.load(str(folder / MODEL_ONNX), load_external_data=False)
    norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    taps = {node.input[1]: node.output[0] for node in norms}
    model.graph.output.extend(helper.make_tensor_value_info(tap, TensorProto.FLOAT, None) for tap in taps.values())
    path = folder / _PROBE
    path.write_bytes(model.SerializeToString())
    return path, taps


def _rows(tokenizer: Tokenizer, max_seq_length: int, vocabulary: int) -> Iterator[list[list[int]]]:
    """Batches of rows of one length each, with their special tokens."""
    rng = np.random.default_rng(_SEED)
    for length in sorted({min(length, max_seq_length) for length in _LENGTHS}):
        drawn = rng.integers(0, vocabulary, (_TOKENS // length, max(0, length - tokenizer.special_tokens)))
        yield [[*tokenizer.prefix, *row, *tokenizer.suffix] for row in drawn.tolist()]


def _peaks(value: NDArray[np.float32]) -> Array:
    """(…, hidden) → (hidden,)."""
    largest: Array = np.abs(value).max(axis=tuple(range(value.ndim - 1)))
    return largest
