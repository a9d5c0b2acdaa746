"""Families with rotary positions against a plain reference in float64, written from their papers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.families.rotary import Rotary
from models.weights import Array
from service.errors import CheckpointError
from tests.models.families.states import ROWS, drawn, states
from tests.models.reference import Wide, gelu

HIDDEN, HEADS, WIDE, WORDS, LAYERS = 32, 4, 48, 64, 4
SIZE = HIDDEN // HEADS
EPSILON = 1e-5
TOLERANCE = 2e-4  # float32 against float64, behind sharp softmaxes; what is wrong differs by 0.1 and more
COMMON = {
    "vocab_size": WORDS,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": WIDE,
    "max_position_embeddings": 64,
    "layer_norm_eps": EPSILON,
    "norm_eps": EPSILON,
}
NOMIC = {**COMMON, "model_type": "nomic_bert"}
GTE = {**COMMON, "model_type": "gte"}
MODERNBERT = {**COMMON, "model_type": "modernbert", "local_attention": 6, "global_attn_every_n_layers": 3}


def silu(x: Wide) -> Wide:
    return np.asarray(x / (1 + np.exp(-x)))


def norm(x: Wide, scale: Array, bias: Array | float = 0.0) -> Wide:
    centred = x - x.mean(-1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON) * scale + bias)


def turned(x: Wide, theta: float) -> Wide:
    """(length, heads, size): pairs of features as complex numbers, turned by place · θ^(−2i / size)."""
    half = x.shape[-1] // 2
    angles = np.arange(len(x))[:, None] * theta ** (-np.arange(half) / half)
    found = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)[:, None]
    return np.concatenate([found.real, found.imag], axis=-1)


def attention(q: Wide, k: Wide, v: Wide, theta: float, reach: int | None = None) -> Wide:
    """(length, hidden) each. `reach`: a token sees as many before and behind it."""
    q, k, v = (x.reshape(len(x), HEADS, SIZE) for x in (q, k, v))
    scores = np.einsum("ihd,jhd->hij", turned(q, theta), turned(k, theta)) / np.sqrt(SIZE)
    if reach is not None:
        place = np.arange(len(q))
        scores = np.where(np.abs(place[:, None] - place[None, :]) <= reach, scores, -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    return np.asarray(np.einsum("hij,jhd->ihd", shares, v).reshape(len(q), HIDDEN))


def gated_states(ids: list[int], w: Mapping[str, Array], theta: float, activate: Callable[[Wide], Wide]) -> Wide:
    """NomicBERT and GTE; biases are those that `w` has."""

    def linear(x: Wide, name: str) -> Wide:
        return np.asarray(x @ w[f"{name}.weight"].T.astype(np.float64) + w.get(f"{name}.bias", np.zeros(1)))

    def normed(x: Wide, name: str) -> Wide:
        return norm(x, w[f"{name}.weight"], w[f"{name}.bias"])

    x = w["embeddings.word_embeddings.weight"][ids].astype(np.float64)
    x = normed(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(LAYERS):
        name = f"layers.{layer}."
        q, k, v = (linear(x, f"{name}self_attn.{part}_proj") for part in "qkv")
        x = normed(x + linear(attention(q, k, v, theta), f"{name}self_attn.o_proj"), f"{name}post_attention_layernorm")
        wide = activate(linear(x, f"{name}mlp.gate_proj")) * linear(x, f"{name}mlp.up_proj")
        x = normed(x + linear(wide, f"{name}mlp.down_proj"), f"{name}post_mlp_layernorm")
    return x


def gated_weights(*, biases: bool, hidden: int = HIDDEN, layers: int = LAYERS) -> dict[str, Array]:
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (WORDS, hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
        "embeddings.LayerNorm.weight": (hidden,),
        "embeddings.LayerNorm.bias": (hidden,),
    }
    for layer in range(layers):
        for part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"):
            shapes[f"layers.{layer}.{part}.weight"] = hidden, hidden
            shapes |= {f"layers.{layer}.{part}.bias": (hidden,)} if biases else {}
        shapes |= {f"layers.{layer}.mlp.{part}_proj.weight": (WIDE, hidden) for part in ("up", "gate")}
        shapes[f"layers.{layer}.mlp.down_proj.weight"] = hidden, WIDE
        shapes |= {f"layers.{layer}.mlp.down_proj.bias": (hidden,)} if biases else {}
        for part in ("post_attention_layernorm", "post_mlp_layernorm"):
            shapes |= {f"layers.{layer}.{part}.{kind}": (hidden,) for kind in ("weight", "bias")}
    return drawn(shapes)


def modernbert_weights(hidden: int = HIDDEN, layers: int = LAYERS) -> dict[str, Array]:
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.tok_embeddings.weight": (WORDS, hidden),
        "embeddings.norm.weight": (hidden,),
        "final_norm.weight": (hidden,),
    }
    for layer in range(layers):
        shapes |= {f"layers.{layer}.attn_norm.weight": (hidden,)} if layer else {}
        shapes |= {f"layers.{layer}.mlp_norm.weight": (hidden,)}
        shapes |= {
            f"layers.{layer}.attn.Wqkv.weight": (3 * hidden, hidden),
            f"layers.{layer}.attn.Wo.weight": (hidden,) * 2,
        }
        shapes |= {f"layers.{layer}.mlp.Wi.weight": (2 * WIDE, hidden), f"layers.{layer}.mlp.Wo.weight": (hidden, WIDE)}
    return drawn(shapes)


def modernbert_states(ids: list[int], w: Mapping[str, Array], thetas: tuple[float, float], reach: int) -> Wide:
    """`thetas` of the layers that see all and of those that see `reach` tokens to either side."""
    x = norm(w["embeddings.tok_embeddings.weight"][ids].astype(np.float64), w["embeddings.norm.weight"])
    for layer in range(LAYERS):
        name, is_local = f"layers.{layer}.", layer % 3 != 0
        read = norm(x, w[f"{name}attn_norm.weight"]) if layer else x
        q, k, v = np.split(read @ w[f"{name}attn.Wqkv.weight"].T, 3, axis=-1)
        seen = attention(q, k, v, thetas[is_local], reach if is_local else None)
        x = x + seen @ w[f"{name}attn.Wo.weight"].T
        activated, gate = np.split(norm(x, w[f"{name}mlp_norm.weight"]) @ w[f"{name}mlp.Wi.weight"].T, 2, axis=-1)
        x = x + (gelu(activated) * gate) @ w[f"{name}mlp.Wo.weight"].T
    return norm(x, w["final_norm.weight"])


LONG = [2, *range(4, 60), 3]


@pytest.mark.parametrize(
    ("settings", "thetas"),
    [
        ({}, (160_000, 10_000)),
        ({"global_rope_theta": 500.0, "local_rope_theta": 50.0}, (500, 50)),
        ({"global_rope_theta": 500.0, "local_rope_theta": None}, (500, 500)),
        (
            {"rope_parameters": {"full_attention": {"rope_theta": 70.0}, "sliding_attention": {"rope_theta": 7.0}}},
            (70, 7),
        ),
        ({"layer_types": ["full_attention", *["sliding_attention"] * 2, "full_attention"]}, (160_000, 10_000)),
    ],
)
@pytest.mark.parametrize("prefix", ["", "model."])
def test_modernbert(tmp_path: Path, settings: dict[str, Any], thetas: tuple[float, float], prefix: str) -> None:
    """Alone and in a padded batch, with rows shorter and longer than what a token sees."""
    weights = modernbert_weights()
    named = {prefix + name: tensor for name, tensor in weights.items()}
    for rows in ([*ROWS, LONG], [LONG], [ROWS[1]]):
        for state, row in zip(states(tmp_path, MODERNBERT | settings, named, rows), rows, strict=True):
            np.testing.assert_allclose(state, modernbert_states(row, weights, thetas, 3), atol=TOLERANCE)


@pytest.mark.parametrize("local_attention", [0, 1, 2, 13, 200])
def test_modernbert_sees_half_of_its_window_to_either_side(tmp_path: Path, local_attention: int) -> None:
    weights, config = modernbert_weights(), MODERNBERT | {"local_attention": local_attention}
    rows = [LONG, LONG[:29], ROWS[0]]
    for state, row in zip(states(tmp_path, config, weights, rows), rows, strict=True):
        expected = modernbert_states(row, weights, (160_000, 10_000), local_attention // 2)
        np.testing.assert_allclose(state, expected, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("config", "theta", "activate"),
    [
        (NOMIC, 1000, silu),
        (NOMIC | {"rope_theta": 50.0}, 50, silu),
        (GTE, 160_000, gelu),
        (GTE | {"rope_parameters": {"rope_theta": 50.0, "rope_type": "default"}}, 50, gelu),
        (GTE | {"model_type": "new"}, 10_000, gelu),
    ],
)
def test_nomic_and_gte(tmp_path: Path, config: dict[str, Any], theta: float, activate: Callable[[Wide], Wide]) -> None:
    weights = gated_weights(biases=config["model_type"] != "nomic_bert")
    for row, state in zip(ROWS, states(tmp_path, config | {"type_vocab_size": 2}, weights), strict=True):
        np.testing.assert_allclose(state, gated_states(row, weights, theta, activate), atol=TOLERANCE)


def packed(weights: Mapping[str, Array], names: tuple[tuple[str, str], ...], *, together: bool) -> dict[str, Array]:
    """As the families' own code keeps them; `together`: also up and gate in one tensor."""
    found = dict(weights)
    for layer in range(LAYERS):
        name = f"layers.{layer}."
        for kind in ("weight", "bias"):
            if f"{name}self_attn.q_proj.{kind}" in found:
                parts = [found.pop(f"{name}self_attn.{part}_proj.{kind}") for part in "qkv"]
                found[f"{name}self_attn.qkv_proj.{kind}"] = np.concatenate(parts)
        if together:
            parts = [found.pop(f"{name}mlp.{part}_proj.weight") for part in ("up", "gate")]
            found[f"{name}mlp.up_gate_proj.weight"] = np.concatenate(parts)
    for new, old in names:
        found = {name.replace(new, old): tensor for name, tensor in found.items()}
    return found


def test_the_names_that_nomic_bert_had_before(tmp_path: Path) -> None:
    weights = gated_weights(biases=False)
    names = (
        ("embeddings.LayerNorm", "emb_ln"),
        ("layers.", "encoder.layers."),
        ("self_attn.qkv_proj", "attn.Wqkv"),
        ("self_attn.o_proj", "attn.out_proj"),
        ("up_proj", "fc11"),
        ("gate_proj", "fc12"),
        ("down_proj", "fc2"),
        ("post_attention_layernorm", "norm1"),
        ("post_mlp_layernorm", "norm2"),
    )
    older = {
        "model_type": "nomic_bert",
        "vocab_size": WORDS,
        "n_embd": HIDDEN,
        "n_layer": LAYERS,
        "n_head": HEADS,
        "n_inner": WIDE,
        "n_positions": 64,
        "layer_norm_epsilon": EPSILON,
        "activation_function": "swiglu",
        "rotary_emb_base": 1000,
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
        "rotary_scaling_factor": None,
        "qkv_proj_bias": False,
        "type_vocab_size": 2,
    }
    expected = states(tmp_path, NOMIC, weights)
    for found, state in zip(states(tmp_path, older, packed(weights, names, together=False)), expected, strict=True):
        np.testing.assert_array_equal(found, state)
    with pytest.raises(CheckpointError, match="rotary_scaling_factor = 2 is not supported"):
        states(tmp_path, older | {"rotary_scaling_factor": 2}, weights)
    with pytest.raises(CheckpointError, match="activation_function gelu is not supported"):
        states(tmp_path, older | {"activation_function": "gelu"}, weights)


def test_the_names_that_gte_had_before(tmp_path: Path) -> None:
    weights = gated_weights(biases=True)
    names = (
        ("layers.", "encoder.layer."),
        ("self_attn.", "attention."),
        ("post_attention_layernorm", "attn_ln"),
        ("post_mlp_layernorm", "mlp_ln"),
    )
    older = packed(weights, names, together=True)
    newer = GTE | {"type_vocab_size": 2, "rope_theta": 99.0}
    config = newer | {"model_type": "new", "position_embedding_type": "rope", "rope_scaling": None, "pack_qkv": True}
    found = states(tmp_path, config, {f"new.{name}": tensor for name, tensor in older.items()})
    for one, state in zip(found, states(tmp_path, newer, weights), strict=True):
        np.testing.assert_array_equal(one, state)


def test_fixed_ntk_scaling() -> None:
    """θ times the factor, and all frequencies divided by factor^(2 / size)."""
    found = Rotary(20_000, 8).frequencies(64)
    expected = 160_000.0 ** (-np.arange(32) / 32) / 8 ** (1 / 32)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(Rotary(20_000).frequencies(64)[0], 1)


def test_ntk_scaling_is_read(tmp_path: Path) -> None:
    weights = gated_weights(biases=True)
    config = GTE | {"type_vocab_size": 2, "rope_theta": 50.0}
    plain = states(tmp_path, config, weights)
    scaled = states(tmp_path, config | {"rope_scaling": {"type": "ntk", "factor": 8.0}}, weights)
    assert not np.allclose(plain[0], scaled[0], atol=0.01)


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (GTE, {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type dynamic"),
        (GTE, {"rope_parameters": {"rope_type": "yarn"}}, "rope_type yarn"),
        (GTE, {"rope_scaling": {"type": "ntk", "factor": 2.0, "mixed_b": 0.5}}, "rope_type ntk"),
        (GTE, {"rope_theta": "large"}, "rope_theta is 'large'"),
        (GTE, {"position_embedding_type": "absolute"}, "position_embedding_type = 'absolute'"),
        (GTE, {"layer_norm_type": "rms_norm"}, "layer_norm_type = 'rms_norm'"),
        (GTE, {"logn_attention_scale": True}, "logn_attention_scale = True"),
        (GTE, {"hidden_act": "mish"}, "activation mish is not supported"),
        (GTE, {"num_attention_heads": 32}, "no even multiple of 32 heads"),
        (NOMIC, {"num_experts": 8}, "num_experts = 8"),
        (NOMIC, {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        (NOMIC, {"head_dim": 16}, "head_dim 16"),
        (NOMIC, {"hidden_size": None}, "hidden_size"),
        (MODERNBERT, {"layer_types": ["full_attention"]}, "layer_types full_attention is not one of"),
        (MODERNBERT, {"layer_types": ["chunked_attention"] * LAYERS}, "layer_types chunked_attention"),
        (MODERNBERT, {"rope_scaling": {"rope_type": "linear", "factor": 2}}, "rope_type linear"),
        (MODERNBERT, {"num_attention_heads": 0}, "num_attention_heads"),
        (MODERNBERT, {"global_attn_every_n_layers": 0}, "global_attn_every_n_layers"),
        (MODERNBERT, {"norm_bias": True}, r"no tensor embeddings\.norm\.bias"),
        (MODERNBERT, {"auto_map": {"AutoModel": "other.Model"}}, "auto_map"),
    ],
)
def test_what_they_cannot_be_is_refused(
    tmp_path: Path, config: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    weights = modernbert_weights() if config is MODERNBERT else gated_weights(biases=config is GTE)
    with pytest.raises(CheckpointError, match=message):
        states(tmp_path, json.loads(json.dumps(config | {"type_vocab_size": 2} | change)), weights)
