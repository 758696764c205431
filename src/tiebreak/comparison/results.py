"""What a comparison of models finds: figures with intervals, a leaderboard, pairs of models, slices. Frozen, ready for JSON."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from tiebreak.errors import TiebreakError, nearest
from tiebreak.pages import notebook
from tiebreak.stats.metrics import Estimate

if TYPE_CHECKING:
    import pandas as pd

    from tiebreak.comparison.plot import Svg

Source = Literal["judge", "votes", "votes and judge"]


@dataclass(frozen=True)
class Rates:
    """How often a model wins, ties and loses against others, and its win rate, of which ties are half.

    comparisons: those that it is counted on. Intervals are None where there are too few prompts.
    """

    source: Source
    comparisons: int
    win: Estimate
    tie: Estimate
    loss: Estimate
    win_rate: Estimate


@dataclass(frozen=True)
class Standing:
    """A model's place. elo: its strength, in Elo points relative to the models' mean; None if it cannot be compared.

    best_rank, worst_rank: all models' ranks are within theirs, together, with 95 % confidence. why_apart: the reason why it is not ranked, or
    empty.
    """

    model: str
    elo: Estimate | None
    best_rank: int | None
    worst_rank: int | None
    rates: Rates
    why_apart: str = ""

    @property
    def unbeaten(self) -> bool:
        """True if it won everything, on enough prompts for an interval: it has no strength, for there is no upper bound."""
        return self.elo is None and self.rates.win.value == 1 and self.rates.win_rate.low is not None


@dataclass(frozen=True)
class Leaderboard:
    """Models, best first. p_better: (models, models) in this order, the win rate of one against another by the fitted model.

    log_tie: log v of Davidson's model, None where nothing was a tie. judge_weight: of the judge beside votes.
    """

    source: Source
    comparisons: int
    prompts: int
    standings: tuple[Standing, ...]
    p_better: tuple[tuple[float | None, ...], ...]
    log_tie: float | None
    judge_weight: float | None = None

    def win_rate(self, model: str, other: str) -> float | None:
        """P(model preferred to other), ties as half, by the fitted strengths. Raises TiebreakError for an unknown model."""
        names = [standing.model for standing in self.standings]
        for name in (model, other):
            if name not in names:
                raise TiebreakError(f"no model {name!r}; {nearest(name, names)}")
        return self.p_better[names.index(model)][names.index(other)]

    def to_frame(self) -> "pd.DataFrame":
        """A row a model, best first. Needs pandas."""
        return _frame([standing_row(standing) for standing in self.standings])

    def _repr_html_(self) -> str:
        """The standings, for a notebook."""
        return notebook.fragment(
            f"{self.comparisons:,} comparisons on {self.prompts:,} prompts, by {self.source}", [self._table()]
        )

    def _table(self) -> notebook.Table:
        columns = ("model", "rank", "Elo", "win rate, %", "comparisons", "why it is not ranked")
        shown = len(columns) if any(standing.why_apart for standing in self.standings) else -1
        return notebook.Table(columns[:shown], [_shown(standing)[:shown] for standing in self.standings])

    def plot(self) -> "Svg":
        """Strengths with their intervals, as SVG, which a notebook shows."""
        from tiebreak.comparison.plot import strengths

        return strengths(self)


@dataclass(frozen=True)
class Pair:
    """Two models compared: `model` against `other`, by each source there is, the most reliable first.

    length_controlled: the win rate at equal length (AlpacaEval 2's) by each source that tells. effective_votes: the votes without a judge
    that would be as exact as those there are with it. votes_for_width: votes for a win rate's interval of the width that is wanted, None if
    more votes alone cannot give it.
    """

    model: str
    other: str
    rates: tuple[Rates, ...]
    length_controlled: dict[Source, Estimate]
    votes: int = 0
    effective_votes: float | None = None
    votes_for_width: int | None = None

    @property
    def at_equal_length(self) -> Estimate | None:
        """The win rate at equal length by the most reliable source that tells."""
        return next(iter(self.length_controlled.values()), None)


@dataclass(frozen=True)
class Style:
    """Strengths at equal style, and what each measure of style adds to the log odds, by a source."""

    leaderboard: Leaderboard
    coefficients: dict[str, Estimate]


@dataclass(frozen=True)
class Slice:
    """Win rates of all models against the others on some of the comparisons."""

    by: str
    name: str
    comparisons: int
    rates: dict[str, Rates]


@dataclass(frozen=True)
class Worth:
    """What the judge is worth beside votes: `votes` with it are as exact as `effective_votes` without, for the strengths."""

    votes: int
    compared: int
    effective_votes: float
    judge_weight: float


@dataclass(frozen=True)
class NextVotes:
    """Where the next votes lower the strengths' errors most: how many on which pairs, and by which share errors should fall.

    Without votes so far, as many on each pair; then the share is None.
    """

    votes: int
    pairs: tuple[tuple[str, str, int], ...]
    errors_fall_by: float | None


@dataclass(frozen=True)
class Comparison:
    """What is known of some models. leaderboard: by votes and judge where there are votes, else by the judge.

    by_source: the leaderboards of each source alone. headline: in a sentence. notes: what to know of the figures. width: of a win rate's
    interval, that is wanted.
    """

    headline: str
    notes: tuple[str, ...]
    leaderboard: Leaderboard
    by_source: tuple[Leaderboard, ...]
    style: tuple[Style, ...]
    pairs: tuple[Pair, ...]
    slices: tuple[Slice, ...]
    worth: Worth | None
    next_votes: NextVotes
    width: float = 0.04

    def _repr_html_(self) -> str:
        """The headline, the leaderboard and what to know of it, for a notebook."""
        return notebook.fragment(self.headline, [self.leaderboard._table()], self.notes)

    def to_frame(self) -> "pd.DataFrame":
        """A row a pair of models. Needs pandas."""
        return _frame([pair_row(pair) for pair in self.pairs])

    def plot(self) -> "Svg":
        """The leaderboard's strengths with their intervals, as SVG."""
        return self.leaderboard.plot()

    def as_dict(self) -> dict[str, Any]:
        """All of it in types of JSON, with null for what is not known."""
        found: dict[str, Any] = _without_nan(asdict(self))
        return found


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _shown(standing: Standing) -> tuple[object, ...]:
    """A standing as cells of a table that is read."""
    rank = None if standing.best_rank is None else f"{standing.best_rank} to {standing.worst_rank}"
    rates = standing.rates
    elo, win_rate = _with_interval(standing.elo, 0), _with_interval(rates.win_rate, 1, 100)
    return standing.model, rank, elo, win_rate, rates.comparisons, standing.why_apart


def _with_interval(found: Estimate | None, digits: int, times: int = 1) -> str | None:
    """An estimate, times a number, with its interval if it has one."""
    if found is None:
        return None
    value, *bounds = (
        f"{times * one:.{digits}f}" for one in (found.value, found.low, found.high) if one is not None
    )
    return f"{value} ({' to '.join(bounds)})" if bounds else value


def standing_row(standing: Standing) -> dict[str, Any]:
    """A standing in one row."""
    elo, rates = standing.elo, standing.rates
    return {
        "model": standing.model,
        **_named("elo", elo),
        "best_rank": standing.best_rank,
        "worst_rank": standing.worst_rank,
        **_named("win_rate", rates.win_rate),
        "comparisons": rates.comparisons,
        "why_apart": standing.why_apart,
    }


def pair_row(pair: Pair) -> dict[str, Any]:
    """A pair in one row, by its most reliable source."""
    rates = pair.rates[0]
    found = {
        "model": pair.model,
        "other": pair.other,
        "source": rates.source,
        "comparisons": rates.comparisons,
    }
    for name in ("win", "tie", "loss", "win_rate"):
        found |= _named(name, getattr(rates, name))
    return found | _named("length_controlled", pair.at_equal_length)


def _named(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    value, low, high = (estimate.value, estimate.low, estimate.high) if estimate else (None, None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _frame(rows: Sequence[dict[str, Any]]) -> "pd.DataFrame":
    try:
        import pandas as pd
    except ImportError:
        raise TiebreakError("a frame needs pandas: pip install pandas") from None
    return pd.DataFrame(list(rows))
