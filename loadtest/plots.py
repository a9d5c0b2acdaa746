"""Plots as SVG: panels of lines over a doubling scale, and panels of bars.

Colours are of Okabe and Ito's palette, darkened where a white background asks for it; no two lines differ by colour
alone, and every bar has its name and value beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from loadtest.figures import number

_WIDTH, _PANEL = 760, 270
_LEFT, _RIGHT, _HEAD, _FOOT = 80, 600, 40, 52
_COLOURS = ("#0072b2", "#c25400", "#00805f", "#a8457f")
_DASHES = ("", "7 4", "2 3", "9 3 2 3")
_BAR, _GAP, _NAMES = 22, 10, 230
_LETTERS = 14  # pixels between two lines of text
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .panel { fill: #ffffff } .grid { stroke: #d0d7de } .title { font-weight: 600; font-size: 15px }
  .line { fill: none; stroke-width: 2 }
"""


@dataclass(frozen=True, slots=True)
class Lines:
    """A panel: for each name one value for each x. `level`, a name and a value, is drawn straight across."""

    title: str
    y_axis: str
    series: Mapping[str, Sequence[float]]
    level: tuple[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Bars:
    """A panel: names and values, from the top; the first is ours."""

    title: str
    unit: str
    values: Mapping[str, float]


def lines(title: str, x_axis: str, x: Sequence[object], panels: Sequence[Lines], every: int = 1) -> str:
    """Panels one below the other over the same x, which stand at equal distances: each twice the one before, or times.
    Of many only some are named, `every` so many; the lines then have no marks."""
    height = _HEAD + len(panels) * _PANEL
    parts = [part for i, one in enumerate(panels) for part in _line_panel(one, x, x_axis, _HEAD + i * _PANEL, every)]
    return _svg(title, height, parts)


def bars(title: str, panels: Sequence[Bars]) -> str:
    """Panels one below the other, each on a scale of its own from 0."""
    parts: list[str] = []
    top = float(_HEAD + 8)
    for panel in panels:
        parts += _bar_panel(panel, top)
        top += 34 + len(panel.values) * (_BAR + _GAP) + 12
    return _svg(title, top, parts)


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect class="panel" width="{_WIDTH}" height="{height:.0f}" rx="8"/>',
        text(20, 28, title, "start", "title"),
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"


# --- lines ----------------------------------------------------------------------------------------------------


def _line_panel(panel: Lines, x: Sequence[object], x_axis: str, top: float, every: int) -> list[str]:
    highest = max([*(max(values) for values in panel.series.values()), panel.level[1] if panel.level else 0.0])
    step = _step(highest)
    ceiling = step * math.ceil(highest / step)
    upper, lower = top + 34, top + _PANEL - _FOOT

    def y_of(value: float) -> float:
        return lower - (lower - upper) * value / ceiling

    xs = [_LEFT + (_RIGHT - _LEFT) * i / max(1, len(x) - 1) for i in range(len(x))]
    parts = [text(_LEFT, top + 18, f"{panel.title}", "start"), *_axis(panel.y_axis, ceiling, step, y_of)]
    parts += [text(at, lower + 18, str(one), "middle") for at, one in list(zip(xs, x, strict=True))[::every]]
    parts.append(text((_LEFT + _RIGHT) / 2, lower + 36, x_axis, "middle"))
    named_at: list[float] = []
    for (name, values), colour, dash in zip(panel.series.items(), _COLOURS, _DASHES, strict=False):
        points = [(at, y_of(value)) for at, value in zip(xs, values, strict=True)]
        named_at.append(_free(points[-1][1], named_at))
        parts += _line(name, points, colour, dash, named_at[-1], marks=every == 1)
    if panel.level:
        name, value = panel.level
        points = [(_LEFT, y_of(value)), (_RIGHT, y_of(value))]
        parts += _line(name, points, "#57606a", "2 3", _free(y_of(value), named_at), marks=False)
    return parts


def _free(y: float, taken: Sequence[float]) -> float:
    """Where a name can stand, as near to `y` as those before it leave: above it."""
    while any(abs(y - other) < _LETTERS for other in taken):
        y -= 1
    return y


def _axis(name: str, ceiling: float, step: float, y_of: Callable[[float], float]) -> list[str]:
    parts = []
    for i in range(round(ceiling / step) + 1):
        y = y_of(i * step)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text(_LEFT - 8, y + 4, number(i * step), "end"))
    middle = (y_of(0) + y_of(ceiling)) / 2
    parts.append(f'<text transform="translate(20 {middle:.0f}) rotate(-90)" text-anchor="middle">{escape(name)}</text>')
    return parts


def _line(
    name: str, points: Sequence[tuple[float, float]], colour: str, dash: str, named_at: float, marks: bool
) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x = points[-1][0]
    parts = [f'<polyline class="line" stroke="{colour}" stroke-dasharray="{dash}" points="{path}"/>']
    if marks:
        parts += [f'<circle cx="{at:.1f}" cy="{height:.1f}" r="3.5" fill="{colour}"/>' for at, height in points]
    parts.append(f'<text x="{x + 12:.1f}" y="{named_at + 4:.1f}" style="fill: {colour}">{escape(name)}</text>')
    return parts


def _step(highest: float) -> float:
    """Of a grid of four to ten lines: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(highest / 4)) if highest > 0 else 1.0
    return next(power * times for times in (1, 2, 5, 10) if highest <= power * times * 5 or times == 10)


# --- bars -----------------------------------------------------------------------------------------------------


def _bar_panel(panel: Bars, top: float) -> list[str]:
    longest = max(panel.values.values())
    parts = [text(20, top + 18, f"{panel.title} ({panel.unit})", "start")]
    for i, (name, value) in enumerate(panel.values.items()):
        y = top + 34 + i * (_BAR + _GAP)
        width = (_RIGHT - _NAMES) * value / longest
        colour = _COLOURS[0] if i == 0 else "#8c959f"
        parts += [
            text(_NAMES - 10, y + 16, name, "end"),
            f'<rect x="{_NAMES}" y="{y:.1f}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>',
            text(_NAMES + width + 8, y + 16, number(value), "start"),
        ]
    return parts


def text(x: float, y: float, words: str, anchor: str, kind: str = "") -> str:
    """An element of that class; `anchor` is start, middle or end."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
