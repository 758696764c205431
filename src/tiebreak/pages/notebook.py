"""What a notebook shows of a result: a heading, tables and notes, as a fragment of HTML in the notebook's own style.

Texts of others are escaped, and their controls are made visible (tiebreak.plain), as on pages.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from tiebreak import plain, terminal


@dataclass(frozen=True)
class Table:
    """A table of a fragment. columns: none, if rows say what they are. rows: cells of any type, shown as text; the first is a heading."""

    columns: Sequence[str]
    rows: Iterable[Sequence[object]]
    caption: str = ""


def fragment(heading: str, tables: Iterable[Table], notes: Iterable[str] = ()) -> str:
    """A heading, tables below each other, and notes, a paragraph each."""
    parts = [
        _paragraph(heading, "strong"),
        *map(_table, tables),
        *(_paragraph(note, "small") for note in notes),
    ]
    return str(Markup("<div>{}</div>").format(Markup("").join(parts)))


def _paragraph(text: str, tag: str) -> Markup:
    return Markup(f"<p><{tag}>{{}}</{tag}></p>").format(_shown(text))


def _table(table: Table) -> Markup:
    heading = [_row(table.columns, "th")] if table.columns else []
    rows = [*heading, *(_row(row, "td") for row in table.rows)]
    caption = Markup("<caption>{}</caption>").format(_shown(table.caption)) if table.caption else ""
    return Markup('<table class="dataframe">{}{}</table>').format(caption, Markup("").join(rows))


def _row(cells: Sequence[object], tag: str) -> Markup:
    first, *others = (_shown(cell) for cell in cells)
    shown = Markup("").join(Markup(f"<{tag}>{{}}</{tag}>").format(cell) for cell in others)
    return Markup("<tr><th>{}</th>{}</tr>").format(first, shown)


def _shown(cell: object) -> Markup:
    return escape("–" if cell is None else plain.line(cell))


class Bar:
    """A bar that a notebook moves in place, and lines elsewhere: `tiebreak.train(votes, progress=Bar())`."""

    def __init__(self) -> None:
        self._shown: Any = None

    def __call__(self, event: Any) -> None:
        """Show an event of `tiebreak.train` as its line, and of all `tasks` how many have `ended`."""
        if "ipykernel" not in sys.modules:
            terminal.note(event)
            return
        from IPython.display import HTML, display

        bar = Markup('<progress value="{}" max="{}"></progress> {}')
        html = HTML(str(bar.format(event.ended, event.tasks, plain.line(event))))
        if self._shown is None:
            self._shown = display(html, display_id=True)
        else:
            self._shown.update(html)
