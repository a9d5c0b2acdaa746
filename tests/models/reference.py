"""BERT and the sentence-transformers modules in plain numpy, float64, one text at a time: written from the papers,
not from the compiler, so that the two can only agree by both being right."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Wide = NDArray[np.float64]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def gelu(x: Wide) -> Wide:
    return np.asarray(x * 0.5 * (1 + _erf(x / math.sqrt(2))))


def gelu_new(x: Wide) -> Wide:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def relu(x: Wide) -> Wide:
    return np.maximum(x, 0)


ACTIVATIONS = {"gelu": gelu, "gelu_new": gelu_new, "relu": relu}


def hidden_states(ids: Sequence[int], weights: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Wide:
    """(length,) → (length, hidden): the last hidden state of an unpadded text."""
    get = {name: value.astype(np.float64) for name, value in weights.items()}

    def linear(x: Wide, name: str) -> Wide:
        return np.asarray(x @ get[f"{name}.weight"].T + get[f"{name}.bias"])

    def norm(x: Wide, name: str) -> Wide:
        centred = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + config["layer_norm_eps"])
        return np.asarray(centred / deviation * get[f"{name}.weight"] + get[f"{name}.bias"])

    def attention(x: Wide, name: str) -> Wide:
        heads = config["num_attention_heads"]
        size = config["hidden_size"] // heads
        q, k, v = (linear(x, name + part).reshape(-1, heads, size) for part in ("query", "key", "value"))
        scores = np.einsum("ihd,jhd->hij", q, k) / math.sqrt(size)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        return np.asarray(np.einsum("hij,jhd->ihd", shares, v).reshape(-1, heads * size))

    activate = ACTIVATIONS[config["hidden_act"]]
    x = get["embeddings.word_embeddings.weight"][list(ids)]
    x = x + get["embeddings.position_embeddings.weight"][: len(ids)] + get["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "embeddings.LayerNorm")
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}."
        attended = linear(attention(x, f"{name}attention.self."), f"{name}attention.output.dense")
        x = norm(x + attended, f"{name}attention.output.LayerNorm")
        wide = activate(linear(x, f"{name}intermediate.dense"))
        x = norm(x + linear(wide, f"{name}output.dense"), f"{name}output.LayerNorm")
    return x


def pool(hidden: Wide, mode: str) -> Wide:
    """(length, hidden) → (hidden,)."""
    match mode:
        case "cls":
            return np.asarray(hidden[0])
        case "max":
            return np.asarray(hidden.max(0))
        case "mean":
            return np.asarray(hidden.mean(0))
    raise ValueError(mode)


def dense(x: Wide, weights: Mapping[str, NDArray[Any]], activation: str) -> Wide:
    y = np.asarray(weights["linear.weight"].astype(np.float64) @ x + weights.get("linear.bias", np.zeros(1)))
    functions: dict[str, Callable[[Wide], Wide]] = {
        "identity": lambda z: z,
        "tanh": np.tanh,
        "relu": relu,
        "gelu": gelu,
    }
    return np.asarray(functions[activation](y))


def normalize(x: Wide) -> Wide:
    return np.asarray(x / np.linalg.norm(x))
