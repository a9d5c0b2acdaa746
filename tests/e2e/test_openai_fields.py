"""The fields that Jina, Voyage, Cohere, NVIDIA NIM and vLLM added to /v1/embeddings."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from service.choices import OutputDtype
from service.postprocess import quantize
from service.prompts import INPUT_TYPES
from tests.conftest import Golden, MakeBundle, StartServer
from tests.e2e.process import DIMENSIONS, Server, assert_openai_error, cosines, openai_vectors

LONG = "The cat sat on the mat and looked at the sea. " * 60  # 720 tokens
NUMPY = {"int8": "i1", "uint8": "u1", "binary": "i1", "ubinary": "u1"}
PROMPTS = {"query": "query: ", "passage": "passage: ", "text-matching": "same: ", "odd name": "odd: "}


@pytest.fixture(scope="module")
def prompted(launch: StartServer, make_bundle: MakeBundle) -> Server:
    """The model with prompts, which it reads as what it is: text in front."""
    return launch(model=make_bundle(prompts=PROMPTS))


@pytest.fixture(scope="module")
def matryoshka(launch: StartServer, make_bundle: MakeBundle) -> Server:
    """The model as if it had been trained for shorter vectors, one of them of no whole bytes of bits."""
    return launch(model=make_bundle(matryoshka_dimensions=[256, 100]))


def refused(server: Server, **fields: Any) -> dict[str, Any]:
    """The error of a request that must fail with 400."""
    return assert_openai_error(server.post("/v1/embeddings", {"input": "a"} | fields), 400)


def reply_of(server: Server, **fields: Any) -> Any:
    reply = server.post("/v1/embeddings", fields)
    assert reply.status_code == 200, reply.text
    return reply


def test_a_reply_of_megabytes_is_whole(server: Server) -> None:
    """It is written in many parts, of which a system call takes a thousand at most."""
    texts = [f"text {i}" for i in range(600)]
    numbers, binary = (
        openai_vectors(reply_of(server, input=texts, encoding_format=one)) for one in ("float", "base64")
    )
    assert numbers.shape == (600, DIMENSIONS)
    assert np.array_equal(numbers, binary)
    assert len({row.tobytes() for row in numbers}) == 600


# --- prompts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({"prompt_name": "query"}, "query: "),
        ({"prompt_name": "odd name"}, "odd: "),
        ({"input_type": "query"}, "query: "),
        ({"input_type": "search_query"}, "query: "),
        ({"input_type": "document"}, "passage: "),
        ({"input_type": "passage"}, "passage: "),
        ({"input_type": "search_document"}, "passage: "),
        ({"input_type": "odd name"}, "odd: "),
        ({"task": "retrieval.query"}, "query: "),
        ({"task": "retrieval.passage"}, "passage: "),
        ({"task": "text-matching"}, "same: "),
        ({"task": "code.query"}, "query: "),
        ({"task": "clustering"}, ""),
        ({"input_type": None, "task": None, "prompt_name": None}, ""),
        ({"task": "retrieval.query", "input_type": "query", "prompt_name": "query"}, "query: "),
    ],
)
def test_prompts(prompted: Server, server: Server, fields: dict[str, Any], prompt: str) -> None:
    texts = ["What do cats eat?", "mice"]
    assert cosines(prompted.embed(texts, **fields), server.embed([prompt + text for text in texts])).min() >= 0.99999


def test_a_model_without_prompts_reads_every_task_as_it_is(server: Server, golden: Golden) -> None:
    for word in INPUT_TYPES:
        assert np.abs(server.embed(golden.texts[:1], input_type=word) - golden.vectors[:1]).max() <= 1e-4


def test_unknown_prompt_name_lists_those_there_are(prompted: Server) -> None:
    error = refused(prompted, prompt_name="nothing")
    assert all(name in error["detail"] for name in PROMPTS)


@pytest.mark.parametrize("field", ["input_type", "task"])
def test_unknown_task_lists_what_is_known(prompted: Server, field: str) -> None:
    error = refused(prompted, **{field: "image"})
    assert error["message"].startswith(f"'$.{field}' is invalid")
    assert {*PROMPTS, *INPUT_TYPES} <= set(error["detail"].removeprefix(f"{field} is none of ").strip(".").split(", "))


# --- too long -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"truncate": True},
        {"truncate": "END"},
        {"truncation": True},
        {"truncate_prompt_tokens": -1},
        {"truncate": True, "truncation_side": "right"},
        {"truncate": "END", "truncation": True, "truncate_prompt_tokens": 256},
    ],
)
def test_truncated_at_the_end(server: Server, fields: dict[str, Any]) -> None:
    reply = reply_of(server, input=LONG, **fields)
    assert reply.headers["x-truncated-inputs"] == "1"
    begins = " ".join(LONG.split(" ")[:200])
    found = openai_vectors(reply)
    assert cosines(found, openai_vectors(reply_of(server, input=f"{begins} {'x' * 9000}", **fields))).min() > 0.9
    assert cosines(found, server.embed(LONG)).max() < 0.99999


@pytest.mark.parametrize("fields", [{"truncate": "START"}, {"truncation": True, "truncation_side": "left"}])
def test_truncated_at_the_start(server: Server, fields: dict[str, Any]) -> None:
    text = "Volcanoes and lava. " + LONG + "zebra"
    left = openai_vectors(reply_of(server, input=text, **fields))
    same = openai_vectors(reply_of(server, input=text.replace("Volcanoes", "Computers"), **fields))
    assert cosines(left, same).min() >= 0.999999
    assert cosines(left, server.embed(text, truncate=True)).max() < 0.9999


def test_truncated_to_a_length(server: Server) -> None:
    """Five tokens are three words between two special tokens."""
    reply = reply_of(server, input="cat dog sun sea tree", truncate_prompt_tokens=5)
    assert reply.headers["x-truncated-inputs"] == "1"
    assert cosines(openai_vectors(reply), server.embed("cat dog sun")).min() >= 0.99999
    left = server.embed("cat dog sun sea tree", truncate_prompt_tokens=5, truncation_side="left")
    assert cosines(left, server.embed("sun sea tree")).min() >= 0.99999


@pytest.mark.parametrize("fields", [{"truncate": False}, {"truncate": "NONE"}, {"truncation": False}])
def test_refused_when_too_long(server: Server, golden: Golden, fields: dict[str, Any]) -> None:
    error = refused(server, input=LONG, **fields)
    assert error["message"].startswith("This model's maximum context length is 256 tokens, however you requested 722 ")
    assert np.abs(server.embed(golden.texts[0], **fields) - golden.vectors[:1]).max() <= 1e-4


def test_without_any_of_them_the_models_setting_rules(server: Server) -> None:
    whole = server.embed(LONG)
    assert (
        cosines(whole, server.embed(LONG, truncate=None, truncation=None, truncate_prompt_tokens=None)).min() > 0.9999
    )
    assert "x-truncated-inputs" not in reply_of(server, input=LONG, truncate=None).headers


# --- numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "uint8", "binary", "ubinary"])
@pytest.mark.parametrize("field", ["output_dtype", "embedding_type"])
def test_dtypes(server: Server, golden: Golden, field: str, dtype: str) -> None:
    expected = quantize(server.embed(golden.texts), OutputDtype(dtype))
    rows = [one["embedding"] for one in reply_of(server, input=golden.texts, **{field: dtype}).json()["data"]]
    assert all(type(number) is int for row in rows for number in row)
    assert np.abs(np.array(rows) - expected.astype(int)).max() <= (1 if "int" in dtype else 0)

    encoded = reply_of(server, input=golden.texts, encoding_format="base64", **{field: dtype}).json()["data"]
    decoded = [np.frombuffer(base64.b64decode(one["embedding"]), NUMPY[dtype]) for one in encoded]
    assert np.array_equal(np.array(decoded).astype(int), np.array(rows))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_integers_keep_the_direction(server: Server, golden: Golden, dtype: str) -> None:
    rows = server.embed(golden.texts, output_dtype=dtype) - (128 if dtype == "uint8" else 0)
    assert cosines(rows, golden.vectors).min() > 0.999


@pytest.mark.parametrize(
    "fields",
    [
        {"output_dtype": "float"},
        {"embedding_type": "float"},
        {"embedding_type": ["float"]},
        {"embedding_type": "base64"},
        {"embedding_type": ["base64"]},
        {"embed_dtype": "float32", "endianness": "little"},
        {"encoding_format": "base64", "output_dtype": "float"},
        {"encoding_format": None, "output_dtype": None, "embedding_type": None, "embed_dtype": None},
        {"normalized": True},
        {"normalized": False},
        {"use_activation": True, "add_special_tokens": True},
        {"late_chunking": False, "return_multivector": False},
        {"priority": 3, "request_id": "x", "padding": True},
    ],
)
def test_fields_that_leave_the_vectors_as_they_are(server: Server, golden: Golden, fields: dict[str, Any]) -> None:
    reply = reply_of(server, input=golden.texts[:4], **fields)
    assert np.abs(openai_vectors(reply) - golden.vectors[:4]).max() <= 1e-4
    wants_text = "base64" in str(fields)
    assert isinstance(reply.json()["data"][0]["embedding"], str) == wants_text


def test_output_dimension(matryoshka: Server, golden: Golden) -> None:
    found = matryoshka.embed(golden.texts[:4], output_dimension=256)
    assert np.array_equal(found, matryoshka.embed(golden.texts[:4], dimensions=256))
    assert np.array_equal(found, matryoshka.embed(golden.texts[:4], dimensions=256, output_dimension=256))
    assert cosines(found, golden.vectors[:4, :256]).min() >= 0.99999
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-5
    assert openai_vectors(reply_of(matryoshka, input="a", output_dimension=256, output_dtype="ubinary")).shape == (
        1,
        32,
    )


@pytest.mark.parametrize("dtype", ["binary", "ubinary"])
def test_bits_come_in_eights(matryoshka: Server, dtype: str) -> None:
    assert "multiple of 8" in refused(matryoshka, dimensions=100, output_dtype=dtype)["detail"]
    assert matryoshka.embed("a", dimensions=100, output_dtype="int8").shape == (1, 100)


def test_a_model_that_does_not_normalise(launch: StartServer, make_bundle: MakeBundle, golden: Golden) -> None:
    """The bundle only says so: its graph normalises all the same, so both answers are unit vectors."""
    server = launch(model=make_bundle(normalized=False))
    for fields in ({}, {"normalized": False}, {"normalized": False, "output_dtype": "float"}):
        assert np.abs(server.embed(golden.texts[:2], **fields) - golden.vectors[:2]).max() <= 1e-4


# --- objects --------------------------------------------------------------------------------------------------


def test_objects_with_a_text(server: Server, golden: Golden) -> None:
    inputs = [{"text": golden.texts[0]}, golden.texts[1], {"text": golden.texts[2]}]
    assert np.abs(server.embed(inputs) - golden.vectors[:3]).max() <= 1e-4


@pytest.mark.parametrize(
    "value",
    [
        [{"image": "aGVsbG8="}],
        [{"text": "a", "image": "aGVsbG8="}],
        [{"text": 1}],
        [{"text": None}],
        [{}],
        ["a", {"pdf": "x"}],
        [[1], {"text": "a"}],
        [1, {"text": "a"}],
        [{"text": "a"}, [1]],
        {"text": "a"},
    ],
)
def test_other_objects(server: Server, value: Any) -> None:
    error = refused(server, input=value)
    assert error["message"].startswith("'$.input' is invalid")
    assert "aGVsbG8" not in str(error)


# --- wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt_name": 1},
        {"prompt_name": ""},
        {"input_type": ["query"]},
        {"input_type": ""},
        {"task": "RETRIEVAL"},
        {"truncate": "end"},
        {"truncate": 1},
        {"truncation": "true"},
        {"truncate_prompt_tokens": -2},
        {"truncate_prompt_tokens": 0},
        {"truncate_prompt_tokens": 1},
        {"truncate_prompt_tokens": 2.5},
        {"truncation_side": "middle"},
        {"output_dtype": "float16"},
        {"output_dtype": 8},
        {"output_dtype": ["int8"]},
        {"embedding_type": []},
        {"embedding_type": ["float", "int8"]},
        {"embedding_type": "multi"},
        {"embed_dtype": "bfloat16"},
        {"endianness": "big"},
        {"encoding_format": "bytes"},
        {"output_dimension": 0},
        {"output_dimension": 99999},
        {"output_dimension": "384"},
        {"normalized": "no"},
        {"late_chunking": True},
        {"return_multivector": True},
        {"add_special_tokens": False},
    ],
    ids=str,
)
def test_wrong_values(server: Server, fields: dict[str, Any]) -> None:
    error = refused(server, **fields)
    if "output_dimension" not in fields or fields["output_dimension"] != 99999:
        assert next(iter(fields)) in error["message"] or "truncate_prompt_tokens" in fields


@pytest.mark.parametrize(
    "fields",
    [
        {"dimensions": 384, "output_dimension": 256},
        {"output_dtype": "int8", "embedding_type": "binary"},
        {"output_dtype": "int8", "embed_dtype": "float32"},
        {"output_dtype": "int8", "embedding_type": "base64"},
        {"truncate": True, "truncation": False},
        {"truncate": "NONE", "truncate_prompt_tokens": 5},
        {"truncate": "START", "truncation_side": "right"},
        {"normalized": True, "use_activation": False},
        {"prompt_name": "query", "input_type": "document"},
        {"task": "retrieval.query", "input_type": "passage"},
    ],
    ids=str,
)
def test_contradictions(prompted: Server, fields: dict[str, Any]) -> None:
    error = refused(prompted, **fields)
    assert "contradict each other" in error["detail"]
    assert all(name in error["detail"] for name in fields)


def test_all_is_well_afterwards(server: Server, prompted: Server) -> None:
    server.assert_well()
    prompted.assert_well()
    assert server.embed("a").shape == (1, DIMENSIONS)
