"""What sentence-transformers makes of folders: run in its own environment, which the project does not need.

Argument: a JSON file {"texts": [...], "folders": {path: {"prompt_names": [name or null, ...], "save": path or null}}}.
Beside each folder appear <folder>-<prompt name or "default">.npy, (texts, dimensions) float32, one text at a time; and
under "save" the same model as sentence-transformers of today writes it. The last line printed is {"version": ...}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    import sentence_transformers  # type: ignore[import-not-found, unused-ignore]
    import torch  # type: ignore[import-not-found, unused-ignore]

    torch.set_num_threads(1)
    plan = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    for folder, wanted in plan["folders"].items():
        try:
            encode(sentence_transformers.SentenceTransformer(folder, device="cpu"), folder, plan["texts"], wanted)
        except Exception as error:
            raise SystemExit(f"{folder}: {error!r}") from error
    print(json.dumps({"version": sentence_transformers.__version__}))


def encode(model: Any, folder: str, texts: list[str], wanted: dict[str, Any]) -> None:
    for name in wanted["prompt_names"]:
        vectors = [model.encode(text, prompt_name=name, show_progress_bar=False) for text in texts]
        np.save(f"{folder}-{name or 'default'}.npy", np.stack(vectors).astype(np.float32))
    if wanted["save"]:
        model.save(wanted["save"], create_model_card=False)


if __name__ == "__main__":
    main()
