"""The frontier's figures → a table and a plot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from loadtest import markdown


@dataclass(frozen=True, slots=True)
class Point:
    """One graph. Ratios are medians over the rounds, each taken within its round; the others compare with fp32."""

    name: str
    tokens_per_second: float
    ratio: float
    lowest_ratio: float
    highest_ratio: float
    ratio_by_cpu: float
    mean_cosine: float
    worst_cosine: float
    agreement: float  # share of the ten nearest neighbours that are fp32's, 0 to 1
    worst_batch_cosine: float  # of a text alone to itself in a batch


def table(points: Sequence[Point]) -> str:
    """Markdown."""
    head = (
        *("graph", "tokens/s", "× fp32", "(rounds)", "by CPU"),
        *("mean cosine", "worst", "top 10", "alone · in a batch"),
    )
    rows = []
    for one in points:
        cells = [
            *(one.name, f"{one.tokens_per_second:,.0f}", f"{one.ratio:.2f}"),
            *(f"{one.lowest_ratio:.2f}–{one.highest_ratio:.2f}", f"{one.ratio_by_cpu:.2f}"),
            *(f"{one.mean_cosine:.5f}", f"{one.worst_cosine:.4f}", f"{one.agreement:.1%}"),
            f"{one.worst_batch_cosine:.7f}",
        ]
        rows.append(cells)
    return markdown.table(head, rows)


_WIDTH, _HEIGHT = 820, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 780, 58, 390
_LABEL_HEIGHT = 17
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .panel { fill: #ffffff } .grid { stroke: #d0d7de } .title { font-weight: 600; font-size: 15px }
  .same { fill: #1d8a5f } .varies { fill: none; stroke: #c0392b; stroke-width: 2 } .goal { fill: #1d8a5f; opacity: 0.1 }
  @media (prefers-color-scheme: dark) {
    text { fill: #d1d7e0 } .panel { fill: #161b22 } .grid { stroke: #30363d }
  }
"""


@dataclass(frozen=True, slots=True)
class _Scale:
    """Where speed and agreement stand: × fp32 to the right, shares upwards."""

    fastest: float
    lowest: float

    @classmethod
    def of(cls, points: Sequence[Point]) -> _Scale:
        """With room for all of them, and for their names."""
        return cls(max(3.0, *(one.ratio for one in points)), min(0.9, *(one.agreement for one in points)) - 0.01)

    def x(self, ratio: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * ratio / (self.fastest * 1.45)

    def y(self, agreement: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * (agreement - self.lowest) / (1.005 - self.lowest)


def plot(points: Sequence[Point], invariant: float, goal: tuple[float, float]) -> str:
    """Speed to the right, agreement upwards. Hollow: vectors that depend on the batch (cosine below `invariant`)."""
    scale = _Scale.of(points)
    left, top = scale.x(goal[0]), scale.y(1)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>Speed against agreement</title><style>{_STYLE}</style>",
        f'<rect class="panel" width="{_WIDTH}" height="{_HEIGHT}" rx="8"/>',
        f'<text class="title" x="{_LEFT}" y="30">The ten nearest neighbours of fp32, against speed in bulk</text>',
        f'<rect class="goal" x="{left:.1f}" y="{top:.1f}" width="{_RIGHT - left:.1f}"'
        f' height="{scale.y(goal[1]) - top:.1f}"/>',
    ]
    return "\n".join([*lines, *_axes(scale), *_marks(points, invariant, scale), "</svg>"]) + "\n"


def _axes(scale: _Scale) -> Iterator[str]:
    for percent in range(100, int(scale.lowest * 100), -2 if scale.lowest > 0.8 else -5):
        height = scale.y(percent / 100)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>'
        yield f'<text x="{_LEFT - 8}" y="{height + 4:.1f}" text-anchor="end">{percent} %</text>'
    for half in range(int(scale.fastest * 2.6) + 1):
        yield f'<text x="{scale.x(half / 2):.1f}" y="{_BOTTOM + 22}" text-anchor="middle">{half / 2:g} ×</text>'
    yield (
        f'<text x="{(_LEFT + _RIGHT) / 2}" y="{_HEIGHT - 18}" text-anchor="middle">tokens per second ÷ those of fp32; '
        "hollow: the vector depends on the batch; green: the goal</text>"
    )


def _marks(points: Sequence[Point], invariant: float, scale: _Scale) -> Iterator[str]:
    """A circle and a name each; names stand below those that they would cover."""
    taken: list[tuple[float, float]] = []
    for one in sorted(points, key=lambda one: -one.agreement):
        kind = "same" if one.worst_batch_cosine >= invariant else "varies"
        across, up = scale.x(one.ratio), scale.y(one.agreement)
        height = up
        while any(abs(height - other) < _LABEL_HEIGHT and abs(across - beside) < 260 for beside, other in taken):
            height += 2
        taken.append((across, height))
        yield f'<circle class="{kind}" cx="{across:.1f}" cy="{up:.1f}" r="5"/>'
        yield f'<text x="{across + 10:.1f}" y="{height + 4:.1f}">{escape(one.name)}</text>'
