"""Tries the export route on checkpoints that are odd, in the environment of tests/parity/families/exports.py.

Arguments: an empty folder, and names of cases (none: all). The last line printed is a JSON object: name of the case →
what became of it, as text.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import sentencepiece  # type: ignore[import-not-found, unused-ignore]
import torch
import transformers
from safetensors.torch import load_file, save_file

from models import torch_encoder
from models.compile import compile_checkpoint
from service.bundle import read_bundle, read_golden
from service.encoder import Encoder
from service.errors import StartupError
from service.runtime.providers import CPU
from tests.parity.families.make_checkpoints import make_encoder, save_tokenizer, train_tokenizer
from tests.parity.families.rows import TEXTS

ROOT = Path(sys.argv[1])
SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
T5 = {"model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 4}
QWEN3 = {"model_type": "qwen3", **SMALL, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 40}
GPT2 = {"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 40}
ALBERT = {"model_type": "albert", **SMALL, "embedding_size": 16, "max_position_embeddings": 40}
BERT = {"model_type": "bert", **SMALL, "max_position_embeddings": 40}


def write(name: str, config: dict[str, Any], model_class: str = "AutoModel", tokenizer: str = "bpe") -> Path:
    """A plain transformers folder, as those without sentence-transformers' files are."""
    folder = ROOT / name
    trained = train_tokenizer(tokenizer, list(TEXTS))
    make_encoder({"config": config, "model_class": model_class}, trained).save_pretrained(folder)
    save_tokenizer(trained, str(folder))
    change(folder / "tokenizer_config.json", model_max_length=40)
    return folder


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


def compiled(folder: Path, **options: Any) -> Path:
    said.clear()
    settings: dict[str, Any] = {"pooling": "mean", "route": "export", **options}
    return compile_checkpoint(str(folder), cache_dir=ROOT / "cache", say=said.append, **settings)


said: list[str] = []


def outcome(case: Callable[[], str]) -> str:
    try:
        return case()
    except StartupError as error:
        return f"{type(error).__name__}: {error}"


def exported_twice() -> str:
    """The same bytes, without a trace of this machine."""
    source = write("twice", T5, "T5ForConditionalGeneration", "unigram")
    bundles = [compiled(source, output=ROOT / place) for place in ("one", "two")]
    contents = [(one / "model.onnx").read_bytes() + (one / "model.onnx.data").read_bytes() for one in bundles]
    traces = [word for word in (b"site-packages", str(ROOT).encode(), b"torch.nn") if word in contents[0]]
    different = len({sha256(one).digest() for one in contents})
    return f"{different} content, traces: {traces}, {read_golden(bundles[0]).reference}"


def chosen_by_itself() -> str:
    """ALBERT with a classifier's head: what lies beside the encoder does not matter."""
    return f"{compiled(write('by-itself', ALBERT, 'AlbertForSequenceClassification'), route=None).is_dir()} {said[1]}"


def many_sizes() -> str:
    """Rows and lengths that the example did not have, alone and all together."""
    folder = ROOT / "one"
    encoder = Encoder(folder, read_bundle(folder), CPU)
    rows = [[5 + (i * 7 + j) % 60 for j in range(length)] for i, length in enumerate([1, 40, 2, 11, *range(1, 41)])]
    alone = torch.tensor([encoder.run([row])[0].tolist() for row in rows]).double()
    together = torch.tensor(encoder.run(rows)).double()
    worst = torch.nn.functional.cosine_similarity(alone, together).min().item()
    return f"{len(rows)} rows, the same: {worst > 0.999999}"


def sentencepiece_only() -> str:
    folder = write("sentencepiece", T5, "T5EncoderModel", "unigram")
    (folder / "tokenizer.json").unlink()
    change(folder / "config.json", cls_token_id=None, sep_token_id=None, bos_token_id=None, eos_token_id=1)
    texts = ROOT / "texts.txt"
    texts.write_text("\n".join(TEXTS), "utf-8")
    options = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "model_type": "unigram", "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        input=str(texts), model_prefix=str(folder / "spiece"), vocab_size=300, hard_vocab_limit=False, **options
    )
    words = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "extra_ids": 0}
    settings = {"tokenizer_class": "T5Tokenizer", "model_max_length": 40, **words}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    compiled(folder)
    return "; ".join(said)


def settings_beside_the_tokenizer() -> str:
    folder = write("beside", GPT2)
    change(folder / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer", add_prefix_space=True)
    compiled(folder)
    return "; ".join(said)


def missing_tensor() -> str:
    return str(compiled(_with_weights("missing", lambda found: found.pop("layers.0.mlp.up_proj.weight"))))


def superfluous_tensor() -> str:
    added = {"layers.0.self_attn.q_proj.bias": torch.ones(32)}
    return str(compiled(_with_weights("superfluous", lambda found: found.update(added))))


def _with_weights(name: str, spoil: Callable[[dict[str, Any]], object]) -> Path:
    folder = write(name, QWEN3)
    found = load_file(folder / "model.safetensors")
    spoil(found)
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def encoder_and_decoder() -> str:
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 40}
    return str(compiled(write("bart", {"model_type": "bart", **sizes, **heads})))


def not_exportable() -> str:
    """Its attention works on windows of a fixed size, and pads what does not fill them."""
    return str(compiled(write("longformer", {**BERT, "model_type": "longformer", "attention_window": 8})))


def unknown_architecture() -> str:
    folder = write("unknown", QWEN3)
    change(folder / "config.json", model_type="quantum-bert")
    return str(compiled(folder))


def out_of_memory() -> str:
    with torch_encoder._quiet(ROOT, "torch cannot export it"):
        torch.empty(1 << 50)
    return "there was enough"


def full_disk() -> str:
    folder = write("full", BERT)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        return str(compiled(folder))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


CASES = (
    exported_twice,
    chosen_by_itself,
    many_sizes,
    sentencepiece_only,
    settings_beside_the_tokenizer,
    missing_tensor,
    superfluous_tensor,
    encoder_and_decoder,
    not_exportable,
    unknown_architecture,
    out_of_memory,
    full_disk,
)

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
chosen = [case for case in CASES if not sys.argv[2:] or case.__name__ in sys.argv[2:]]
found = {case.__name__: outcome(case) for case in chosen}
left = [path.name for path in (ROOT / "cache" / "bundles").iterdir() if path.name.startswith(".")]
print(json.dumps({**found, "left": str(left)}))
