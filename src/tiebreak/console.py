"""The console of tables and progress, by rich, whose import takes a good part of a quick command's time."""

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from tiebreak import plain


class Terminal(Console):
    """A console of rich whose texts are plain: no markup, no links, no escape sequences but its own."""

    def __init__(self, stderr: bool = False) -> None:
        stream = sys.stderr if stderr else sys.stdout
        super().__init__(
            file=getattr(stream, "unguarded", stream), markup=False, emoji=False, highlight=False
        )
        if self.width < 1:  # COLUMNS=0, in which rich shows nothing
            self.width = 80

    def render_str(self, text: str, **options: Any) -> Text:
        """A string as rich's text, made plain before its width is measured."""
        return super().render_str(plain.lines(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The pieces of anything, made plain but for rich's own controls."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else Segment(plain.lines(piece.text), piece.style)
