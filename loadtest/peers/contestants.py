"""Who is compared, with which packages and options.

Everyone has the same checkpoint in fp32, normalises its vectors and has all cores; threads are left as each chooses
them. Options are the documented defaults. Two read an ONNX export of the checkpoint, made once by `optimum-cli`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from loadtest.peers.environments import ROOT, Environment, run

_SERVERS = Path(__file__).parent / "servers"
_EXPORT = ROOT / "export"
_EXPORT_SECONDS = 600
_LENGTH = 256  # tokens that all-MiniLM-L6-v2 reads
_TORCH = "torch==2.13.0"
_HTTP = ("fastapi", "uvicorn[standard]")

INFINITY_TORCH = Environment(
    "infinity", ("infinity-emb[server,torch]==0.0.78", "transformers<5", _TORCH), ("infinity-emb", "torch")
)
# Its own optimisation of the graph does not know this optimum, and says so; ONNX Runtime's own is what is left. With
# the optimum that it knows, it does not start beside this torch.
INFINITY_OPTIMUM = Environment(
    "infinity-optimum",
    ("infinity-emb[optimum,server,torch]==0.0.78", "optimum-onnx[onnxruntime]==0.1.0", "transformers<5", _TORCH),
    ("infinity-emb", "optimum-onnx", "onnxruntime"),
)
SENTENCE_TRANSFORMERS = Environment(
    "sentence-transformers", ("sentence-transformers>=5", _TORCH, *_HTTP), ("sentence-transformers", "torch", "fastapi")
)
FASTEMBED = Environment("fastembed", ("fastembed>=0.8", *_HTTP), ("fastembed", "onnxruntime", "fastapi"))


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server. `command` makes its command line of the checkpoint's folder and a port."""

    name: str
    environment: Environment
    path: str  # of the embeddings
    settings: str  # in words
    command: Callable[[Path, int], list[str]]
    folder: Path | None = None  # where it runs
    needs_export: bool = False


def _infinity_torch(checkpoint: Path, port: int) -> list[str]:
    return [INFINITY_TORCH.program("infinity_emb"), "v2", "--model-id", str(checkpoint), *_infinity(port)]


def _infinity_optimum(_: Path, port: int) -> list[str]:
    # It finds a local graph by a relative path only.
    options = ["--engine", "optimum", "--pooling-method", "mean"]
    return [INFINITY_OPTIMUM.program("infinity_emb"), "v2", "--model-id", ".", *options, *_infinity(port)]


def _infinity(port: int) -> list[str]:
    return ["--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]


def _sentence_transformers(checkpoint: Path, port: int) -> list[str]:
    script = str(_SERVERS / "sentence_transformers_server.py")
    return [SENTENCE_TRANSFORMERS.program("python"), script, str(checkpoint), str(port)]


def _fastembed(_: Path, port: int) -> list[str]:
    return [FASTEMBED.program("python"), str(_SERVERS / "fastembed_server.py"), str(_EXPORT), str(port)]


CONTESTANTS = (
    Contestant("infinity (torch)", INFINITY_TORCH, "/embeddings", "its defaults", _infinity_torch),
    Contestant(
        "infinity (optimum)",
        INFINITY_OPTIMUM,
        "/embeddings",
        "`--engine optimum`, its documented choice for CPUs, on an ONNX export",
        _infinity_optimum,
        _EXPORT,
        needs_export=True,
    ),
    Contestant(
        "sentence-transformers + FastAPI",
        SENTENCE_TRANSFORMERS,
        "/v1/embeddings",
        "one route that calls `encode`, in FastAPI's thread pool",
        _sentence_transformers,
    ),
    Contestant(
        "fastembed + FastAPI",
        FASTEMBED,
        "/v1/embeddings",
        "one route that calls `embed` on the ONNX export as a custom model, in FastAPI's thread pool",
        _fastembed,
        needs_export=True,
    ),
)


def export(checkpoint: Path, say: Callable[[str], None]) -> None:
    """The checkpoint as optimum exports it, once. Raises RuntimeError."""
    if (_EXPORT / "model.onnx").exists():
        return
    INFINITY_OPTIMUM.make(say)
    say("exporting the checkpoint to ONNX")
    options = ["--task", "feature-extraction", "--library", "transformers"]
    command = ["export", "onnx", "--model", str(checkpoint), *options, str(_EXPORT)]
    run([INFINITY_OPTIMUM.program("optimum-cli"), *command], _EXPORT_SECONDS)
    _let_it_read_whole_texts(_EXPORT / "tokenizer_config.json")


def _let_it_read_whole_texts(path: Path) -> None:
    """The checkpoint's tokenizer says 128 tokens, sentence-transformers' settings beside it 256; fastembed knows only
    the first, and would compute half of what the others do."""
    config = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(config | {"max_length": _LENGTH, "model_max_length": _LENGTH}), "utf-8")


def environment_variables() -> Mapping[str, str]:
    """This process's, and that nothing is to be fetched or reported while servers run."""
    offline = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    return {**os.environ, **offline, "HF_HOME": str(ROOT / "huggingface")}
