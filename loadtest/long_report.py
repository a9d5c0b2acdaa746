"""The evaluation's figures → Markdown tables and a plot (SVG)."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from loadtest import markdown, plots
from loadtest.long_corpus import VARIANTS
from loadtest.long_scores import Estimate

_TENTHS = range(1, 11)

# --- Markdown -------------------------------------------------------------------------------------------------


def tables(figures: Mapping[str, Any], model: str) -> str:
    methods = figures["methods"]
    low, high = figures["corpus"]["limits_of_thirds"]
    lengths = f"up to {low:,.0f} tokens", f"to {high:,.0f}", "longer"
    return "\n".join(
        (
            _about(figures, model),
            f"Overall, in %, with 95 % intervals (bootstrap over documents); MRR is of `half`.\n\n{_overall(figures)}",
            f"Recall@1 of `half` by depth (tenth of the document), in %.\n\n{_depths(methods, 'recall_by_depth')}",
            f"MRR of `half` by depth, in %.\n\n{_depths(methods, 'mrr_by_depth')}",
            f"Recall@1 of `half` by the length of the document (thirds of the corpus) and by kind, in %.\n\n"
            f"{_groups(methods, lengths)}",
            f"Differences of recall@1 in points, query by query; a 95 % interval that spans 0 shows nothing.\n\n"
            f"{_differences(figures)}",
            _costs(figures),
            _late_words(figures["late"]),
        )
    )


def _about(figures: Mapping[str, Any], model: str) -> str:
    corpus, asked = figures["corpus"], figures["queries"]
    python = ".".join(map(str, sys.version_info[:3]))
    rows = [
        [kind, *(f"{one[name]:,}" for name in ("documents", "tokens", "shortest", "longest"))]
        for kind, one in corpus["kinds"].items()
    ]
    by_depth = asked["by_depth"]
    return (
        f"{model}, window of {figures['window']} tokens, Python {python}, seed {figures['seed']}: "
        f"{corpus['documents']} documents of {corpus['tokens']:,} tokens together, and {asked['count']:,} passages, "
        f"{min(by_depth)} to {max(by_depth)} from each tenth.\n\n"
        + markdown.table(["documents", "count", "tokens", "shortest", "longest"], rows)
    )


def _overall(figures: Mapping[str, Any]) -> str:
    rows = [
        [name, *(_percent(one[variant]["recall"]) for variant in VARIANTS), _percent(one["half"]["mrr"])]
        for name, one in figures["methods"].items()
    ]
    return markdown.table(["method", *(f"recall@1, {variant}" for variant in VARIANTS), "MRR"], rows)


def _depths(methods: Mapping[str, Any], what: str) -> str:
    return markdown.table(
        ["method", *map(str, _TENTHS)], [[name, *_percents(one["half"][what])] for name, one in methods.items()]
    )


def _groups(methods: Mapping[str, Any], lengths: Sequence[str]) -> str:
    kinds = next(iter(methods.values()))["half"]["recall_by_kind"]
    rows = [
        [name, *_percents([*one["half"]["recall_by_length"], *one["half"]["recall_by_kind"].values()])]
        for name, one in methods.items()
    ]
    return markdown.table(["method", *lengths, *kinds], rows)


def _percent(found: Mapping[str, float]) -> str:
    return Estimate(**found).percent()


def _points(found: Mapping[str, float]) -> str:
    return Estimate(**found).points()


def _percents(shares: Sequence[float]) -> list[str]:
    return [f"{100 * share:.0f}" for share in shares]


def _differences(figures: Mapping[str, Any]) -> str:
    rows = [
        [f"{one['method']} − {one['than']}", *(_points(one[variant]) for variant in VARIANTS)]
        for one in figures["differences"]
    ]
    return markdown.table(["methods", *VARIANTS], rows)


def _costs(figures: Mapping[str, Any]) -> str:
    alone = figures["near_10000_tokens"]
    rows = [
        [f"{share} %", f"{one['ratio']:.3f}", f"{one['chunks_per_document']:.1f}"]
        for share, one in figures["costs"].items()
    ]
    return (
        "What overlap costs: tokens computed ÷ tokens of the documents, by the server's own metrics.\n\n"
        + markdown.table(["overlap", "computed ÷ tokens", "chunks a document"], rows)
        + f"\nOne document of {alone['tokens']:,} tokens alone, without overlap: {alone['ratio']:.3f}.\n"
    )


def _late_words(late: Mapping[str, Any]) -> str:
    rows = [
        [f"{name} chunks", _percent(late[f"{name}_recall"]), _percent(late[f"{name}_mrr"])]
        for name in ("usual", "late")
    ]
    return (
        f"Late chunking: {late['passages']} passages that the model reads whole ({late['read_whole']} were), in "
        f"{late['chunks']:,} chunks of at most {late['max_tokens']} tokens. {late['queries']:,} of them, those of ten "
        "words or more, are to be found among all, by half of their own words.\n\n"
        f"{markdown.table(['chunks', 'recall@1', 'MRR'], rows)}\n"
        f"Late − usual: {_points(late['difference'])} points of recall@1.\n"
    )


# --- the plot -------------------------------------------------------------------------------------------------

_WIDTH, _HEIGHT = 820, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 600, 58, 374
_LABEL_HEIGHT = 16
# Each has a contrast of at least 3 to both backgrounds.
_COLOURS = ("#7d8590", "#a87200", "#b0549c", "#8468d8", "#2a7fd0", "#2a7fd0", "#1d8a5f", "#1d8a5f")
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .panel { fill: #ffffff } .grid { stroke: #d0d7de } .title { font-weight: 600; font-size: 15px }
  .line { fill: none; stroke-width: 2 } .dashed { stroke-dasharray: 6 4 }
  @media (prefers-color-scheme: dark) {
    text { fill: #d1d7e0 } .panel { fill: #161b22 } .grid { stroke: #30363d }
  }
"""


def plot(title: str, series: Mapping[str, Sequence[float]], dashed: frozenset[str]) -> str:
    """Shares (0 to 1) by depth, one line a name, its name at its end; on a background of its own."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect class="panel" width="{_WIDTH}" height="{_HEIGHT}" rx="8"/>',
        plots.text(_LEFT, 30, title, "start", "title"),
        *_axes(len(next(iter(series.values())))),
    ]
    labels = _spread({name: _y(values[-1]) for name, values in series.items()})
    for (name, values), colour in zip(series.items(), _COLOURS, strict=False):
        lines += _line(name, values, colour, labels[name], name in dashed)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _axes(depths: int) -> list[str]:
    middle = (_LEFT + _RIGHT) / 2
    lines = [
        plots.text(middle, _HEIGHT - 14, "where in its document the passage begins (tenths, by characters)", "middle")
    ]
    lines.append(
        f'<text transform="translate(18 {(_TOP + _BOTTOM) / 2}) rotate(-90)" text-anchor="middle">recall@1</text>'
    )
    for percent in range(0, 101, 20):
        y = _y(percent / 100)
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y}" y2="{y}"/>')
        lines.append(plots.text(_LEFT - 8, y + 4, f"{percent} %", "end"))
    lines += [plots.text(_x(i, depths), _BOTTOM + 22, str(i + 1), "middle") for i in range(depths)]
    return lines


def _line(name: str, values: Sequence[float], colour: str, label: float, dashed: bool) -> list[str]:
    points = [(_x(i, len(values)), _y(value)) for i, value in enumerate(values)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    shape = '<polyline class="line dashed"' if dashed else '<polyline class="line"'
    leader = f'<polyline class="line" stroke="{colour}" opacity="0.5" style="stroke-width: 1" points='
    return [
        f'{shape} stroke="{colour}" points="{path}"/>',
        f'{leader}"{x + 3:.1f},{y:.1f} {_RIGHT + 14},{label:.1f}"/>',
        f'<text x="{_RIGHT + 18}" y="{label + 4:.1f}" style="fill: {colour}">{escape(name)}</text>',
    ]


def _spread(wanted: Mapping[str, float]) -> dict[str, float]:
    """Heights of labels, in the order of the lines' ends and far enough apart to be read."""
    names = sorted(wanted, key=lambda name: wanted[name])
    placed: dict[str, float] = {}
    lowest = float(_TOP)
    for i, name in enumerate(names):
        room_below = _BOTTOM - _LABEL_HEIGHT * (len(names) - 1 - i)
        placed[name] = lowest = min(max(wanted[name], lowest), room_below)
        lowest += _LABEL_HEIGHT
    return placed


def _x(index: int, count: int) -> float:
    return _LEFT + (_RIGHT - _LEFT) * (index + 0.5) / count


def _y(share: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * share
