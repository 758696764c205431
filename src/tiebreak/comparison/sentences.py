"""What a comparison of models found, in sentences for people who were not there."""

from collections.abc import Iterator, Sequence

from tiebreak.comparison.results import Comparison, Leaderboard, Pair, Source, Standing
from tiebreak.stats.clustered import FEWEST_PROMPTS
from tiebreak.stats.metrics import Estimate
from tiebreak.terminal import counted

BY: dict[Source, str] = {
    "judge": "by the judge",
    "votes": "by people's votes",
    "votes and judge": "by people's votes and the judge together",
}


_SHOWN = 6
"""Pairs of models that a sentence names."""


def headline(board: Leaderboard, pairs: Sequence[Pair]) -> str:
    """Who is ahead, by how much, and how sure that is; and who is not ranked."""
    ranked = [standing for standing in board.standings if not standing.why_apart]
    unbeaten = [standing for standing in board.standings if standing.unbeaten]
    if unbeaten:
        won = ", ".join(
            f"{s.model} won all of its {counted(s.rates.comparisons, 'comparison')}" for s in unbeaten
        )
        said = f"{won}, {BY[board.source]}: there is no upper bound to its strength"
    elif len(ranked) < 2:
        of = f"{counted(board.comparisons, 'comparison')} on {counted(board.prompts, 'prompt')}"
        return f"Too little to rank the models, {BY[board.source]}: {of}."
    else:
        said = _ahead(board.source, ranked, pairs)
    left = [s.model for s in board.standings if s.why_apart and not s.unbeaten]
    return f"{said}. Not ranked: {_listed(left)}." if left else f"{said}."


def _ahead(source: Source, ranked: Sequence[Standing], pairs: Sequence[Pair]) -> str:
    """Which of the models that are ranked is ahead."""
    first, second = ranked[0], ranked[1]
    rivals = [s.model for s in ranked[1:] if s.best_rank == 1]
    pair = next((p for p in pairs if {p.model, p.other} == {first.model, second.model}), None)
    shown = f": {against(pair)}" if pair else ""
    if not rivals:
        return f"{first.model} is ahead of the other{'s' * (len(ranked) > 2)}, {BY[source]}{shown}"
    level = [s.model for s in ranked[1:] if s.model in rivals and _is_level(first, s)]
    others = [name for name in rivals if name not in level]
    ahead = f"{_listed([first.model, *level])} come out even" if level else f"{first.model} leads"
    but = f", but {_listed(others)} may be as good" if others else ""
    return f"{ahead}{but}, {BY[source]}{shown}"


def _is_level(first: Standing, other: Standing) -> bool:
    """True where less than half a point lies between their strengths."""
    return first.elo is not None and other.elo is not None and abs(first.elo.value - other.elo.value) < 0.5


def against(pair: Pair) -> str:
    """How a model fares against another."""
    rate = pair.rates[0].win_rate
    return (
        f"{pair.model} is preferred to {pair.other} in {of_100(rate)} of 100 comparisons, ties counted half"
    )


def of_100(rate: Estimate) -> str:
    """A rate in a hundred, with its interval."""
    span = (
        "" if rate.low is None or rate.high is None else f" ({100 * rate.low:.0f} to {100 * rate.high:.0f})"
    )
    return f"{100 * rate.value:.0f}{span}"


def notes(with_votes: bool, sampling: float | None, board: Leaderboard) -> Iterator[str]:
    """What to know of the figures."""
    if board.source == "judge":
        yield (
            "Intervals are about which prompts were asked, and nothing else: where the judge's preferences are not people's, "
            "all figures are off by that. Some hundred votes on a random sample of these comparisons, which --next FILE draws, correct it (--votes)."
        )
    if with_votes:
        yield (
            "Intervals hold whatever the judge's errors are, if the votes are on a random sample of each pair's comparisons and "
            "the judge has not learned from them."
        )
    if sampling is not None and sampling > 0:
        yield (
            "The votes do not look like a random sample: the judge rates the comparisons with votes otherwise than the rest. "
            "Figures by votes and judge are then about the comparisons that were voted on."
        )
    if apart := [standing for standing in board.standings if standing.why_apart]:
        yield (
            f"Not ranked: {'; '.join(f'{standing.model} ({standing.why_apart})' for standing in apart[:5])}"
            + (f" and {len(apart) - 5} more." if len(apart) > 5 else ".")
        )


def _listed(names: Sequence[str]) -> str:
    if len(names) > 3:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def worth(found: Comparison) -> Iterator[str]:
    """What the judge is worth, beside the votes."""
    if found.worth is not None and found.leaderboard.prompts < FEWEST_PROMPTS:
        yield f"Votes on fewer than {FEWEST_PROMPTS} prompts do not tell what the judge is worth."
    elif found.worth is not None:
        votes, gained = found.worth.compared, found.worth.effective_votes - found.worth.compared
        yield (
            f"The judge is worth {gained:.0f} votes beside these {votes}: errors are as small as those of {votes + gained:.0f} votes alone."
            if gained >= 0.5
            else f"The judge adds nothing to these {votes} votes: it does not foresee them, or there are too few to tell."
        )


def advice(found: Comparison) -> Iterator[str]:
    """What the judge is worth, how many votes would do, and where to vote next."""
    yield from worth(found)
    yield from votes_for_width(found)
    yield from next_votes(found)


def votes_for_width(found: Comparison) -> Iterator[str]:
    """How many votes the pairs of models need for a win rate's interval of the width that is wanted."""
    told = [pair for pair in found.pairs if pair.effective_votes is not None]
    if told:
        needs = [
            f"{pair.model} against {pair.other} {pair.votes_for_width or 'more than are judged'} (there are {pair.votes})"
            for pair in told[:_SHOWN]
        ]
        more = f", and {len(told) - _SHOWN} more pairs in the page and JSON" if len(told) > _SHOWN else ""
        yield (
            f"Votes for a win rate whose interval is {100 * found.width:g} points wide: {', '.join(needs)}{more}."
        )


def next_votes(found: Comparison) -> Iterator[str]:
    """Where to vote next."""
    plan = found.next_votes
    if plan.votes and plan.errors_fall_by is not None:
        named = ", ".join(f"{a} and {b} {count}" for a, b, count in plan.pairs[:_SHOWN])
        more = f" and {len(plan.pairs) - _SHOWN} more pairs" if len(plan.pairs) > _SHOWN else ""
        yield (
            f"The next {plan.votes} votes are best spent on {named}{more}, each on prompts drawn at random (--next FILE writes them); errors of "
            f"the strengths should fall by {100 * plan.errors_fall_by:.0f} %."
        )
