"""Every error has a status, and every dialect a body for it."""

from __future__ import annotations

from types import ModuleType

import pytest
from pydantic import BaseModel, ValidationError

from service import errors
from service.api import health, openai, vertex
from service.api.cohere import CohereRerankRequest
from service.api.errors import retry_headers, status_of
from service.api.http import explain
from service.api.pair_scores import ScorePairsRequest
from service.app import DIALECTS

EXAMPLES: list[tuple[errors.EmbedserveError, int, str]] = [
    (errors.InvalidInput("m", "input"), 400, "INVALID_ARGUMENT"),
    (errors.EmptyInput("m", "input"), 400, "INVALID_ARGUMENT"),
    (errors.MalformedBody("m"), 400, "INVALID_ARGUMENT"),
    (errors.BodyTooLarge(9), 413, "INVALID_ARGUMENT"),
    (errors.SlowBody(), 408, "DEADLINE_EXCEEDED"),
    (errors.TooManyInputs(250, 512, "instances"), 400, "INVALID_ARGUMENT"),
    (errors.InputTooLong(256, 300), 400, "INVALID_ARGUMENT"),
    (errors.TooManyTokens(300_000, 416_735), 400, "INVALID_ARGUMENT"),
    (errors.TooManyChunks(4096), 400, "INVALID_ARGUMENT"),
    (errors.DimensionsUnsupported(7, (384,)), 400, "INVALID_ARGUMENT"),
    (errors.ModelNotFound("m"), 404, "NOT_FOUND"),
    (errors.WrongTask("m", "a reranker", "embeddings", "/rerank"), 400, "INVALID_ARGUMENT"),
    (errors.LoadFailed("m", "why", "remedy"), 400, "INVALID_ARGUMENT"),
    (errors.RouteNotFound("GET", "/x"), 404, "NOT_FOUND"),
    (errors.MethodNotAllowed("GET", "/x", ("POST",)), 405, "UNIMPLEMENTED"),
    (errors.Unauthenticated(None), 401, "UNAUTHENTICATED"),
    (errors.Unauthenticated("**"), 401, "UNAUTHENTICATED"),
    (errors.Overloaded("m", 2.5), 429, "RESOURCE_EXHAUSTED"),
    (errors.RateLimited("tokens", 100, 60, 70, 18.0, "18s"), 429, "RESOURCE_EXHAUSTED"),
    (errors.OverRateLimit("tokens", 100, 170), 429, "RESOURCE_EXHAUSTED"),
    (errors.Unavailable("m", 1.0), 503, "UNAVAILABLE"),
    (errors.DeadlineExceeded("m"), 504, "DEADLINE_EXCEEDED"),
    (errors.ClientGone("m"), 499, "CANCELLED"),
    (errors.InferenceError("m"), 500, "INTERNAL"),
    (errors.BadVectors("m"), 500, "INTERNAL"),
    (errors.EmbedserveError("m"), 500, "INTERNAL"),
]


def _leaves(kind: type[errors.EmbedserveError]) -> set[type[errors.EmbedserveError]]:
    below = kind.__subclasses__()
    return {leaf for one in below for leaf in _leaves(one)} if below else {kind}


def test_the_examples_are_all_there_is() -> None:
    startup = _leaves(errors.StartupError)
    assert _leaves(errors.EmbedserveError) - startup <= {type(example) for example, _, _ in EXAMPLES}


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    named = [kind.__name__ for kind in _leaves(errors.EmbedserveError)]
    assert [name for name in named if name not in (errors.__doc__ or "")] == []


@pytest.mark.parametrize(("error", "http", "google"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_statuses_and_bodies(error: errors.EmbedserveError, http: int, google: str) -> None:
    status = status_of(error)
    assert (status.http, status.google) == (http, google)
    for dialect in (openai, vertex, health):
        dialect.ERROR.model_validate(dialect.error_body(error, status))
    openai_error = openai.error_body(error, status)["error"]
    assert {"message", "type", "param", "code"} <= set(openai_error)
    assert vertex.error_body(error, status)["error"]["code"] == http


def test_openais_own_words() -> None:
    def body(error: errors.EmbedserveError) -> dict[str, object]:
        found: dict[str, object] = openai.error_body(error, status_of(error))["error"]
        return {key: value for key, value in found.items() if key != "detail"}

    invalid = "invalid_request_error"
    assert body(errors.ModelNotFound("X")) == {
        "message": "The model `X` does not exist or you do not have access to it.",
        "type": invalid,
        "param": None,
        "code": "model_not_found",
    }
    assert body(errors.InputTooLong(8192, 8610)) == {
        "message": "This model's maximum context length is 8192 tokens, however you requested 8610 tokens (8610 in "
        "your prompt; 0 for the completion). Please reduce your prompt; or completion length.",
        "type": invalid,
        "param": None,
        "code": None,
    }
    assert body(errors.TooManyTokens(300_000, 416_735)) == {
        "message": "Requested 416735 tokens, max 300000 tokens per request",
        "type": "max_tokens_per_request",
        "param": None,
        "code": "max_tokens_per_request",
    }
    for error in (errors.InvalidInput("x", "input"), errors.TooManyInputs(2048, 2049, "input")):
        assert body(error) == {
            "message": "'$.input' is invalid. Please check the API reference: "
            "https://platform.openai.com/docs/api-reference.",
            "type": invalid,
            "param": None,
            "code": None,
        }
    assert body(errors.DimensionsUnsupported(7, (384,))) == {
        "message": "This model does not support specifying dimensions.",
        "type": invalid,
        "param": None,
        "code": None,
    }


def test_retry_after_is_in_whole_seconds_and_never_zero() -> None:
    assert retry_headers(errors.Overloaded("m", 2.25)) == {"retry-after": "3", "retry-after-ms": "2250"}
    assert retry_headers(errors.Unavailable("m", 0.1))["retry-after"] == "1"
    assert retry_headers(errors.InvalidInput("m")) == {}


def test_complaints_name_the_field_and_never_show_the_input() -> None:
    class Body(BaseModel):
        n: int

    with pytest.raises(ValidationError) as refused:
        Body.model_validate_json('{"n": "a secret"}')
    found = explain(refused.value)
    assert isinstance(found, errors.InvalidInput)
    assert found.param == "n"
    assert "secret" not in str(found)
    with pytest.raises(ValidationError) as broken:
        Body.model_validate_json("{")
    assert isinstance(explain(broken.value), errors.MalformedBody)


@pytest.mark.parametrize(
    ("model", "body", "said"),
    [
        (ScorePairsRequest, {"text_1": "a", "text_2": []}, "text_2: List should have at least 1 item"),
        (ScorePairsRequest, {"text_1": "a", "text_2": ["b", 7]}, "text_2.1: Input should be a valid string"),
        (
            ScorePairsRequest,
            {"text_1": "a", "text_2": 7},
            "text_2: Input should be a valid string; or: Input should be",
        ),
        (CohereRerankRequest, {"query": "q", "documents": [1]}, "documents.0: Input should be a valid string; or: "),
        (CohereRerankRequest, {"query": 1, "documents": ["a"]}, "query: Input should be a valid string"),
    ],
)
def test_a_field_of_several_forms_is_explained_by_the_nearest_one(
    model: type[BaseModel], body: dict[str, object], said: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body)
    assert str(explain(caught.value)).startswith(said)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: str(one.NAME))
def test_a_long_name_of_no_model_comes_back_shortened(dialect: ModuleType) -> None:
    error = errors.ModelNotFound("n" * 100_000)
    said = str(dialect.error_body(error, status_of(error)))
    assert len(said) < 1_000
