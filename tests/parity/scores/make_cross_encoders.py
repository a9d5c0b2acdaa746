"""Makes tiny cross-encoders, and the scores that sentence-transformers' CrossEncoder gives for pairs of texts.

Runs as a script in an environment with torch, transformers and sentence-transformers. Arguments: a JSON file
{"rows": [fields of `rows.Row`], "pairs": [[first, second], ...], "texts": [...]}, and a folder to write. Written are

    FOLDER/<row's name>/                a CrossEncoder's folder, in the form of the row's version
    FOLDER/<row's name>.npz             scores, logits (pairs, labels) and single (texts, labels), one at a time
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.parity.families.make_checkpoints import make_encoder, save_tokenizer, train_tokenizer


def main() -> None:
    import torch  # type: ignore[import-not-found, unused-ignore]

    torch.set_num_threads(1)
    plan = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    folder = Path(sys.argv[2])
    for row in plan["rows"]:
        try:
            make(row, plan["pairs"], plan["texts"], folder)
        except Exception as error:
            raise SystemExit(f"{row['name']}: {error!r}") from error
    print(json.dumps(len(plan["rows"])))


def make(row: dict[str, Any], pairs: list[list[str]], texts: list[str], folder: Path) -> None:
    """One row's folder and scores, the latter from the folder as it was saved."""
    from sentence_transformers import CrossEncoder  # type: ignore[import-not-found, unused-ignore]
    from torch import nn

    place = folder / row["name"]
    tokenizer = train_tokenizer(row["tokenizer"], [text for pair in pairs for text in pair] + texts)
    _set_template(tokenizer, row["separators"])
    classifier = {**row, "model_class": "AutoModelForSequenceClassification"}
    with TemporaryDirectory() as encoder:
        make_encoder(classifier, tokenizer).save_pretrained(encoder)
        save_tokenizer(tokenizer, encoder)
        activation = getattr(nn, row["activation"])() if row["activation"] else None
        saved = CrossEncoder(encoder, device="cpu", activation_fn=activation, max_length=row["max_length"])
        saved.save(str(place), create_model_card=False)
    _as_older(place, row)
    model = CrossEncoder(str(place), device="cpu")
    width = model.num_labels

    def predict(inputs: list[Any], **options: Any) -> Any:
        found = [model.predict([one], show_progress_bar=False, **options) for one in inputs]
        return np.stack(found).astype(np.float32).reshape(len(inputs), width)

    logits = predict(pairs, activation_fn=nn.Identity())
    # A text alone is no CrossEncoder's input, so that the model itself is asked.
    single = np.concatenate([_alone(model, text) for text in texts])
    np.savez(folder / f"{row['name']}.npz", scores=predict(pairs), logits=logits, single=single)


def _alone(model: Any, text: str) -> Any:
    import torch

    limit = {"truncation": True, "max_length": model.max_seq_length}
    with torch.no_grad():
        return model.model(**model.tokenizer(text, return_tensors="pt", **limit)).logits.numpy()


def _set_template(tokenizer: Any, separators: int) -> None:
    """RoBERTa and its relatives put two separators between the texts."""
    from tokenizers import processors

    between = " ".join(["</s>"] * separators)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair=f"<s> $A {between} $B:1 </s>:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")],
    )


def _as_older(place: Path, row: dict[str, Any]) -> None:
    """The folder as an older version would have written it."""
    names = json.loads((place / "tokenizer_config.json").read_text("utf-8"))
    names["model_input_names"] = ["input_ids", *(["token_type_ids"] if row["segments"] else []), "attention_mask"]
    (place / "tokenizer_config.json").write_text(json.dumps(names), "utf-8")
    if row["form"] == "modules":
        return
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (place / name).unlink()
    if row["activation"]:
        config = json.loads((place / "config.json").read_text("utf-8"))
        path = {"Identity": "torch.nn.modules.linear.Identity"}.get(row["activation"])
        path = path or f"torch.nn.modules.activation.{row['activation']}"
        older = {"sentence_transformers": {"activation_fn": path, "version": "4.1.0"}}
        config |= older if row["form"] == "config" else {"sbert_ce_default_activation_function": path}
        (place / "config.json").write_text(json.dumps(config), "utf-8")


if __name__ == "__main__":
    main()
