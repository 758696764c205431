"""A leaderboard as a plot."""

from dataclasses import asdict

from markupsafe import Markup

from tiebreak.comparison.results import Leaderboard
from tiebreak.errors import TiebreakError
from tiebreak.pages.plots import WIDE, interval_chart, intervals, standalone

UNIT = "strength in Elo points"


class Svg(Markup):
    """A plot that a notebook shows."""

    def _repr_svg_(self) -> str:
        return str(self)


def strengths(board: Leaderboard) -> Svg:
    """Strengths with their intervals. Raises TiebreakError if none is known."""
    return Svg(standalone(interval_chart(_rows(board), [], UNIT, 0, WIDE)))


def strengths_on_page(board: Leaderboard) -> Markup:
    """The plot in the forms for wide and narrow screens; empty if no strength is known."""
    known = any(standing.elo for standing in board.standings)
    return intervals(_rows(board), unit=UNIT, digits=0) if known else Markup("")


def _rows(board: Leaderboard) -> list[tuple[str, dict[str, float | None]]]:
    rows = [(standing.model, asdict(standing.elo)) for standing in board.standings if standing.elo]
    if not rows:
        raise TiebreakError("no model's strength is known, so that there is nothing to plot")
    return rows
