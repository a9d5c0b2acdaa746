"""The fixture `record`, and the table of clients at the end of a run."""

from __future__ import annotations

import pytest

from tests.clients.matrix import PROPERTY, Record, recorder, table

# The first test of a client installs it.
INSTALL_AND_RUN_SECONDS = 1200


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives heavy tests the time that it takes to make an environment."""
    for item in items:
        if item.get_closest_marker("heavy"):
            item.add_marker(pytest.mark.timeout(INSTALL_AND_RUN_SECONDS))


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """record(client, version, route, vectors, expected): compares, and adds a row to the table."""
    return recorder(lambda row: request.node.user_properties.append((PROPERTY, row)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One row for each client and route that was tried."""
    reports = (report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind))
    rows = [tuple(value) for report in reports for name, value in report.user_properties if name == PROPERTY]
    if rows:
        terminalreporter.section("clients")
        for line in table(rows):
            terminalreporter.write_line(line)
