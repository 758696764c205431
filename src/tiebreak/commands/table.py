"""Output of rows as a table or JSON, and of verdicts and findings as sentences."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tiebreak.engine.finding import Finding

MARKS = {True: ("+", "green"), False: ("-", "red"), None: ("?", "yellow")}
"""Mark and colour of a finding, by its `holds`."""


def show(rows: Sequence[dict[str, Any]], as_json: bool, nothing: str = "") -> None:
    """Print rows with equal keys; without rows print `nothing` instead of a table."""
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if not rows:
        print(nothing)
        return
    table = Table(box=None, pad_edge=False)
    for column in rows[0]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    Console().print(table)


def show_verdict(verdict: Mapping[str, Any], about: str = "") -> None:
    """Print a verdict (evaluate.verdict, as a dict): its headline, and a line for each finding."""
    console = Console()
    style = "bold green" if verdict["use"] else "bold red"
    console.print(
        Text(f"{about}: {verdict['headline']}" if about else verdict["headline"], style), soft_wrap=True
    )
    for finding in verdict["findings"]:
        mark, style = MARKS[finding["holds"]]
        console.print(Text.assemble("  ", (mark, style), f" {finding['text']}"), soft_wrap=True)


def show_findings(findings: Sequence[Finding], as_json: bool) -> None:
    """Print a line for each finding and an empty one; nothing for JSON, which has them in its output."""
    if findings and not as_json:
        print(*findings, "", sep="\n")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
