"""google.rpc.Status, as both of Google's dialects write it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from service import errors
from service.api import gemini, vertex
from service.api.errors import status_of
from service.api.google import TASKS
from service.prompts import TASK_PROMPTS

TYPE = "type.googleapis.com/google.rpc."
DIALECTS = pytest.mark.parametrize("dialect", [vertex, gemini], ids=lambda dialect: dialect.NAME)


def details(dialect: ModuleType, error: errors.EmbedserveError) -> Any:
    return dialect.error_body(error, status_of(error))["error"]["details"]


@DIALECTS
def test_who_should_wait_is_told_how_long(dialect: ModuleType) -> None:
    assert details(dialect, errors.Overloaded("The queue is full.", 1.5)) == [
        {"@type": f"{TYPE}RetryInfo", "retryDelay": "1.500s"}
    ]
    assert details(dialect, errors.InvalidInput("no", "content")) == []


@DIALECTS
@pytest.mark.parametrize(("key", "reason"), [(None, "CREDENTIALS_MISSING"), ("sk**", "API_KEY_INVALID")])
def test_keys(dialect: ModuleType, key: str | None, reason: str) -> None:
    (found,) = details(dialect, errors.Unauthenticated(key))
    assert found == {"@type": f"{TYPE}ErrorInfo", "reason": reason, "domain": "googleapis.com"}


@DIALECTS
def test_body(dialect: ModuleType) -> None:
    error = errors.DimensionsUnsupported(100, (64, 384))
    message = "outputDimensionality 100 is not supported; this model has 64, 384."
    assert dialect.error_body(error, status_of(error)) == {
        "error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT", "details": []}
    }


def test_every_task_has_prompts() -> None:
    assert set(TASKS) <= set(TASK_PROMPTS)
