"""A leaderboard as a plot."""

from dataclasses import asdict

from markupsafe import Markup

from tiebreak.comparison.results import Leaderboard
from tiebreak.errors import TiebreakError
from tiebreak.pages.plots import NARROW, WIDE, interval_chart


class Svg(Markup):
    """A plot that a notebook shows."""

    def _repr_svg_(self) -> str:
        return str(self).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


def strengths(board: Leaderboard, narrow: bool = False) -> Svg:
    """Strengths with their intervals. Raises TiebreakError if none is known."""
    rows = [(standing.model, asdict(standing.elo)) for standing in board.standings if standing.elo]
    if not rows:
        raise TiebreakError("no model's strength is known, so that there is nothing to plot")
    return Svg(interval_chart(rows, [], "strength in Elo points", 0, NARROW if narrow else WIDE))
