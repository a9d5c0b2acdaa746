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


def hidden_states(
    ids: Sequence[int],
    weights: Mapping[str, NDArray[Any]],
    config: Mapping[str, Any],
    *,
    read: int | None = None,
    bias: Wide | float = 0.0,
    types: Sequence[int] = (),
) -> Wide:
    """(length,) → (length, hidden): the last hidden state of an unpadded text, of which the first `read` tokens
    are looked at. `bias` is added to attention's scores; `types` where not all are 0."""
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
        scores = np.einsum("ihd,jhd->hij", q, k) / math.sqrt(size) + bias
        if read is not None:
            scores[:, :, read:] = -np.inf
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        return np.asarray(np.einsum("hij,jhd->ihd", shares, v).reshape(-1, heads * size))

    activate = ACTIVATIONS[config["hidden_act"]]
    x = get["embeddings.word_embeddings.weight"][list(ids)]
    segments = get["embeddings.token_type_embeddings.weight"][list(types) or [0]]
    x = x + get["embeddings.position_embeddings.weight"][: len(ids)] + segments
    x = norm(x, "embeddings.LayerNorm")
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}."
        attended = linear(attention(x, f"{name}attention.self."), f"{name}attention.output.dense")
        x = norm(x + attended, f"{name}attention.output.LayerNorm")
        wide = activate(linear(x, f"{name}intermediate.dense"))
        x = norm(x + linear(wide, f"{name}output.dense"), f"{name}output.LayerNorm")
    return x


def pool(hidden: Wide, mode: str, prompt: int = 0) -> Wide:
    """(length, hidden) → (hidden,), of what follows the first `prompt` tokens."""
    places = np.arange(1, len(hidden) + 1)[prompt:, np.newaxis]
    hidden = hidden[prompt:]
    match mode:
        case "cls":
            return np.asarray(hidden[0])
        case "max":
            return np.asarray(hidden.max(0))
        case "mean":
            return np.asarray(hidden.mean(0))
        case "mean_sqrt_len_tokens":
            return np.asarray(hidden.sum(0) / math.sqrt(len(hidden)))
        case "weightedmean":
            return np.asarray((hidden * places).sum(0) / places.sum())
        case "lasttoken":
            return np.asarray(hidden[-1])
    raise ValueError(mode)


def sigmoid(x: Wide) -> Wide:
    return np.asarray(1 / (1 + np.exp(-x)))


def softplus(x: Wide) -> Wide:
    return np.asarray(np.log1p(np.exp(x)))


DENSE_ACTIVATIONS: dict[str, Callable[[Wide], Wide]] = {
    "linear.Identity": lambda x: x,
    "activation.Tanh": np.tanh,
    "activation.GELU": gelu,
    "activation.ReLU": relu,
    "activation.Sigmoid": sigmoid,
    "activation.SiLU": lambda x: np.asarray(x * sigmoid(x)),
    "activation.ELU": lambda x: np.where(x > 0, x, np.expm1(x)),
    "activation.CELU": lambda x: np.maximum(x, 0) + np.minimum(0, np.expm1(x)),
    "activation.SELU": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "activation.LeakyReLU": lambda x: np.where(x > 0, x, 0.01 * x),
    "activation.ReLU6": lambda x: np.clip(x, 0, 6),
    "activation.Hardtanh": lambda x: np.clip(x, -1, 1),
    "activation.Hardsigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "activation.Hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "activation.Softplus": softplus,
    "activation.Softsign": lambda x: x / (1 + np.abs(x)),
    "activation.Mish": lambda x: np.asarray(x * np.tanh(softplus(x))),
    "activation.LogSigmoid": lambda x: np.log(sigmoid(x)),
    "activation.Tanhshrink": lambda x: np.asarray(x - np.tanh(x)),
}
"""torch.nn.modules.… → what its documentation says."""


def dense(x: Wide, weights: Mapping[str, NDArray[Any]], activation: str, *, residual: bool = False) -> Wide:
    y = np.asarray(weights["linear.weight"].astype(np.float64) @ x + weights.get("linear.bias", np.zeros(1)))
    y = DENSE_ACTIVATIONS[activation](y)
    if not residual:
        return y
    return np.asarray(y + (weights["residual.weight"].astype(np.float64) @ x if "residual.weight" in weights else x))


def layer_norm(x: Wide, weights: Mapping[str, NDArray[Any]]) -> Wide:
    standard = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return np.asarray(standard * weights["norm.weight"] + weights["norm.bias"])


def normalize(x: Wide) -> Wide:
    return np.asarray(x / np.linalg.norm(x))
