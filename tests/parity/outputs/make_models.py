"""Makes checkpoints of SparseEncoder and MultiVectorEncoder, and what they give; run where sentence-transformers is.

Arguments: a JSON file {"rows": [{"name", "kind": "sparse" | "late", "config", "tokenizer", …}], "texts": [...]}, and a
folder to write. Written are, one text at a time,

    FOLDER/<name>/                  the checkpoint
    FOLDER/<name>.npy               sparse: (texts, vocabulary) float32
    FOLDER/<name>-<role>.npz        late: one (tokens, width) float32 a text, for the roles query and document
    PLACE-<role>.npz                the same of each of "late_folders", which are there already

The last line printed is a JSON object of the version that gave them.
"""

from __future__ import annotations

import json
import string
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "families"))

from make_checkpoints import (  # type: ignore[import-not-found, unused-ignore]
    make_encoder,
    save_tokenizer,
    train_tokenizer,
)


def main() -> None:
    import sentence_transformers  # type: ignore[import-not-found, unused-ignore]
    import torch  # type: ignore[import-not-found, unused-ignore]

    torch.set_num_threads(1)
    plan = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    folder = Path(sys.argv[2])
    for row in plan["rows"]:
        try:
            {"sparse": make_sparse, "late": make_late}[row["kind"]](row, plan["texts"], folder)
        except Exception as error:
            raise SystemExit(f"{row['name']}: {error!r}") from error
    for path in map(Path, plan["late_folders"]):
        encode_late(path, plan["texts"])
    print(json.dumps({"version": sentence_transformers.__version__}))


def make_sparse(row: dict[str, Any], texts: list[str], folder: Path) -> None:
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import SpladePooling  # type: ignore[import-not-found, unused-ignore]

    place = folder / row["name"]
    with TemporaryDirectory() as encoder:
        save_encoder({**row, "model_class": "AutoModelForMaskedLM"}, texts, encoder)
        model = SparseEncoder(encoder, device="cpu")
        model[1] = SpladePooling(**row["pooling"])
        model.max_seq_length = 48
        model.save(str(place), create_model_card=False)
    model = SparseEncoder(str(place), device="cpu")
    found = [model.encode(text, convert_to_sparse_tensor=False, show_progress_bar=False) for text in texts]
    np.save(folder / f"{row['name']}.npy", np.stack([one.numpy() for one in found]).astype(np.float32))


def make_late(row: dict[str, Any], texts: list[str], folder: Path) -> None:
    import torch
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Normalize, Transformer  # type: ignore[import-not-found, unused-ignore]
    from sentence_transformers.base.modules.dense import Dense  # type: ignore[import-not-found, unused-ignore]
    from sentence_transformers.multi_vector_encoder.modules import (  # type: ignore[import-not-found, unused-ignore]
        MultiVectorMask,
    )

    of_tokens = {"module_input_name": "token_embeddings"}
    place = folder / row["name"]
    torch.manual_seed(1)
    with TemporaryDirectory() as encoder:
        save_encoder({**row, "model_class": "AutoModel"}, texts, encoder)
        transformer = Transformer(encoder, **row["reading"])
        width = transformer.get_embedding_dimension()
        modules = [
            transformer,
            Dense(width, 24, bias=False, activation_function=torch.nn.Identity(), use_residual=True, **of_tokens),
            MultiVectorMask(skiplist_words=list(string.punctuation), skiplist_tasks=row["skiplist_tasks"]),
            Normalize(**of_tokens),
        ]
        MultiVectorEncoder(modules=modules, prompts=row["prompts"], device="cpu").save(
            str(place), create_model_card=False
        )
    encode_late(place, texts)


def encode_late(place: Path, texts: list[str]) -> None:
    from sentence_transformers import MultiVectorEncoder

    model = MultiVectorEncoder(str(place), device="cpu")
    for role, encode in (("query", model.encode_query), ("document", model.encode_document)):
        found = [encode(text, convert_to_numpy=True, show_progress_bar=False) for text in texts]
        np.savez(f"{place}-{role}.npz", *found)


def save_encoder(row: dict[str, Any], texts: list[str], place: str) -> None:
    import torch

    tokenizer = train_tokenizer(row["tokenizer"], texts)
    encoder = make_encoder(row, tokenizer)
    if "logits" in row:
        *_, last = (module for module in encoder.modules() if isinstance(module, torch.nn.LayerNorm))
        with torch.no_grad():
            last.weight.mul_(row["logits"])
            last.bias.mul_(row["logits"])
    encoder.save_pretrained(place)
    save_tokenizer(tokenizer, place)


if __name__ == "__main__":
    main()
