"""The page of a comparison: one self-contained HTML file."""

from collections.abc import Sequence

from tiebreak.comparison.plot import strengths_on_page
from tiebreak.comparison.results import Comparison
from tiebreak.comparison.sentences import BY, advice
from tiebreak.pages import render

MOST_PAIRS = 300
"""Pairs of models that are shown; all are in the JSON."""
MOST_MODELS = 12
"""Models in the tables of slices, and beside each other."""


def page(found: Comparison, judge: str, judged: int, remarks: Sequence[str] = ()) -> str:
    """Render a comparison as a page. judge: its name. judged: the comparisons. remarks: on the files."""
    boards = (found.leaderboard, *found.by_source)
    sources = tuple(BY[board.source] for board in found.by_source)
    return render(
        "tiebreak.comparison",
        "comparison.html.j2",
        found=found,
        judge=judge,
        judged=judged,
        remarks=tuple(remarks),
        by=BY,
        boards={board.source: board for board in boards},
        sources=sources,
        pairs_shown=found.pairs[:MOST_PAIRS],
        models=tuple(standing.model for standing in found.leaderboard.standings)[:MOST_MODELS],
        slices_by={
            name: [one for one in found.slices if one.by == name]
            for name in dict.fromkeys(s.by for s in found.slices)
        },
        apart=any(standing.why_apart for standing in found.leaderboard.standings),
        plot=strengths_on_page(found.leaderboard),
        sure=sum(standing.best_rank == 1 for standing in found.leaderboard.standings) == 1 or None,
        points=f"{100 * found.width:g} points",
        advice=[*advice(found)],
    )
