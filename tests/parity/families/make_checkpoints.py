"""Makes the matrix's checkpoints, and the vectors that sentence-transformers gives for its texts.

Runs as a script in an environment with torch, transformers and sentence-transformers, which the project does not need.
Arguments: a JSON file {"rows": [fields of `rows.Row`], "texts": [...]}, and a folder to write. Written are

    FOLDER/<row's name>/                a sentence-transformers folder
    FOLDER/<row's name>.npy             (texts, dimensions) float32, one text at a time

The last line printed is a JSON object of the versions that gave them.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

SEED = 6
SPREAD = 2.0
TOKENS = 400  # of a vocabulary, at most

PAD, UNKNOWN, FIRST, LAST = "<pad>", "<unk>", "<s>", "</s>"
SPECIAL = [FIRST, PAD, LAST, UNKNOWN]  # RoBERTa's order: its positions begin behind the padding's id


def main() -> None:
    import torch  # type: ignore[import-not-found, unused-ignore]

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    plan = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    folder = Path(sys.argv[2])
    for row in plan["rows"]:
        try:
            make(row, plan["texts"], folder)
        except Exception as error:
            raise SystemExit(f"{row['name']}: {error!r}") from error
    print(json.dumps({name: version(name) for name in ("torch", "transformers", "sentence-transformers")}))


def make(row: dict[str, Any], texts: list[str], folder: Path) -> None:
    """One row's folder and vectors, the latter from the folder as it was saved."""
    from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found, unused-ignore]

    place = folder / row["name"]
    tokenizer = train_tokenizer(row["tokenizer"], texts)
    with TemporaryDirectory() as encoder:
        make_encoder(row, tokenizer).save_pretrained(encoder)
        save_tokenizer(tokenizer, encoder)
        assemble(row, encoder).save(str(place), create_model_card=False)
    model = SentenceTransformer(str(place), device="cpu")
    vectors = np.stack([model.encode(text, show_progress_bar=False) for text in texts]).astype(np.float32)
    np.save(folder / f"{row['name']}.npy", vectors)


def make_encoder(row: dict[str, Any], tokenizer: Any) -> Any:
    """Weights spread so wide that attention is far from uniform, and every tensor matters."""
    import torch
    import transformers  # type: ignore[import-not-found, unused-ignore]

    ids = {f"{name}_token_id": tokenizer.token_to_id(token) for name, token in _ROLES.items()}
    settings = {"vocab_size": tokenizer.get_vocab_size(), **ids, **row["config"]}
    config = transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
    kind = getattr(transformers, row["model_class"])
    encoder = kind.from_config(config) if row["model_class"].startswith("Auto") else kind(config)
    generator = torch.Generator().manual_seed(SEED)
    embeddings = {id(module.weight) for module in encoder.modules() if isinstance(module, torch.nn.Embedding)}
    with torch.no_grad():
        for parameter in encoder.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim < 2:  # biases, and scales of normalisations about what they begin with
                parameter.add_(0.3 * noise)
            elif id(parameter) in embeddings:
                parameter.copy_(noise)
            else:
                parameter.copy_(noise * SPREAD / parameter.shape[-1] ** 0.5)
    return encoder.eval()


def assemble(row: dict[str, Any], encoder: str) -> Any:
    """The encoder of that folder and the modules after it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules as kinds  # type: ignore[import-not-found, unused-ignore]

    transformer = kinds.Transformer(encoder, max_seq_length=row["max_seq_length"])
    modules = [transformer, kinds.Pooling(transformer.get_embedding_dimension(), pooling_mode=row["pooling"])]
    if row["normalize"]:
        modules.append(kinds.Normalize())
    return SentenceTransformer(modules=modules, device="cpu", **row["settings"])


_ROLES = {"pad": PAD, "bos": FIRST, "eos": LAST, "cls": FIRST, "sep": LAST}


def train_tokenizer(kind: str, texts: list[str]) -> Any:
    """A tokenizer of its kind as large models have them, with some hundred tokens learnt from `texts`: always the same.

    The library's trainers for WordPiece and Unigram are not asked: they break ties in another way in each process.
    """
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    match kind:
        case "wordpiece":
            tokenizer = Tokenizer(models.WordPiece())
            tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
            tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
            tokenizer.decoder = decoders.WordPiece()
            names = [*SPECIAL, *_pieces(tokenizer, texts, "##")]
            tokenizer.model = models.WordPiece({name: i for i, name in enumerate(names)}, unk_token=UNKNOWN)
        case "bpe":
            tokenizer = Tokenizer(models.BPE())
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = decoders.ByteLevel()
            alphabet = pre_tokenizers.ByteLevel.alphabet()
            trainer = trainers.BpeTrainer(
                vocab_size=TOKENS, initial_alphabet=alphabet, special_tokens=SPECIAL, show_progress=False
            )
            tokenizer.train_from_iterator(texts, trainer)
        case "unigram":
            tokenizer = Tokenizer(models.Unigram())
            tokenizer.normalizer = normalizers.NFKC()
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
            tokenizer.decoder = decoders.Metaspace()
            counts = _pieces(tokenizer, texts, "")
            scores = [(piece, math.log(count / counts.total())) for piece, count in counts.items()]
            tokenizer.model = models.Unigram([*((name, 0.0) for name in SPECIAL), *scores], SPECIAL.index(UNKNOWN))
        case _:
            raise ValueError(f"tokenizer {kind}")
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{FIRST} $A {LAST}",
        pair=f"{FIRST} $A {LAST} $B:1 {LAST}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (FIRST, LAST)],
    )
    return tokenizer


def _pieces(tokenizer: Any, texts: list[str], continuing: str) -> Counter[str]:
    """All letters of the texts, and the commonest beginnings and ends of their words, the commonest first.

    What does not begin a word is marked with `continuing`.
    """
    letters, longer = Counter[str](), Counter[str]()
    for text in texts:
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text)):
            letters.update([word[0], *(continuing + letter for letter in word[1:])])
            longer.update(word[:end] for end in range(2, len(word) + 1))
            longer.update(continuing + word[begin:] for begin in range(1, len(word) - 1))
    ranked = sorted(longer.items(), key=lambda item: (-item[1], item[0]))
    room = max(0, TOKENS - len(SPECIAL) - len(letters))
    return Counter(dict([*sorted(letters.items()), *ranked[:room]]))


def save_tokenizer(tokenizer: Any, folder: str) -> None:
    """As transformers does, without a class of its own: the file alone decides what the tokens are."""
    from transformers import PreTrainedTokenizerFast

    roles = {f"{name}_token": token for name, token in _ROLES.items()} | {"unk_token": UNKNOWN}
    inputs = ["input_ids", "attention_mask"]
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **roles).save_pretrained(folder)


if __name__ == "__main__":
    main()
