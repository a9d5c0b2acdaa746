"""A good body for every POST route, and what may be put in its place: the corpus of all fuzzing here."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from tests.e2e.process import MODEL
from tests.hostile.target import MARK

TEXT = f"the river and the mill {MARK}"
_INSTANCES = {"instances": [{"content": TEXT, "task_type": "RETRIEVAL_QUERY", "title": TEXT}]}
_CONTENT = {"content": {"parts": [{"text": TEXT}]}, "taskType": "RETRIEVAL_DOCUMENT", "title": TEXT}
_RANK = {"query": TEXT, "documents": [TEXT, {"text": TEXT}], "top_n": 1, "return_documents": True}

# The first pattern that a path ends with has its bodies.
BODIES: dict[str, list[dict[str, Any]]] = {
    r"/embeddings": [
        {"input": TEXT, "model": MODEL, "encoding_format": "base64", "dimensions": 384, "user": TEXT},
        {"input": [[9906, 1917]], "truncate": True, "late": False, "chunking": {"max_tokens": 20, "overlap": 2}},
        {"input": [TEXT, ""], "input_type": "query", "output_dtype": "int8", "return_chunks": True},
    ],
    r"/publishers/.*:(predict|rawPredict)|/endpoints/.*|/models/.*:rawPredict": [
        _INSTANCES | {"parameters": {"autoTruncate": True, "outputDimensionality": 384}},
        {"instances": [{"prompt": TEXT}]},
    ],
    r":predict": [{"instances": [TEXT, {"content": TEXT}], "parameters": {"dimensions": 384}}],
    r":embedContent": [_CONTENT | {"embedContentConfig": {"outputDimensionality": 384, "autoTruncate": True}}],
    r":batchEmbedContents": [{"requests": [_CONTENT, _CONTENT]}],
    r"/infer": [
        {
            "id": MARK,
            "inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": [TEXT, TEXT], "parameters": {}}],
            "outputs": [{"name": "embedding", "parameters": {"binary_data": True}}],
            "parameters": {"dimensions": 384},
        },
    ],
    r"/v1/rerank|/v2/rerank": [
        _RANK | {"raw_scores": True},
        _RANK | {"rank_fields": ["text"], "max_tokens_per_doc": 9},
    ],
    r"/rerank": [{"query": TEXT, "texts": [TEXT, TEXT], "raw_scores": True, "return_text": True, "truncate": True}],
    r"/v[12]/embed": [
        {"texts": [TEXT], "input_type": "search_query", "embedding_types": ["float", "int8"], "truncate": "END"},
        {"inputs": [{"content": [{"type": "text", "text": TEXT}]}], "output_dimension": 384, "max_tokens": 5},
    ],
    r"/multi-vector": [{"input": [TEXT], "input_type": "query", "embedding_type": ["base64"], "model": "tokens"}],
    r"/score": [{"text_1": TEXT, "text_2": [TEXT, TEXT], "model": "reranker"}],
    r"/embed": [{"inputs": [TEXT, [101, 102]], "normalize": False, "dimensions": 384, "truncation_direction": "Left"}],
    r"/embed_all": [{"inputs": TEXT}, {"inputs": TEXT, "model": "tokens", "prompt_name": "query"}],
    r"/embed_sparse": [{"inputs": [TEXT], "model": "sparse"}],
    r"/predict": [{"inputs": [[TEXT, TEXT], [TEXT]], "raw_scores": True, "model": "reranker"}],
    r"/similarity": [{"inputs": {"source_sentence": TEXT, "sentences": [TEXT]}, "parameters": {"truncate": True}}],
    r"/tokenize": [{"inputs": [TEXT], "add_special_tokens": True}],
    r"/decode": [{"ids": [[101, 2023], [5]], "skip_special_tokens": False}],
    r"/repository/index": [{"ready": True}],
    r"/load|/unload": [{"parameters": {"config": MARK}}],
    r"/": [{"inputs": TEXT, "truncate": True}, {"inputs": {"source_sentence": TEXT, "sentences": [TEXT]}}],
}

# Python has no words for some of these, so they stand in the text of a body.
VALUES = [
    *("null", "true", "0", "-1", "1.5", "1e999999", "-1e999999", "1E400", "-0.0", "1e-400", "NaN", "Infinity"),
    *("9" * 100, "9" * 5_000, "1" + "0" * 30, "-" + "9" * 40, "0.1" + "0" * 5_000 + "1", "18446744073709551616"),
    *("[]", "{}", "[[]]", '""', '[""]', "[null]", "[[[1]]]", "[true]", "[1.0]", "[-1]", "[1e30]", "[2147483648]"),
    *('{"a":1,"a":[]}', '{"__proto__":{"x":1}}', '{"constructor":{"prototype":{}}}', '{"text":1}', '{"text":"a"}'),
    *("[" * 150 + "]" * 150, '{"a":' * 150 + "1" + "}" * 150, "[" * 100_000, '{"a":' * 20_000),
    *(
        f'"{MARK}"',
        f'"{MARK}{{}}%s${{x}}"',
        f'"../../{MARK}"',
        '"\\u0000"',
        '"\\uffff\\ufffe"',
        '"\\ud800"',
        '"\\ud83d\\ude00"',
    ),
    *('"\\u202e\\u2066"', '"' + "\u0301" * 5_000 + '"', '"' + "\ufdfa" * 3_000 + '"', '"' + "a" * 20_000 + '"'),
    *('"data:image/png;base64,iVBORw0KGgo="', '"gs://bucket/a.png"', '["data:image/png;base64,iVBORw0KGgo="]'),
    *('[{"type":"image_url","image_url":{"url":"data:,"}}]', '{"bytesBase64Encoded":"aGk="}', '"NaN"', '"384"'),
    *("[" + ",".join(["1"] * 3_000) + "]", "[" + ",".join(['""'] * 3_000) + "]", "[" + ",".join(["[1]"] * 3_000) + "]"),
]

# Whole bodies that are no JSON, or of another encoding.
RAW = [
    *(b"", b" ", b"\x00", b"\xff\xfe", b"[" * 100_000, b"9" * 100_000, b'{"a":' * 100_000, b'"' + b"\\" * 99_999),
    *('{"input":"a"}'.encode(one) for one in ("utf-16", "utf-16-le", "utf-32", "utf-7", "utf-8-sig", "cp037")),
    *(
        b'{"input":"\xed\xa0\x80"}',
        b'{"input":"\xc0\x80"}',
        b'{"input":"\xf4\x90\x80\x80"}',
        '{"inputs":"é"}'.encode("latin-1"),
    ),
    *(
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3",
        b"PK\x03\x04\x14\x00",
        b"\x1f\x8b\x08\x00",
    ),
    b'--x\r\nContent-Disposition: form-data; name="input"\r\n\r\na\r\n--x--\r\n',
    b"input=a&model=b",
    b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'bb'>]><a>&b;</a>",
]

HEADERS: list[dict[str, str]] = [
    {},
    {"content-type": "application/json; charset=utf-16"},
    {"content-type": "multipart/form-data; boundary=x"},
    {"content-type": "image/png"},
    {"content-encoding": "gzip"},
    {"content-encoding": "deflate"},
    {"content-encoding": "br"},
    {"content-encoding": "identity, gzip"},
    {"inference-header-content-length": "5"},
    {"inference-header-content-length": "99999999999999999999"},
    {"inference-header-content-length": "-1"},
    {"accept": "image/png"},
    {"range": "bytes=0-1"},
    {"x-request-id": "a b"},
    {"x-request-timeout-ms": "-1"},
    {"x-request-timeout-ms": "1e999"},
    {"x-request-timeout-ms": "9" * 400},
    {"x-server-timeout": "nan"},
    {"authorization": "Bearer \u00ff"},
    {"authorization": f"Bearer {MARK}"},
]

ODD_NAMES = ["nobody", MARK, "..", "%2e%2e%2f", "a%00", "%F0%9F%98%80", "{x}"]
NAMES = [MODEL, MODEL, MODEL, "reranker", "sparse", "tokens", *ODD_NAMES]


def bodies_for(path: str) -> list[dict[str, Any]]:
    """Good ones; none for a route that no pattern knows."""
    return next((found for pattern, found in BODIES.items() if re.search(f"(?:{pattern})$", path)), [])


def places(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Of a body and of everything in it."""
    yield at
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*at, key))


def mutated(body: dict[str, Any], rng: random.Random) -> bytes:
    """The body with up to three of its parts replaced, doubled or removed, as bytes of JSON or nearly so."""
    body = deepcopy(body)
    holes: dict[str, str] = {}
    for i in range(rng.randint(1, 3)):
        where = rng.choice(list(places(body)))
        if not where:
            if rng.random() < 0.2:
                return rng.choice(VALUES).encode("utf-8", "surrogatepass")
            continue
        holder = body
        for key in where[:-1]:
            holder = holder[key]  # type: ignore[index]
        if rng.random() < 0.15 and isinstance(holder, dict):
            del holder[where[-1]]  # type: ignore[arg-type]
            continue
        holes[f"<hole {i}>"] = rng.choice(VALUES)
        holder[where[-1]] = f"<hole {i}>"  # type: ignore[index]
    text = json.dumps(body)
    for name, value in holes.items():
        text = text.replace(f'"{name}"', value)
    if rng.random() < 0.1:
        cut = rng.randrange(len(text) + 1)
        text = text[:cut] + rng.choice(["", "\x00", "}", '"', "\\", "\u2028", '","'])
    return text.encode("utf-8", "surrogatepass")
