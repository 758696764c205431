"""What a notebook shows of a result: a heading, tables and notes, as a fragment of HTML in the notebook's own style.

Texts of others are escaped, and their controls are made visible (tiebreak.plain), as on pages.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from tiebreak import plain


@dataclass(frozen=True)
class Table:
    """A table of a fragment. rows: cells of any type, shown as text; the first of a row is its heading."""

    columns: Sequence[str]
    rows: Iterable[Sequence[object]]
    caption: str = ""


def fragment(heading: str, tables: Iterable[Table], notes: Iterable[str] = ()) -> str:
    """A heading, tables below each other, and notes, a paragraph each."""
    parts = [_paragraph(heading, "strong"), *map(_table, tables), *(_paragraph(note, "small") for note in notes)]
    return str(Markup("<div>{}</div>").format(Markup("").join(parts)))


def _paragraph(text: str, tag: str) -> Markup:
    return Markup(f"<p><{tag}>{{}}</{tag}></p>").format(_shown(text))


def _table(table: Table) -> Markup:
    rows = [_row(table.columns, "th"), *(_row(row, "td") for row in table.rows)]
    caption = Markup("<caption>{}</caption>").format(_shown(table.caption)) if table.caption else ""
    return Markup('<table class="dataframe">{}{}</table>').format(caption, Markup("").join(rows))


def _row(cells: Sequence[object], tag: str) -> Markup:
    first, *others = (_shown(cell) for cell in cells)
    shown = Markup("").join(Markup(f"<{tag}>{{}}</{tag}>").format(cell) for cell in others)
    return Markup("<tr><th>{}</th>{}</tr>").format(first, shown)


def _shown(cell: object) -> Markup:
    return escape("–" if cell is None else plain.line(cell))


class Bar:
    """A bar that a notebook moves in place: `tiebreak.train(votes, progress=Bar())`. Needs IPython, which a notebook has."""

    def __init__(self) -> None:
        self._shown: Any = None

    def __call__(self, event: Any) -> None:
        """Show an event of `tiebreak.train`: its `text`, and of all `tasks` how many have `ended`."""
        from IPython.display import HTML, display

        bar = Markup('<progress value="{}" max="{}"></progress> {}')
        html = HTML(str(bar.format(event.ended, event.tasks, plain.line(event.text))))
        if self._shown is None:
            self._shown = display(html, display_id=True)
        else:
            self._shown.update(html)
