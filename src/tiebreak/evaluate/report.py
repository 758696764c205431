"""The report: one self-contained HTML file, rendered from metrics.json alone."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jinja2

from tiebreak import plain
from tiebreak.evaluate import plots
from tiebreak.output import write_atomically
from tiebreak.stats.metrics import MIN_GROUPS

CLASS_NAMES = ("P(A)", "P(B)", "P(tie)")

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("tiebreak.evaluate"),
    autoescape=jinja2.select_autoescape(["html", "html.j2"]),
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
)


def render(metrics: Mapping[str, Any]) -> str:
    """Render the report as HTML, from the metrics.json of step 9.

    Optional keys: `best_possible_log_loss`, also drawn as a line, and `closed` (a share with its interval, see
    evaluate.skill_score), known for synthetic votes; `made_up`, true of such votes; `facts`, a dict of strings, numbers and dicts of these, is listed.
    """
    page = _templates.get_template("report.html.j2").render(
        m=metrics,
        ladder_plot=partial(_ladder_plot, metrics),
        reliability_plot=plots.reliability,
        class_names=CLASS_NAMES,
        label=label,
        number=number,
        min_groups=MIN_GROUPS,
        value_is_table=lambda value: isinstance(value, Mapping) and bool(value),
    )
    return plain.lines(page)


def write(metrics: Mapping[str, Any], path: Path) -> None:
    """Render to `path`, atomically."""
    write_atomically(path, render(metrics))


def label(variant: Mapping[str, Any]) -> str:
    """The label of a variant: `student, both orders, calibrated`."""
    parts = [variant["stage"]]
    if variant["both_orders"]:
        parts.append("both orders")
    if variant["calibrated"]:
        parts.append("calibrated")
    return ", ".join(parts)


def number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _ladder_plot(metrics: Mapping[str, Any], narrow: bool) -> str:
    prior, *variants = metrics["ladder"]
    marks = [("prior", prior["log_loss"]["value"])]
    if "best_possible_log_loss" in metrics:
        marks.append(("best possible", metrics["best_possible_log_loss"]))
    return plots.intervals(
        [(label(variant), variant["log_loss"]) for variant in variants], marks, "log loss", narrow
    )
