"""Every family's vectors over HTTP are those of sentence-transformers, and docs/MODELS.md says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.conftest import INSTALL_AND_RUN_SECONDS
from tests.e2e.process import Server
from tests.parity.families import matrix, table
from tests.parity.families.rows import ROWS, TEXTS, Row


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every row's checkpoint and vectors."""
    folder = tmp_path_factory.mktemp("families")
    matrix.make_checkpoints(ROWS, folder)
    return folder


@pytest.fixture
def served(request: pytest.FixtureRequest, checkpoints: Path, tmp_path: Path) -> Iterator[Server]:
    """A server of the row that the test is parametrized with."""
    row: Row = request.getfixturevalue("row")
    server = matrix.server_of(matrix.compile_row(row, checkpoints), tmp_path)
    yield server
    server.stop()


@pytest.mark.heavy
@pytest.mark.timeout(INSTALL_AND_RUN_SECONDS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_vectors_are_those_of_sentence_transformers(row: Row, served: Server, checkpoints: Path) -> None:
    result = matrix.measure(row, served, checkpoints)
    assert result.cosine >= matrix.MINIMUM_COSINE
    assert result.batch_cosine >= matrix.MINIMUM_COSINE_BETWEEN_BATCHES


def test_the_table_has_every_row_and_what_it_says_is_good_enough() -> None:
    """`make matrix` writes it anew."""
    found = table.read()
    assert [cells[:-1] for cells in found] == [table.describe(row) for row in ROWS]
    assert min(float(cells[-1]) for cells in found) >= matrix.MINIMUM_COSINE


def test_the_names_and_texts_are_worth_a_matrix() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert len(set(TEXTS)) == len(TEXTS) == 20
