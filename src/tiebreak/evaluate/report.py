"""The report: one self-contained HTML file, rendered from metrics.json alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tiebreak import pages
from tiebreak.evaluate.variants import Stage
from tiebreak.output import write_atomically
from tiebreak.pages import plots
from tiebreak.stats.metrics import MIN_GROUPS

CLASS_NAMES = ("P(A)", "P(B)", "P(tie)")


def render(metrics: Mapping[str, Any]) -> str:
    """Render the report as HTML, from the metrics.json of step 9.

    Optional keys: `votes_from`, names of the files of votes, and `finished`, the day, for the line below the title;
    `best_possible_log_loss`, also drawn as a line, and `closed` (a share with its interval, see
    evaluate.skill_score), known for synthetic votes; `made_up`, true of such votes; `facts`, a dict of strings, numbers and dicts of these, is listed.
    """
    ladder = metrics["ladder"]
    return pages.render(
        "tiebreak.evaluate",
        "report.html.j2",
        m=metrics,
        level=f"{100 * metrics['confidence']:g} %",
        prior=ladder[0] if ladder else None,
        baseline=next((row for row in reversed(ladder) if row["stage"] == Stage.BASELINE), None),
        final=ladder[-1] if ladder else None,
        steps_plot=_steps_plot(metrics) if ladder else "",
        reliability_plot=plots.reliability,
        class_names=CLASS_NAMES,
        label=label,
        min_groups=MIN_GROUPS,
        value_is_table=lambda value: isinstance(value, Mapping) and bool(value),
    )


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


def _steps_plot(metrics: Mapping[str, Any]) -> Markup:
    prior, *variants = metrics["ladder"]
    marks = [("class shares", prior["log_loss"]["value"])]
    if "best_possible_log_loss" in metrics:
        marks.append(("best possible", metrics["best_possible_log_loss"]))
    return plots.intervals([(label(variant), variant["log_loss"]) for variant in variants], marks, "log loss")
