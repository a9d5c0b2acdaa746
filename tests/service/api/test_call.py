"""Bodies that would keep a parser busy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.api.auth import Keys
from service.api.http import MAX_ITEMS, Call, Service
from service.api.tei import EmbedTextsRequest
from service.errors import MalformedBody
from service.registry import Registry
from service.settings import Settings

LISTS = MAX_ITEMS + 2 * 2048  # and objects, that a body may hold with the default settings


def parsed(inputs: Any) -> EmbedTextsRequest:
    service = Service(Registry(Settings()), Settings(), Keys([]))
    call = Call(service, "/embed", "POST", "id", {}, {}, {}, 0.0, 0.0)
    call.body = json.dumps({"inputs": inputs}).encode()
    return call.parse(EmbedTextsRequest)


def test_more_lists_than_any_request_needs_are_refused_before_they_are_parsed() -> None:
    with pytest.raises(MalformedBody, match=f"more than {LISTS} lists"):
        parsed([[1]] * (LISTS + 2))
    assert parsed([[1]] * (LISTS - 2)).inputs == [[1]] * (LISTS - 2)


@pytest.mark.parametrize("text", ["[," * 50_000, '["\\', '\\"[,' * 50_000, "\n[,\\n" * 50_000])
def test_what_stands_in_a_text_is_no_list(text: str) -> None:
    assert parsed([text, text, [1]]).inputs == [text, text, [1]]
