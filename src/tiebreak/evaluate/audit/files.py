"""Files of an audit: the disagreements as CSV for a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tiebreak import plain
from tiebreak.output import write_atomically

COLUMNS = (
    *("id", "surprise", "slip", "people", "judge", "p_a", "p_b", "p_tie", "votes_a", "votes_b", "votes_tie"),
    *("model_a", "model_b", "prompt", "response_a", "response_b"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for a formula at the beginning of a cell (OWASP, CSV injection)."""


def write_csv(disagreements: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write disagreements (audit.disagreements) in COLUMNS, atomically; texts are plain, and none is a formula."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(COLUMNS)
    for row in disagreements:
        rows.writerow([_cell(row[name]) for name in COLUMNS])
    write_atomically(path, file.getvalue())


def text_of(turns: Iterable[str | None]) -> str:
    """Turns as one text; a missing answer says so."""
    return "\n\n".join("(no answer)" if turn is None else turn for turn in turns)


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return f"{value:.4f}"
    text = plain.lines(text_of(value) if isinstance(value, list) else value)
    return f"'{text}" if text.lstrip(" \n").startswith(_FORMULA) else text
