"""Page of an audit: one self-contained HTML file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak import pages
from tiebreak.evaluate.audit.files import text_of
from tiebreak.evaluate.report import CLASS_NAMES
from tiebreak.output import write_atomically
from tiebreak.pages import plots
from tiebreak.stats.metrics import MIN_GROUPS

MOST_SHOWN = 50
"""Disagreements on the page, the most surprising ones; a file has all."""

NAMES = {"a": "A", "b": "B", "tie": "a tie"}


def render(audit: Mapping[str, Any]) -> str:
    """Render an audit's figures (audit.audit) as HTML, texts of the most surprising disagreements included."""
    return pages.render(
        "tiebreak.evaluate",
        "audit.html.j2",
        a={"votes_from": (), **audit},
        shown=audit["disagreements"][:MOST_SHOWN],
        names=NAMES,
        text_of=text_of,
        reliability_plot=plots.reliability,
        class_names=CLASS_NAMES,
        min_groups=MIN_GROUPS,
    )


def write(audit: Mapping[str, Any], path: Path) -> None:
    """Render to `path`, atomically."""
    write_atomically(path, render(audit))
