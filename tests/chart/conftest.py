"""What was looked at, at the end of a run: a check of nothing is green as well."""

from __future__ import annotations

from collections.abc import Callable

import pytest

SEEN = "chart"
Note = Callable[[str], None]


@pytest.fixture
def seen(record_property: Callable[[str, object], None]) -> Note:
    """seen(words): a line for the end of the run."""
    return lambda words: record_property(SEEN, words)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each kind of look."""
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    lines = [str(value) for report in reports for name, value in report.user_properties if name == SEEN]
    if lines:
        terminalreporter.section("chart")
        for line in lines:
            terminalreporter.write_line(line)
