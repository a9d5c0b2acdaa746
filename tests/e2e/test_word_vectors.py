"""A file of word vectors, served as it is: `embedserve serve glove.txt`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.cli import main
from tests.conftest import StartServer
from tests.e2e.process import Server, Vectors, run_command
from tests.models import words
from tests.models.words import WORDS

ROWS = words.rows()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words.write(tmp_path_factory.mktemp("words") / "glove.tiny.6d.txt", words.text(WORDS, ROWS))


@pytest.fixture(scope="module")
def server(launch: StartServer, file: Path) -> Iterator[Server]:
    started = launch(model=file, env={"EMBEDSERVE_CACHE_DIR": str(file.parent / "cache")})
    yield started
    started.stop()


def raw(server: Server, text: str) -> Vectors:
    """As the model gives it: not normalised."""
    reply = server.post("/embed", {"inputs": text, "normalize": False})
    assert reply.status_code == 200, reply.text
    return np.array(reply.json()[0], np.float32)


def test_it_is_called_as_its_file(server: Server) -> None:
    (model,) = server.http.get("/v1/models").json()["data"]
    assert model["id"] == "glove.tiny.6d"


def test_vectors_are_means_of_rows_and_unit_where_the_dialect_promises_it(server: Server) -> None:
    mean = ROWS[:2].mean(0)
    np.testing.assert_allclose(raw(server, "The mill"), mean, atol=1e-6)
    found = server.embed(["the mill", "unknown", ""], model=None)
    np.testing.assert_allclose(found, [mean / np.linalg.norm(mean), 0 * mean, 0 * mean], atol=1e-6)


def test_usage_counts_known_words(server: Server) -> None:
    reply = server.post("/v1/embeddings", {"model": None, "input": ["the unknown mill", ""]})
    assert reply.json()["usage"]["prompt_tokens"] == 2


def test_chunks_of_a_long_text_come_to_the_mean_of_its_words(server: Server) -> None:
    text = "the mill. " * 50 + "river " * 11
    whole = raw(server, text)
    reply = server.post("/v1/embeddings", {"model": None, "input": text, "chunking": {"max_tokens": 16}})
    assert reply.status_code == 200, reply.text
    chunked = np.array(reply.json()["data"][0]["embedding"], np.float32)
    np.testing.assert_allclose(chunked, whole / np.linalg.norm(whole), atol=1e-5)
    expected = (50 * ROWS[0] + 50 * ROWS[1] + 11 * ROWS[2]) / 111
    np.testing.assert_allclose(whole, expected, atol=1e-5)


def test_a_text_beyond_any_row_is_the_mean_of_all_its_words(server: Server) -> None:
    np.testing.assert_allclose(
        raw(server, "the " * 60_000 + "mill " * 20_000), 0.75 * ROWS[0] + 0.25 * ROWS[1], rtol=1e-3
    )


def test_tokens_and_their_vectors(server: Server) -> None:
    (pieces,) = server.post("/tokenize", {"inputs": "The unknown, mill"}).json()
    assert [(one["text"], one["start"], one["stop"]) for one in pieces] == [
        ("The", 0, 3),
        (",", 11, 12),
        ("mill", 13, 17),
    ]
    (states,) = server.post("/embed_all", {"inputs": "the mill"}).json()
    np.testing.assert_allclose(states, ROWS[:2], atol=1e-6)
    assert server.post("/decode", {"ids": [0, 1]}).json() == ["the mill"]


def test_a_bad_file_is_explained_in_a_line(tmp_path: Path) -> None:
    bad = words.write(tmp_path / "bad.txt", words.text(WORDS, ROWS) + b"late 1 2 3\n")
    done = run_command("compile", bad, "--cache-dir", tmp_path / "cache")
    assert done.returncode == 1
    assert b"bad.txt: line 10 has 3 numbers after its word, not 6" in done.stderr
    assert b"Traceback" not in done.stderr


def test_where_there_is_a_gpu_word_vectors_are_compiled_for_the_cpu_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of CUDA is needed for that: the refusal comes before anything is run on a device."""
    file = tmp_path / "words.txt"
    file.write_text("river 1 0\nmill 0 1\n")
    texts = tmp_path / "texts.txt"
    texts.write_text("river\n")
    monkeypatch.setenv("EMBEDSERVE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("service.runtime.preflight.targets_for", lambda wish, **_: ("cuda", "cpu"))
    assert main(["embed", str(texts), "--model", str(file)]) == 0
    said = capsys.readouterr()
    assert "not for cuda: static embeddings" in said.err
    assert '"embedding":[1.0,0.0]' in said.out.replace(" ", "")
