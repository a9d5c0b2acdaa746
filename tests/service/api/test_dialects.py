"""What every dialect has: a module that lacks a part of it fails at the first stray path only."""

from __future__ import annotations

from types import ModuleType

import pytest

from service.app import DIALECTS


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.__name__)
def test_a_dialect_is_whole(dialect: ModuleType) -> None:
    assert dialect.NAME
    assert dialect.OPERATIONS
    assert dialect.ERROR
    assert callable(dialect.error_body)
    assert dialect.owns("/no/such/path") is (dialect is DIALECTS[-1])
