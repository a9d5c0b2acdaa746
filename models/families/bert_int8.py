"""BERT with its matrices in 8 bits, for CPUs that multiply them four times as fast as float32 (VNNI).

A text's vector does not depend on what is computed beside it. ONNX Runtime's ordinary dynamic quantisation takes one
scale from all rows of a batch; here the values that LayerNormalizations give have scales that the checkpoint alone
decides, and those behind attention and activation one scale for each token.

Everything that is not a product of matrices with weights stays float32: attention itself, normalisation, residuals.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from models.families.bert import Bert, BertConfig, Hidden
from models.graph import CONTRIB, Graph
from models.quantise import MIDDLE, Columns, columns, units
from models.weights import Array, Weights
from service.errors import CheckpointError

# GELU is never below −0.17, so that most of the range is better spent on what is above.
_ACTIVATED_ZERO_POINT = 24
_HIGHEST = 255
_SMALLEST_STEP = 1e-10  # a token of nothing but zeros has steps, too


class Int8Bert(Bert):
    """As `Bert`. Values that a LayerNormalization gives are read as uint8 codes, in units of each channel's own."""

    def __init__(self, graph: Graph, config: BertConfig, weights: Weights, peaks: Mapping[str, Array]) -> None:
        """`peaks` (hidden,) of what each LayerNormalization gives, by the name of its scale.

        Raises CheckpointError for a configuration that has no 8-bit graph.
        """
        super().__init__(graph, config, weights)
        if self._width != config.hidden_size:
            raise CheckpointError("projected word vectors (embedding_size) have no int8 graph", "leave --precision out")
        self._peaks = peaks
        self._units: dict[str, Array] = {}  # of codes, by their name

    def _norm(self, value: str, name: str, reader: Array | None) -> Hidden:
        if reader is None:
            return super()._norm(value, name, reader)
        unit = units(self._peaks[f"{name}.weight"], reader)
        normed = self._normalization(value, name, unit)
        codes = self._graph.op("QuantizeLinear", normed, self._float(1.0), self._zero_point(MIDDLE))
        self._units[codes] = unit
        return Hidden(codes, self._graph.op("Mul", normed, self._graph.constant(unit)))

    def _projected(self, hidden: Hidden, layer: int) -> str:
        weight = self._columns(self._projections(layer), hidden)
        return self._product(hidden.read, weight, MIDDLE, f"encoder.layer.{layer}.attention.self")

    def _attention(self, hidden: Hidden, mask: str, layer: int) -> str:
        if self._is_long:
            return super()._attention(hidden, mask, layer)
        name = f"encoder.layer.{layer}.attention.self."
        weight = self._columns(self._projections(layer), hidden)
        return self._graph.op(
            "QAttention",
            hidden.read,
            self._graph.constant(weight.codes, f"{name}weight"),
            self._graph.constant(self._projection_biases(layer), f"{name}bias"),
            self._float(1.0),
            self._graph.constant(weight.scales, f"{name}scales"),
            mask,
            self._zero_point(MIDDLE),
            self._graph.constant(np.zeros(len(weight.scales), np.int8)),
            domain=CONTRIB,
            num_heads=self._config.num_attention_heads,
        )

    def _intermediate(self, hidden: Hidden, layer: int) -> str:
        name = f"encoder.layer.{layer}.intermediate.dense"
        wide = self._product(hidden.read, self._columns(self._widening(layer), hidden), MIDDLE, name)
        return self._activated(wide, _ACTIVATIONS.get(self._config.hidden_act, "FastGelu"), name)

    def _linear(self, value: str, name: str, width: int = 0) -> str:
        """One scale for each token: a few of them hold values ten times those of the others."""
        size = self._config.hidden_size
        weight = columns(self._weights.get(f"{name}.weight", size, width or size).T)
        zero_point = _ACTIVATED_ZERO_POINT if width else MIDDLE
        codes, step = self._per_token(value, width or size, zero_point)
        product = self._graph.op("Mul", self._product(codes, weight, zero_point, name), step)
        restored = self._graph.op("Reshape", product, self._shape)
        return self._graph.op("Add", restored, self._bias(name, size))

    def _per_token(self, value: str, width: int, zero_point: int) -> tuple[str, str]:
        """(rows, length, width) → codes (tokens, width), and what one step of them is worth (tokens, 1).

        The largest step of those that the highest and the lowest value need, above and below the zero point.
        """
        graph = self._graph
        flat = graph.op("Reshape", value, graph.constant(np.array([-1, width])))
        highest, lowest = (graph.reduce(op_type, flat, -1, keepdims=1) for op_type in ("ReduceMax", "ReduceMin"))
        step = graph.op(
            "Max",
            graph.op("Mul", highest, self._float(1 / (_HIGHEST - zero_point))),
            graph.op("Mul", lowest, self._float(-1 / zero_point)),
            self._float(_SMALLEST_STEP),
        )
        steps = graph.op("Reshape", step, graph.constant(np.array([-1])))
        zero_points = graph.op("Expand", self._zero_point(zero_point), graph.op("Shape", steps))
        return graph.op("QuantizeLinear", flat, steps, zero_points, axis=0), step

    def _product(self, codes: str, weight: Columns, zero_point: int, name: str) -> str:
        """(…, in) uint8 → (…, out) float32, in steps of the codes."""
        return self._graph.op(
            "MatMulIntegerToFloat",
            codes,
            self._graph.constant(weight.codes, f"{name}.weight"),
            self._float(1.0),
            self._graph.constant(weight.scales, f"{name}.scales"),
            self._zero_point(zero_point),
            domain=CONTRIB,
        )

    def _columns(self, weight: Array, hidden: Hidden) -> Columns:
        return columns(weight * self._units[hidden.read][:, None])

    @cached_property
    def _shape(self) -> str:
        """(rows, length, hidden) of this batch."""
        size = self._graph.constant(np.array([self._config.hidden_size]))
        return self._graph.op("Concat", self._graph.op("Shape", "input_ids"), size, axis=0)

    def _zero_point(self, value: int) -> str:
        return self._graph.constant(np.array(value, np.uint8))

    def _float(self, value: float) -> str:
        return self._graph.constant(np.array(value, np.float32))


# The others are GELU, by its tanh approximation: closer to the exact one than a step, and twice as fast.
_ACTIVATIONS = {"relu": "Relu"}
