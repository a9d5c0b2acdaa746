"""Over-long inputs, in the words that several protocols share."""

from __future__ import annotations

from collections.abc import Iterable

from service.types import LongInput


def long_input_of(truncate: bool | None) -> LongInput | None:
    """True cuts, False refuses, None leaves it to the model's setting."""
    if truncate is None:
        return None
    return LongInput.TRUNCATE if truncate else LongInput.REJECT


def truncation_headers(truncated: Iterable[bool]) -> dict[str, str]:
    """How many inputs were cut, where any were."""
    cut = sum(truncated)
    return {"x-truncated-inputs": str(cut)} if cut else {}
