"""The report: one HTML file without outside resources, made from metrics.json alone."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jinja2

from tiebreak.evaluate import plots
from tiebreak.evaluate.metrics import MIN_GROUPS

CLASS_NAMES = ("P(A)", "P(B)", "P(tie)")

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("tiebreak.evaluate"),
    autoescape=jinja2.select_autoescape(["html", "html.j2"]),
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
)


def render(metrics: Mapping[str, Any]) -> str:
    """The report as HTML, from what step 9 writes into metrics.json.

    Keys may be added: `best_possible_log_loss` and `closed` (a share with its interval, see evaluate.closed),
    known for synthetic votes; the first is drawn as a line too. `facts`, a dict of strings, numbers and dicts of these, is listed.
    """
    return _templates.get_template("report.html.j2").render(
        m=metrics,
        ladder_plot=partial(_ladder_plot, metrics),
        reliability_plot=plots.reliability,
        class_names=CLASS_NAMES,
        label=label,
        number=number,
        min_groups=MIN_GROUPS,
        value_is_table=lambda value: isinstance(value, Mapping) and bool(value),
    )


def write(metrics: Mapping[str, Any], path: Path) -> None:
    """Render to `path`, under a temporary name first."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(render(metrics), encoding="utf-8")
    partial.replace(path)


def label(rung: Mapping[str, Any]) -> str:
    """What a rung is called: `student, both orders, calibrated`."""
    parts = [rung["stage"]]
    if rung["both_orders"]:
        parts.append("both orders")
    if rung["calibrated"]:
        parts.append("calibrated")
    return ", ".join(parts)


def number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _ladder_plot(metrics: Mapping[str, Any], narrow: bool) -> str:
    prior, *rungs = metrics["ladder"]
    marks = [("prior", prior["log_loss"]["value"])]
    if "best_possible_log_loss" in metrics:
        marks.append(("best possible", metrics["best_possible_log_loss"]))
    return plots.intervals([(label(rung), rung["log_loss"]) for rung in rungs], marks, "log loss", narrow)
