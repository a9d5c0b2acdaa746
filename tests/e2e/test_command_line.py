"""`embedserve` as a command: help, embed, check."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import pytest

import service
from tests.conftest import Golden, MakeBundle
from tests.e2e.process import clean_environment, command, run_command


def lines(done: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_refused(done: subprocess.CompletedProcess[bytes], *words: str) -> None:
    text = done.stderr.decode()
    assert done.returncode == 1, text
    assert "Traceback" not in text
    assert "→" in text
    for word in words:
        assert word in text


@pytest.mark.parametrize("arguments", [[], ["serve"], ["compile"], ["tune"], ["check"], ["embed"], ["key"]])
def test_help(arguments: list[str]) -> None:
    done = run_command(*arguments, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(b"usage: embedserve")
    assert done.stderr == b""


def test_version() -> None:
    done = run_command("--version")
    assert (done.returncode, done.stdout.decode()) == (0, f"embedserve {service.__version__}\n")


def test_check_of_a_good_bundle(bundle: Path) -> None:
    done = run_command("check", bundle)
    assert done.returncode == 0, done.stderr.decode()
    assert b"cosine" in done.stdout


def test_check_of_a_corrupt_bundle(make_bundle: MakeBundle) -> None:
    folder = make_bundle()
    graph = folder / "model.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.unlink()
    graph.write_bytes(content)
    assert_refused(run_command("check", folder), "model.onnx", "corrupt")


def test_check_of_no_bundle(tmp_path: Path) -> None:
    assert_refused(run_command("check", tmp_path), "is not a bundle: it has no bundle.json", "compile")


def test_check_of_no_folder(tmp_path: Path) -> None:
    assert_refused(run_command("check", tmp_path / "missing"), "missing does not exist", "name the folder of a bundle")


def test_compile_where_the_hub_cannot_be_reached(tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "EMBEDSERVE_CACHE_DIR": str(tmp_path)}
    done = run_command("compile", "organisation/model", env=env)
    assert_refused(done, "organisation/model could not be fetched", "unreachable", "put its files (config.json")


def test_a_bundle_is_not_served_in_another_precision(bundle: Path) -> None:
    assert_refused(run_command("serve", bundle, "--precision", "int8"), "is fp32, not int8", "--precision")


def test_an_unknown_precision_is_refused(bundle: Path) -> None:
    assert_refused(run_command("serve", bundle, "--precision", "fp8"), "precision", "int8")


def test_int8_is_compiled_on_demand_and_near_the_golden_vectors(golden: Golden, tmp_path: Path) -> None:
    source, output = tmp_path / "texts.jsonl", tmp_path / "vectors.npy"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in golden.texts), "utf-8")
    done = run_command("embed", source, "--precision", "int8", "--output", output)
    assert done.returncode == 0, done.stderr.decode()
    vectors = np.load(output)
    cosines = (vectors * golden.vectors).sum(axis=1) / np.linalg.norm(vectors, axis=1)
    assert cosines.min() > 0.99
    assert cosines.max() < 0.99999, "these are the vectors of fp32"


def test_embed_lines_to_jsonl(bundle: Path, golden: Golden, tmp_path: Path) -> None:
    texts = [text for text in golden.texts if text and not set(text) & set("\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029")]
    source = tmp_path / "texts.txt"
    source.write_text("".join(f"{text}\n" for text in texts), "utf-8")
    found = lines(run_command("embed", source, "--model", bundle))
    assert [one["text"] for one in found] == texts
    expected = golden.vectors[[golden.texts.index(text) for text in texts]]
    assert np.abs(np.array([one["embedding"] for one in found]) - expected).max() <= 1e-4


def test_embed_lines_to_npy(bundle: Path, golden: Golden, tmp_path: Path) -> None:
    source, output = tmp_path / "texts.txt", tmp_path / "vectors.npy"
    source.write_text("\n".join(["first", "", "third"] * 70), "utf-8")
    done = run_command("embed", source, "--output", output, "--model", bundle)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b""
    vectors = np.load(output)
    assert vectors.shape == (210, 384)
    assert vectors.dtype == np.float32
    assert np.abs(vectors[1] - golden.vectors[golden.texts.index("")]).max() <= 1e-4


def test_embed_jsonl_keeps_the_fields(bundle: Path, golden: Golden, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    records = [{"id": i, "body": text, "tags": [None, "é"]} for i, text in enumerate(golden.texts)]
    source.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    done = run_command("embed", source, "--field", "body", "--output", output, "--model", bundle)
    assert done.returncode == 0, done.stderr.decode()
    found = [json.loads(line) for line in output.read_bytes().splitlines()]
    assert [{name: one[name] for name in ("id", "body", "tags")} for one in found] == records
    assert np.abs(np.array([one["embedding"] for one in found]) - golden.vectors).max() <= 1e-4


def test_embed_jsonl_reads_the_field_text_by_default(bundle: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "a"}\n{"text": "b"}\n', "utf-8")
    assert [one["text"] for one in lines(run_command("embed", source, "--model", bundle))] == ["a", "b"]


def test_embed_standard_input(bundle: Path, golden: Golden) -> None:
    (only,) = lines(run_command("embed", "-", "--model", bundle, stdin=f"{golden.texts[0]}\n".encode()))
    assert np.abs(np.array(only["embedding"]) - golden.vectors[0]).max() <= 1e-4
    (only,) = lines(run_command("embed", "-", "--field", "t", "--model", bundle, stdin=b'{"t": "a", "n": 1}'))
    assert (only["t"], only["n"]) == ("a", 1)


def test_embed_nothing(bundle: Path, tmp_path: Path) -> None:
    assert lines(run_command("embed", "-", "--model", bundle)) == []
    output = tmp_path / "none.npy"
    assert run_command("embed", "-", "--output", output, "--model", bundle).returncode == 0
    assert len(np.load(output)) == 0


@pytest.mark.parametrize(
    ("bad", "number"),
    [
        (b"not JSON", 3),
        (b'{"txt": "a"}', 3),
        (b'{"text": 3}', 3),
        (b'{"text": null}', 3),
        (b"[]", 3),
        (b"3", 3),
        (b'{"text": "\\ud800"}', 3),
        (b'{"a": ' * 100_000, 3),
    ],
    ids=lambda value: str(value)[:30],
)
def test_embed_names_the_line_that_is_wrong(bundle: Path, tmp_path: Path, bad: bytes, number: int) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(b'{"text": "a"}\n{"text": "b"}\n' + bad + b'\n{"text": "d"}\n')
    assert_refused(run_command("embed", source, "--model", bundle), f"line {number}")


def test_embed_of_a_number_of_many_digits(bundle: Path) -> None:
    """It comes back as it was, or the line is named; it is not a defect of ours that shows."""
    done = run_command("embed", "-", "--field", "t", "--model", bundle, stdin=b'{"t": "a", "n": %d}' % 10**30)
    if done.returncode == 0:
        assert lines(done)[0]["n"] == 10**30
    else:
        assert_refused(done, "line 1")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_embed_of_what_is_not_utf_8(bundle: Path, tmp_path: Path, locale: str) -> None:
    source = tmp_path / "latin1.txt"
    source.write_bytes("Größe\n".encode("latin-1"))
    env = {"LC_ALL": locale}
    assert_refused(run_command("embed", source, "--model", bundle, env=env), "UTF-8")
    assert_refused(run_command("embed", "-", "--model", bundle, stdin=source.read_bytes(), env=env), "UTF-8")


def test_embed_reads_utf_8_in_the_c_locale(bundle: Path) -> None:
    stdin = "Größe 日本\n".encode()
    (only,) = lines(run_command("embed", "-", "--model", bundle, stdin=stdin, env={"LC_ALL": "C"}))
    assert only["text"] == "Größe 日本"


def test_embed_of_no_file(bundle: Path, tmp_path: Path) -> None:
    assert_refused(run_command("embed", tmp_path / "none.txt", "--model", bundle), "none.txt")
    assert_refused(run_command("embed", tmp_path, "--model", bundle), str(tmp_path))


@pytest.mark.parametrize("name", ["out.jsonl", "out.npy"])
def test_embed_where_it_cannot_write(bundle: Path, tmp_path: Path, name: str) -> None:
    output = tmp_path / "no-such-folder" / name
    assert_refused(run_command("embed", "-", "--output", output, "--model", bundle, stdin=b"a\n"), name)


def test_embed_with_an_unknown_prompt(bundle: Path) -> None:
    done = run_command("embed", "-", "--prompt-name", "no-such", "--model", bundle, stdin=b"a\n")
    assert_refused(done, "no-such")


def test_embed_with_a_prompt(make_bundle: MakeBundle) -> None:
    folder = make_bundle(prompts={"query": "query: "})
    (plain,) = lines(run_command("embed", "-", "--model", folder, stdin=b"query: cats\n"))
    (prompted,) = lines(run_command("embed", "-", "--prompt-name", "query", "--model", folder, stdin=b"cats\n"))
    assert np.abs(np.array(plain["embedding"]) - np.array(prompted["embedding"])).max() <= 1e-5


def test_embed_into_a_closed_pipe(bundle: Path, tmp_path: Path) -> None:
    """As in `embedserve embed … | head -1`."""
    source = tmp_path / "texts.txt"
    source.write_text("word\n" * 2000, "utf-8")
    process = subprocess.Popen(
        command("embed", source, "--model", bundle),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith(b"{")
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.wait(timeout=30)


def test_embed_long_input_policies(bundle: Path) -> None:
    text = b"word " * 600 + b"\n"
    chunked, cut = (
        np.array(lines(run_command("embed", "-", "--long-input", how, "--model", bundle, stdin=text))[0]["embedding"])
        for how in ("chunk", "truncate")
    )
    assert chunked.shape == cut.shape == (384,)
    done = run_command("embed", "-", "--long-input", "reject", "--model", bundle, stdin=b"a\n" + text)
    assert_refused(done, "602 tokens")


def test_embed_with_chunks(bundle: Path, tmp_path: Path) -> None:
    text = "\n\n".join(f"Paragraph {i} says something of its own, at some length." for i in range(60))
    source = tmp_path / "documents.jsonl"
    source.write_text(json.dumps({"text": text, "chunks": "are overwritten"}) + "\n", "utf-8")
    (found,) = lines(run_command("embed", source, "--model", bundle, "--return-chunks", "--chunk-max-tokens", "64"))
    spans = [text[chunk["start"] : chunk["end"]] for chunk in found["chunks"]]
    assert len(spans) > 10
    assert "\n\n".join(spans) == text
    vectors = np.array([chunk["embedding"] for chunk in found["chunks"]])
    mean = np.average(vectors, axis=0, weights=[chunk["token_count"] for chunk in found["chunks"]])
    assert np.abs(mean / np.linalg.norm(mean) - found["embedding"]).max() <= 1e-5


def test_embed_has_no_limit_of_tokens(bundle: Path, tmp_path: Path) -> None:
    source = tmp_path / "long.txt"
    source.write_text("word " * 2_000 + "\n", "utf-8")
    env = {"EMBEDSERVE_MAX_REQUEST_TOKENS": "100", "EMBEDSERVE_MAX_QUEUE_TOKENS": "100", "EMBEDSERVE_MAX_CHUNKS": "1"}
    assert len(lines(run_command("embed", source, "--model", bundle, env=env))) == 1


def test_no_limit_of_a_server_refuses_a_group_of_texts(bundle: Path, tmp_path: Path) -> None:
    """Seven groups wait before one of less than an eighth of their work, where a server lets next to nothing wait."""
    draw = random.Random(0)
    texts = [" ".join(draw.choices(ascii_lowercase, k=38)) for _ in range(7 * 64)]
    texts += [" ".join(draw.choices(ascii_lowercase, k=31)) for _ in range(64)]
    (source := tmp_path / "texts.txt").write_text("\n".join(texts))
    env = {"EMBEDSERVE_EXECUTORS": "1", "EMBEDSERVE_MAX_QUEUE_SECONDS": "0.001"}
    found = lines(run_command("embed", source, "--model", bundle, env=env))
    assert [one["text"] for one in found] == texts


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("embed", "-", "--return-chunks", "--output", "x.npy"), "no room for chunks"),
        (("embed", "-", "--chunk-overlap", "254"), "less than the 254 tokens"),
        (("serve", "--port", "0", "--chunk-max-tokens", "257"), "from 3 to 256"),
        (("serve", "--port", "0", "--chunk-boundary", "page"), "chunk_boundary"),
        (("serve", "--port", "0", "--max-input-tokens", "2"), "has 4 tokens"),
    ],
)
def test_chunks_that_cannot_be_had_are_refused_at_once(bundle: Path, command: tuple[str, ...], says: str) -> None:
    assert_refused(run_command(*command, env={"EMBEDSERVE_MODEL": str(bundle)}, stdin=b"a\n"), says)


def test_flags_are_not_guessed_from_their_beginnings(bundle: Path) -> None:
    done = run_command("serve", "--model", bundle)  # which is no word for --model-aliases
    assert done.returncode == 2
    assert b"--model" in done.stderr


def test_embed_says_what_was_cut_off_and_names_what_is_too_long(bundle: Path, tmp_path: Path) -> None:
    source = tmp_path / "texts.txt"
    source.write_text("short\n" * 69 + "word " * 400 + "\nshort\n", "utf-8")
    done = run_command("embed", source, "--model", bundle, "--long-input", "truncate")
    assert [i for i, one in enumerate(lines(done), 1) if one.get("truncated")] == [70]
    assert b"71 texts embedded, 1 of them cut off" in done.stderr
    assert_refused(run_command("embed", source, "--model", bundle, "--long-input", "reject"), "line 70", "402 tokens")
