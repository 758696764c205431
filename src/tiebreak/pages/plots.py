"""Plots as inline SVG, coloured by the page's style sheet for dark mode."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

LETTER = 6.4
"""The width of a letter of the small text, about."""

_PAINT = {
    "grid": 'stroke="#e3e5e8"',
    "mark": 'stroke="#5a636d" stroke-width="1.2" stroke-dasharray="4 3"',
    "interval": 'stroke="#6c95dc" stroke-width="3.5" stroke-linecap="round"',
    "line": 'stroke="#2461c9" stroke-width="1.5" fill="none"',
    "dot": 'fill="#2461c9" stroke="#ffffff" stroke-width="1.5"',
    "small": 'fill="#5a636d" font-size="11.5"',
}
"""What the style sheet of pages makes of each class, in light."""


@dataclass(frozen=True)
class Layout:
    """The layout of a chart: names of `letters` a line end at `labels`, left of the scale, or stand above their rows."""

    width: int
    labels: int
    letters: int
    above: bool

    def height(self, lines: int) -> int:
        """Of a row whose name has this many lines."""
        return 14 * lines + 20 if self.above else max(30, 14 * lines + 4)

    def bar(self, height: int) -> float:
        """The height of the interval within a row."""
        return height - 13 if self.above else height / 2


WIDE = Layout(width=930, labels=320, letters=44, above=False)
NARROW = Layout(width=420, labels=12, letters=58, above=True)


def intervals(
    rows: Sequence[tuple[str, Mapping[str, Any]]],
    marks: Sequence[tuple[str, float]] = (),
    unit: str = "",
    digits: int = 4,
) -> Markup:
    """Plot of labelled estimates: a dot each, with its interval if any; vertical lines at `marks`.

    An estimate has value, low and high (None without an interval). unit: what they are figures of. The plot comes
    in two forms, of which the page shows the one that fits the screen.
    """
    wide, narrow = (interval_chart(rows, marks, unit, digits, layout) for layout in (WIDE, NARROW))
    return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(wide, narrow)


def interval_chart(
    rows: Sequence[tuple[str, Mapping[str, Any]]],
    marks: Sequence[tuple[str, float]],
    unit: str,
    digits: int,
    layout: Layout,
) -> Markup:
    """One form of the plot of `intervals`."""
    ends: list[float] = [
        row[end] for _, row in rows for end in ("value", "low", "high") if row[end] is not None
    ]
    ends += [value for _, value in marks]
    low, high = min(ends), max(ends)
    pad = (high - low or 1.0) * 0.06
    low, high = low - pad, high + pad
    names = [textwrap.wrap(name, layout.letters) for name, _ in rows]
    heights = [layout.height(len(lines)) for lines in names]

    def x(value: float) -> float:
        return round(layout.labels + (layout.width - layout.labels - 12) * (value - low) / (high - low), 1)

    texts, top = _marked([(f"{name} {value:.{digits}f}", x(value)) for name, value in marks], layout.width)
    bottom = top + sum(heights)
    parts = [_axis(x, _ticks(low, high), top, bottom), *texts]
    parts += [
        f'<line class="mark" x1="{x(value)}" x2="{x(value)}" y1="{top}" y2="{bottom}"/>' for _, value in marks
    ]
    parts.append(_small((layout.labels + layout.width) / 2, bottom + 31, unit))
    start = float(top)
    for lines, height, (name, row) in zip(names, heights, rows, strict=True):
        y = start + layout.bar(height)
        start += height
        bar = span = ""
        if row["low"] is not None:
            bar = f'<line class="interval" x1="{x(row["low"])}" x2="{x(row["high"])}" y1="{y}" y2="{y}"/>'
            span = f" ({row['low']:.{digits}f} to {row['high']:.{digits}f})"
        above = y - 12 - 7 * (len(lines) - 1)
        text = (
            _lines(lines, 4, above, "start")
            if layout.above
            else _lines(lines, layout.labels - 12, y + 4, "end")
        )
        parts.append(
            f'{text}{bar}<circle class="dot" cx="{x(row["value"])}" cy="{y}" r="4.5"><title>{escape(name)}: '
            f"{row['value']:.{digits}f}{span}</title></circle>"
        )
    least, most = (pick(rows, key=lambda row: row[1]["value"]) for pick in (min, max))
    spoken = f"{unit}: from {least[1]['value']:.{digits}f}, {least[0]}, to {most[1]['value']:.{digits}f}, {most[0]}"
    return _svg(layout.width, bottom + 36, parts, spoken)


def reliability(bins: Sequence[dict[str, Any]], name: str) -> Markup:
    """Reliability diagram: observed share against mean probability, one dot per bin, with the diagonal.

    A bin whose `low` is None has no interval.
    """
    size, left, top = 220, 38, 8

    def x(value: float) -> float:
        return round(left + (size - left - 8) * value, 1)

    def y(value: float) -> float:
        return round(top + (size - 38 - top) * (1 - min(max(value, 0.0), 1.0)), 1)

    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(
            f'<line class="grid" x1="{x(0)}" x2="{x(1)}" y1="{y(tick)}" y2="{y(tick)}"/>'
            f'<text class="small" text-anchor="end" x="{left - 5}" y="{y(tick) + 4}">{tick:g}</text>'
            + _small(x(tick), y(0) + 14, f"{tick:g}")
        )
    parts.append(f'<line class="mark" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}"/>')
    points = " ".join(f"{x(b['probability'])},{y(b['share'])}" for b in bins)
    parts.append(f'<polyline class="line" points="{points}"/>')
    for b in bins:
        px, share = x(b["probability"]), b["share"]
        if b["low"] is not None:
            parts.append(
                f'<line class="interval" x1="{px}" x2="{px}" y1="{y(b["low"])}" y2="{y(b["high"])}"/>'
            )
        parts.append(
            f'<circle class="dot" cx="{px}" cy="{y(share)}" r="3.5"><title>{escape(name)}: predicted '
            f"{b['probability']:.3f}, observed {share:.3f}, {b['rows']:g} rows</title></circle>"
        )
    parts.append(_small(x(0.5), size - 6, f"predicted {name}"))
    furthest = max(bins, key=lambda b: abs(b["probability"] - b["share"]))
    spoken = (
        f"{name}, predicted and observed, in {len(bins)} bins: furthest apart at {furthest['probability']:.3f} "
        f"predicted, {furthest['share']:.3f} observed"
    )
    return _svg(size, size, parts, spoken)


def standalone(drawing: Markup) -> str:
    """A drawing as an SVG of its own, such as for a notebook: black on white, as no page gives it its colours."""
    svg = str(drawing)
    for name, paint in _PAINT.items():
        svg = svg.replace(f'class="{name}"', paint)
    head = '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="13" '
    return svg.replace("<svg ", head, 1).replace(' style="', ' style="background:#ffffff;', 1)


def _axis(x: Any, ticks: Sequence[float], top: float, bottom: float) -> str:
    return "".join(
        f'<line class="grid" x1="{x(t)}" x2="{x(t)}" y1="{top}" y2="{bottom}"/>'
        + _small(x(t), bottom + 15, f"{t:g}")
        for t in ticks
    )


def _marked(marks: Sequence[tuple[str, float]], width: float) -> tuple[list[str], int]:
    """The texts of marks and the height that they take: one over the other where they would overlap."""
    taken: list[float] = []
    parts = []
    for text, at in sorted(marks, key=lambda mark: mark[1]):
        half = LETTER * len(text) / 2
        middle = min(max(at, half), width - half)
        line = next((n for n, end in enumerate(taken) if end < middle - half), len(taken))
        taken[line : line + 1] = [middle + half + LETTER]
        parts.append(_small(middle, 14 + 14 * line, text))
    return parts, 8 + 14 * max(len(taken), 1)


def _small(x: float, y: float, text: str) -> str:
    return f'<text class="small" text-anchor="middle" x="{x:g}" y="{y:g}">{escape(text)}</text>'


def _lines(lines: Sequence[str], x: float, y: float, anchor: str) -> str:
    """Wrap a name into lines centred on `y`."""
    top = y - 7 * (len(lines) - 1)
    spans = "".join(
        f'<tspan x="{x:g}" y="{top + 14 * n:g}">{escape(line)}</tspan>' for n, line in enumerate(lines)
    )
    return f'<text text-anchor="{anchor}">{spans}</text>'


def _ticks(low: float, high: float) -> list[float]:
    """Four to ten round numbers between `low` and `high`."""
    magnitude = 10.0 ** math.floor(math.log10(high - low))
    step = next(s * magnitude for s in (0.1, 0.2, 0.5, 1, 2) if (high - low) / (s * magnitude) <= 9)
    first = int(low // step) + 1
    return [round(n * step, 10) for n in range(first, int(high // step) + 1)]


def _svg(width: float, height: float, parts: Sequence[str], name: str) -> Markup:
    """A drawing with the name that a screen reader speaks."""
    size = f'viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px"'
    return Markup(f'<svg role="img" aria-label="{escape(name)}" {size}>{"".join(parts)}</svg>')
