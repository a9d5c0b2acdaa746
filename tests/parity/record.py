"""Records the vectors that sentence-transformers gives for texts.json, the measure of the compiler's graphs.

sentence-transformers and torch are no dependencies of the project; give them an environment of their own:

    pip install torch==2.13.0 'sentence-transformers>=5,<6'     (a CPU build of torch is enough)

CHECKPOINT is the sentence-transformers folder of all-MiniLM-L6-v2. Written are

    tests/parity/all-MiniLM-L6-v2.npz     vectors (texts, 384) float32; tokens (texts,) int64, with specials
    tests/parity/all-MiniLM-L6-v2.json    the versions and the weights that gave them
    models/golden/all-MiniLM-L6-v2.json   `service.bundle.Golden`: the first eight texts, packaged for `check`
"""

from __future__ import annotations

import argparse
import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
MODEL = "all-MiniLM-L6-v2"
TEXTS = HERE / "texts.json"
VECTORS = HERE / f"{MODEL}.npz"
META = HERE / f"{MODEL}.json"
GOLDEN = HERE.parents[1] / "models" / "golden" / f"{MODEL}.json"
GOLDEN_TEXTS = 8
WEIGHTS = "model.safetensors"

Vectors = NDArray[np.float32]


def load_model(checkpoint: Path) -> Any:
    """The reference, in float32 on one thread, so that a second run gives the same bits."""
    import torch  # type: ignore[import-not-found, unused-ignore]
    from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found, unused-ignore]

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    return SentenceTransformer(str(checkpoint), device="cpu", model_kwargs={"dtype": torch.float32})


def count_tokens(model: Any, text: str) -> int:
    """Tokens of `text` without truncation, special tokens included. Fails where the model would truncate."""
    whole = len(model.tokenizer(text, truncation=False, padding=False)["input_ids"])
    if whole > model.max_seq_length:
        raise SystemExit(f"{whole} tokens, the model reads {model.max_seq_length}: {text!r}")
    read = int(model.preprocess([text])["attention_mask"].sum())
    if read != whole:
        raise SystemExit(f"the model reads {read} of {whole} tokens: {text!r}")
    return whole


def embed(model: Any, texts: list[str]) -> Vectors:
    """(texts, dimensions), one text at a time: nothing is padded, no text meets another."""
    return np.stack([model.encode(text, show_progress_bar=False) for text in texts]).astype(np.float32)


def golden_json(reference: str, texts: list[str], vectors: Vectors) -> str:
    """One text or vector a line; nine significant digits bring every float32 back."""
    quoted = ",\n".join(json.dumps(text) for text in texts)
    rows = ",\n".join("[" + ",".join(f"{x:.9g}" for x in vector) + "]" for vector in vectors)
    return f'{{"reference": {json.dumps(reference)},\n"texts": [\n{quoted}],\n"vectors": [\n{rows}]}}\n'


def report_change(vectors: Vectors) -> None:
    """Prints how far `vectors` are from those recorded before."""
    if not VECTORS.exists():
        return
    before: Vectors = np.load(VECTORS)["vectors"]
    if before.shape != vectors.shape:
        print(f"shape was {before.shape}, is {vectors.shape}")
    elif np.array_equal(before, vectors):
        print("identical to the vectors recorded before, bit for bit")
    else:
        print(f"largest difference from the vectors recorded before: {np.abs(before - vectors).max():.3g}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help=f"folder with {WEIGHTS}")
    checkpoint: Path = parser.parse_args().checkpoint
    if not (checkpoint / WEIGHTS).is_file():
        parser.error(f"{checkpoint} has no {WEIGHTS}")

    texts: list[str] = json.loads(TEXTS.read_text("utf-8"))
    model = load_model(checkpoint)
    tokens = np.array([count_tokens(model, text) for text in texts], np.int64)  # (texts,)
    vectors = embed(model, texts)
    report_change(vectors)

    np.savez(VECTORS, vectors=vectors, tokens=tokens)
    meta = {
        "model": f"sentence-transformers/{MODEL}",
        "sentence-transformers": version("sentence-transformers"),
        "transformers": version("transformers"),
        "torch": version("torch"),
        WEIGHTS: hashlib.sha256((checkpoint / WEIGHTS).read_bytes()).hexdigest(),
    }
    META.write_text(json.dumps(meta, indent=2) + "\n", "utf-8")
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    reference = f"sentence-transformers {meta['sentence-transformers']}"
    GOLDEN.write_text(golden_json(reference, texts[:GOLDEN_TEXTS], vectors[:GOLDEN_TEXTS]), "utf-8")
    for path in (VECTORS, META, GOLDEN):
        print(f"{path}: {path.stat().st_size:,} bytes")
    print(f"{len(texts)} texts of {tokens.min()} to {tokens.max()} tokens")


if __name__ == "__main__":
    main()
