"""Output of rows as a table or JSON, and of verdicts and findings as sentences."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tiebreak import plain, terminal
from tiebreak.engine.finding import Finding

if TYPE_CHECKING:
    from rich.table import Table

MARKS = {True: ("+", "green"), False: ("-", "red"), None: ("?", "yellow")}
"""Mark and colour of a finding, by its `holds`."""


def show(rows: Sequence[dict[str, Any]], as_json: bool, nothing: str = "") -> None:
    """Print rows with equal keys; without rows print `nothing` instead of a table."""
    if as_json:
        terminal.show_json(rows, indent=2)
        return
    if not rows:
        terminal.result(nothing)
        return
    terminal.show(table(rows))


def table(rows: Sequence[dict[str, Any]]) -> "Table":
    """Rows with equal keys as a table, at least one."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False)
    for column in rows[0]:
        made.add_column(plain.line(column), overflow="fold")
    for row in rows:
        *first, last = map(_cell, row.values())
        made.add_row(*map(plain.line, first), last)  # what breaks in the last column looks like no other row
    return made


def show_verdict(verdict: Mapping[str, Any], about: str = "") -> None:
    """Print a verdict (evaluate.verdict, as a dict): its headline, and a line for each finding."""
    from rich.text import Text

    style = "bold green" if verdict["use"] else "bold red"
    headline = f"{about}: {verdict['headline']}" if about else verdict["headline"]
    terminal.show(Text(plain.line(headline), style), soft_wrap=True)
    for finding in verdict["findings"]:
        mark, style = MARKS[finding["holds"]]
        text = Text.assemble("  ", (mark, style), f" {plain.line(finding['text'])}")
        terminal.show(text, soft_wrap=True)


def show_findings(findings: Sequence[Finding], as_json: bool) -> None:
    """Print a line for each finding and an empty one; nothing for JSON, which has them in its output."""
    if findings and not as_json:
        terminal.result(*findings, "")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
