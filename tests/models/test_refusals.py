"""What is refused, and that docs/MODELS.md says it in the compiler's own words."""

from __future__ import annotations

from tests.models import refusals


def test_the_document_lists_every_refusal_as_it_is_said() -> None:
    """`python -m tests.models.refusals` writes it anew."""
    assert refusals.documented() == refusals.rows()


def test_every_reason_is_one_line_that_names_something() -> None:
    for line in refusals.documented()[2:]:
        what, said, remedy = (cell.strip() for cell in line.replace("\\|", "").strip("|").split("|"))
        assert min(len(what), len(said), len(remedy)) > 5, line
