"""Requests made up from good ones, to every route; and names by the thousand."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile.names import KINDS, send_names
from tests.hostile.routes import Route, faults_of, routes_of, send_one
from tests.hostile.seeds import RAW, bodies_for
from tests.hostile.target import MARK, Target

SLOWEST = 10.0  # seconds that no answer to a probe takes, on any machine; the point is that there is one


@pytest.fixture(scope="module")
def routes(target: Target) -> list[Route]:
    return routes_of(target)


def test_every_route_has_a_good_body(routes: list[Route]) -> None:
    assert [one.path for one in routes if one.method == "POST" and not bodies_for(one.path)] == []


@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_any_request_gets_an_answer_of_its_dialect(target: Target, routes: list[Route], seed: int) -> None:
    sent = send_one(target, routes, random.Random(seed))
    assert faults_of(sent) == []


@pytest.mark.parametrize("number", range(len(RAW)))
def test_every_route_refuses_what_is_no_json(target: Target, routes: list[Route], number: int) -> None:
    for route in random.Random(number).sample([one for one in routes if one.method == "POST"], 6):
        reply = target.post(route.path.replace("{", "").replace("}", ""), RAW[number])
        assert 200 <= reply.status_code < 500, (route, reply.text)


def test_the_event_loop_is_nobodys(target: Target) -> None:
    """Lists of what is wrong, as many as a body holds, in every list there is: one of them once took 12 s."""
    before = target.megabytes()
    with target.watched() as slowest:
        for path, form in LISTS:
            for item in ("1", "null", "[1]", '""', "{}"):
                body = form.replace("%", "[" + f"{item}," * min(590_000, 4_100_000 // (len(item) + 1)) + item + "]")
                reply = target.post(path, body.encode())
                assert 400 <= reply.status_code < 500, (path, form, item, reply.text[:300])
    assert slowest() < SLOWEST
    assert target.megabytes() < before + 300


LISTS = [
    ("/v1/embeddings", '{"input":"a","embedding_type":%}'),
    ("/rerank", '{"query":"a","texts":%}'),
    ("/v2/embed", '{"texts":["a"],"embedding_types":%}'),
    ("/v2/embed", '{"texts":["a"],"images":%}'),
    ("/v1/multi-vector", '{"input":%}'),
    ("/decode", '{"ids":[%]}'),
    ("/v1/rerank", '{"query":"a","documents":["a"],"rank_fields":%}'),
]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v1/publishers/g/models/all-MiniLM-L6-v2:predict",
            {"instances": [{"content": "a", "title": "!" * 3_000_000}]},
        ),
        ("/v1/embeddings", {"input": [90_280] * 290_000}),  # 114 signs each
        ("/decode", {"ids": [2023] * 290_000}),
        ("/v1/embeddings", {"input": "\ufdfa" * 600_000}),
        ("/v1/embeddings", {"input": "a" + "\u0301" * 600_000}),
        ("/tokenize", {"inputs": "! " * 140_000}),
        ("/v1/embeddings", {"input": "a" * 4_000_000}),
        ("/v1/embeddings", {"input": [""] * 2_048}),
    ],
    ids=["title", "token ids", "decode", "ligatures", "marks", "tokens", "a word", "empty texts"],
)
def test_texts_that_are_more_than_they_look(target: Target, path: str, body: object) -> None:
    """Others are answered meanwhile: a title was tokenised by the event loop once, for seconds."""
    before = target.megabytes()
    with target.watched() as slowest:
        reply = target.post(path, body)
    assert reply.status_code in (200, 400), reply.text[:300]
    assert slowest() < SLOWEST
    assert target.megabytes() < before + 300


@pytest.mark.parametrize("count", [2_000, pytest.param(100_000, marks=pytest.mark.heavy)])
def test_names_by_the_thousand_make_no_series(target: Target, count: int) -> None:
    """Models, paths, methods, keys, request ids, versions: what clients make up never becomes a label, and takes no
    memory."""
    send_names(target, range(KINDS * KINDS))
    target.series()  # which is counted, too
    before, megabytes = target.series(), target.megabytes()
    send_names(target, range(KINDS * KINDS, count))
    assert target.series() == before
    assert not any(MARK in one for one in before)
    print(f"{count} names: {len(before)} series, memory {megabytes:.0f} → {target.megabytes():.0f} MB")
    assert target.megabytes() < megabytes + 50
