"""Figures with their targets: what every benchmark says in the end, in one form that can be put together."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtest.report import aligned


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. `at_least` and `at_most` are its target, where it has one; both may be given by other figures."""

    topic: str
    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool | None:
        """None without a target."""
        if self.at_least is None and self.at_most is None:
            return None
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)


def write_json(path: Path, figures: Iterable[Figure], details: Mapping[str, Any]) -> None:
    """`figures` in a list of that name, `details` beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"figures": [asdict(one) for one in figures], **details}
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def read_json(path: Path) -> tuple[list[Figure], dict[str, Any]]:
    """What `write_json` wrote."""
    details: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return [Figure(**one) for one in details.pop("figures")], details


def table(figures: Iterable[Figure]) -> str:
    """For people; a topic is named once."""
    rows, topic = [["what", "figure", "value", "unit", "target", "met"]], ""
    for one in figures:
        first, topic = ("" if one.topic == topic else one.topic), one.topic
        rows.append([first, one.name, number(one.value), one.unit, _target(one), _MET[one.met]])
    return "\n".join(aligned(rows, left=(0, 1, 3)))


_MET = {None: "", True: "yes", False: "NO"}


def _target(one: Figure) -> str:
    words = []
    if one.at_least is not None:
        words.append(f"≥ {number(one.at_least)}")
    if one.at_most is not None:
        words.append(f"≤ {number(one.at_most)}")
    return " and ".join(words)


def number(value: float) -> str:
    """Three digits that count: 12,345 and 123 and 12.3 and 1.23 and 0.123; a dash for what is no number."""
    if math.isnan(value):
        return "–"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3}f}"
