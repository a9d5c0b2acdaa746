"""Figures with their targets, and the plots."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from loadtest.figures import Figure, number, read_json, table, write_json
from loadtest.plots import Bars, Lines, bars, lines

SVG = "{http://www.w3.org/2000/svg}"


def test_a_target_is_met_from_its_very_value_on() -> None:
    assert Figure("bulk", "÷ R", 0.95, "", at_least=0.95).met is True
    assert Figure("bulk", "÷ R", 0.949, "", at_least=0.95).met is False
    assert Figure("latency", "p50", 1.0, "ms", at_most=1.0).met is True
    assert Figure("latency", "p50", 1.001, "ms", at_most=1.0).met is False
    assert Figure("latency", "p50", 7.0, "ms").met is None
    assert Figure("bulk", "÷ R", float("nan"), "", at_least=0.95).met is False


def test_the_table_says_what_is_met_and_names_a_topic_once() -> None:
    found = [Figure("bulk", "÷ R", 0.9, "", at_least=0.95), Figure("bulk", "padding", 1.01, "", at_most=1.05)]
    head, first, second = table([*found]).splitlines()
    assert head.split() == ["what", "figure", "value", "unit", "target", "met"]
    assert first.split() == ["bulk", "÷", "R", "0.900", "≥", "0.950", "NO"]
    assert second.split() == ["padding", "1.01", "≤", "1.05", "yes"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (16543.2, "16,543"),
        (100.4, "100"),
        (64, "64"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.1234, "0.123"),
        (-0.5, "-0.500"),
        (float("nan"), "–"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_have_the_digits_that_count(value: float, expected: str) -> None:
    assert number(value) == expected


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    found = [Figure("bulk", "÷ R", 0.9, "", at_least=0.95), Figure("latency", "p50", 7.5, "ms")]
    path = tmp_path / "new" / "figures.json"
    write_json(path, found, {"machine": {"cores": 2}})
    assert read_json(path) == (found, {"machine": {"cores": 2}})


def _texts(svg: str) -> list[str]:
    return [one.text or "" for one in ET.fromstring(svg).iter(f"{SVG}text")]


def test_a_plot_of_lines_names_axes_with_units_and_has_every_point_on_it() -> None:
    panel = Lines("Latency", "milliseconds", {"p50": [1, 2, 4], "p99": [2, 5, 17]}, ("R", 20))
    svg = lines("Title & all", "connections", [1, 2, 4], [panel])
    assert {"Title & all", "connections", "milliseconds", "p50", "p99", "R", "0", "20"} <= set(_texts(svg))
    marks = list(ET.fromstring(svg).iter(f"{SVG}circle"))
    assert len(marks) == 6
    _, _, width, height = map(float, ET.fromstring(svg).attrib["viewBox"].split())
    assert all(0 < float(one.attrib["cx"]) < width and 0 < float(one.attrib["cy"]) < height for one in marks)


def test_lines_differ_by_more_than_their_colour() -> None:
    svg = lines("t", "x", [1, 2], [Lines("p", "ms", {"p50": [1, 2], "p99": [2, 5]})])
    dashes = [one.attrib["stroke-dasharray"] for one in ET.fromstring(svg).iter(f"{SVG}polyline")]
    assert len(dashes) == len(set(dashes)) == 2


def test_bars_are_as_long_as_their_values() -> None:
    svg = bars("Peers", [Bars("single", "texts/s", {"ours": 1000, "theirs": 250})])
    ours, theirs = (float(one.attrib["width"]) for one in list(ET.fromstring(svg).iter(f"{SVG}rect"))[1:])
    assert ours == pytest.approx(4 * theirs, abs=0.2)
    assert {"single (texts/s)", "ours", "1,000", "theirs", "250"} <= set(_texts(svg))
