"""Plots as inline SVG that takes its colours from the page's style sheet, so that dark mode works."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

WIDTH = 930
LABELS = 320
ROW = 30


def intervals(
    rows: Sequence[tuple[str, Mapping[str, Any]]],
    marks: Sequence[tuple[str, float]] = (),
    unit: str = "",
) -> Markup:
    """A dot and, where it has one, an interval for each labelled estimate; vertical lines at `marks`."""
    ends: list[float] = [end for _, row in rows for end in row.values() if end is not None] + [
        value for _, value in marks
    ]
    low, high = min(ends), max(ends)
    pad = (high - low or 1.0) * 0.06
    low, high = low - pad, high + pad
    height = ROW * len(rows) + 58

    def x(value: float) -> float:
        return round(LABELS + (WIDTH - LABELS - 12) * (value - low) / (high - low), 1)

    parts = [_axis(x, _ticks(low, high), 22, height - 36, unit)]
    for name, value in marks:
        parts.append(
            f'<line class="mark" x1="{x(value)}" x2="{x(value)}" y1="22" y2="{height - 36}"/>'
            + _small(x(value), 14, f"{name} {value:.3f}")
        )
    for n, (name, row) in enumerate(rows):
        y = 22 + ROW * (n + 0.5)
        bar = span = ""
        if row["low"] is not None:
            bar = f'<line class="interval" x1="{x(row["low"])}" x2="{x(row["high"])}" y1="{y}" y2="{y}"/>'
            span = f" ({row['low']:.4f} to {row['high']:.4f})"
        parts.append(
            f'<text text-anchor="end">{_lines(name, LABELS - 12, y + 4)}</text>'
            f'{bar}<circle class="dot" cx="{x(row["value"])}" cy="{y}" r="4.5"><title>{escape(name)}: '
            f"{row['value']:.4f}{span}</title></circle>"
        )
    return _svg(WIDTH, height, parts)


def reliability(bins: Sequence[dict[str, Any]], name: str) -> Markup:
    """Observed share against mean probability, one dot a bin, with the diagonal of perfect calibration.

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
    return _svg(size, size, parts)


def _axis(x: Any, ticks: Sequence[float], top: float, bottom: float, unit: str) -> str:
    lines = "".join(
        f'<line class="grid" x1="{x(t)}" x2="{x(t)}" y1="{top}" y2="{bottom}"/>'
        + _small(x(t), bottom + 15, f"{t:g}")
        for t in ticks
    )
    return lines + _small((LABELS + WIDTH) / 2, bottom + 31, unit)


def _small(x: float, y: float, text: str) -> str:
    return f'<text class="small" text-anchor="middle" x="{x}" y="{y}">{escape(text)}</text>'


def _lines(name: str, x: float, y: float) -> str:
    """A name in as many lines as it needs, centred on `y`."""
    lines = textwrap.wrap(name, 44)
    top = y - 7 * (len(lines) - 1)
    return "".join(
        f'<tspan x="{x}" y="{top + 14 * n}">{escape(line)}</tspan>' for n, line in enumerate(lines)
    )


def _ticks(low: float, high: float) -> list[float]:
    """Four to ten round numbers inside."""
    magnitude = 10.0 ** math.floor(math.log10(high - low))
    step = next(s * magnitude for s in (0.1, 0.2, 0.5, 1, 2) if (high - low) / (s * magnitude) <= 9)
    first = int(low // step) + 1
    return [round(n * step, 10) for n in range(first, int(high // step) + 1)]


def _svg(width: float, height: float, parts: Sequence[str]) -> Markup:
    size = f'viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px"'
    return Markup(f'<svg role="img" {size}>{"".join(parts)}</svg>')
