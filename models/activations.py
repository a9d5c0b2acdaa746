"""torch.nn's activations in ONNX operators, each with the parameters that torch gives it by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from models.graph import CONTRIB, Graph

Build = Callable[[Graph, str], str]


def activate(graph: Graph, value: str, name: str) -> str:
    """`name` is one of ACTIVATIONS; any shape → the same."""
    return ACTIVATIONS[name](graph, value)


def _constant(graph: Graph, value: float) -> str:
    return graph.constant(np.array(value, np.float32))


def _op(op_type: str, **attributes: Any) -> Build:
    return lambda graph, x: graph.op(op_type, x, **attributes)


def _clipped(lowest: float, highest: float) -> Build:
    return lambda graph, x: graph.op("Clip", x, _constant(graph, lowest), _constant(graph, highest))


def _silu(graph: Graph, x: str) -> str:
    return graph.op("Mul", x, graph.op("Sigmoid", x))


def _mish(graph: Graph, x: str) -> str:
    """x · tanh(log(1 + eˣ))."""
    return graph.op("Mul", x, graph.op("Tanh", graph.op("Softplus", x)))


def _hardsigmoid(graph: Graph, x: str) -> str:
    """min(max(x/6 + 1/2, 0), 1)."""
    return graph.op("HardSigmoid", x, alpha=1 / 6, beta=0.5)


def _hardswish(graph: Graph, x: str) -> str:
    return graph.op("Mul", x, _hardsigmoid(graph, x))


def _logsigmoid(graph: Graph, x: str) -> str:
    """log(1 / (1 + e⁻ˣ)) = −log(1 + e⁻ˣ)."""
    return graph.op("Neg", graph.op("Softplus", graph.op("Neg", x)))


def _tanhshrink(graph: Graph, x: str) -> str:
    return graph.op("Sub", x, graph.op("Tanh", x))


def _gelu(graph: Graph, x: str) -> str:
    """The exact one, with erf: ONNX itself has it only from opset 20."""
    return graph.op("Gelu", x, domain=CONTRIB)


ACTIVATIONS: Mapping[str, Build] = {
    "identity": lambda graph, x: x,
    "tanh": _op("Tanh"),
    "gelu": _gelu,
    "relu": _op("Relu"),
    "sigmoid": _op("Sigmoid"),
    "silu": _silu,
    "elu": _op("Elu", alpha=1.0),
    "celu": _op("Celu", alpha=1.0),
    "selu": _op("Selu"),
    "leakyrelu": _op("LeakyRelu", alpha=0.01),
    "relu6": _clipped(0, 6),
    "hardtanh": _clipped(-1, 1),
    "hardsigmoid": _hardsigmoid,
    "hardswish": _hardswish,
    "softplus": _op("Softplus"),
    "softsign": _op("Softsign"),
    "mish": _mish,
    "logsigmoid": _logsigmoid,
    "tanhshrink": _tanhshrink,
}
"""By torch's class names in small letters."""
