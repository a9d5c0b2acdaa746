"""What a request's schema does with a long list of wrong things: it complains once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from service.api.repository import OPERATIONS as REPOSITORY
from service.app import DIALECTS

SCHEMAS = {one.request for dialect in DIALECTS for one in (*dialect.OPERATIONS, *REPOSITORY) if one.request}


def lists(schema: Any, at: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every list in pydantic's core schema, and where it stands."""
    if isinstance(schema, dict):
        if schema.get("type") == "list":
            yield at, schema
        for name, inner in schema.items():
            if name not in ("serialization", "metadata"):
                yield from lists(inner, f"{at}.{name}" if name in schema.get("fields", {}) else f"{at}/{name}")
    elif isinstance(schema, list | tuple):
        for inner in schema:
            yield from lists(inner, at)


@pytest.mark.parametrize("schema", sorted(SCHEMAS, key=repr), ids=repr)
def test_every_list_ends_at_its_first_wrong_item(schema: type[BaseModel]) -> None:
    """600,000 complaints about one body once held the event loop for 12 s."""
    patient = [at for at, one in lists(schema.__pydantic_core_schema__) if not one.get("fail_fast")]
    assert patient == []
