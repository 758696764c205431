"""Analysis of judged comparisons, with people's votes where there are any, or of votes alone.

Dimension letters: N comparisons, C classes (a, b, tie), M models, P pairs of models.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tiebreak.comparison.judged import Judged
from tiebreak.comparison.results import (
    Comparison,
    Leaderboard,
    NextVotes,
    Pair,
    Rates,
    Slice,
    Source,
    Standing,
    Style,
    Worth,
)
from tiebreak.comparison.sentences import headline, notes
from tiebreak.evaluate.text_features import STYLE
from tiebreak.stats import length_controlled, ppi, ratings, style_control
from tiebreak.stats.bradley_terry import ELO, prompts_of
from tiebreak.stats.clustered import FEWEST_PROMPTS, effective_groups
from tiebreak.stats.metrics import Estimate
from tiebreak.stats.next_votes import next_votes
from tiebreak.stats.rank_intervals import rank_intervals
from tiebreak.votes.schema import swap_answers

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEXT_VOTES = 100
"""Votes for which a plan is made, unless it is said for how many."""
WIDTH = 0.04
"""The width of a win rate's interval that is wanted: two points to either side."""
MOST_SLICES = 60
_SCORE_C = np.array([1.0, 0.0, 0.5])


@dataclass(frozen=True)
class Rows:
    """Comparisons as arrays. y_NC: by votes, NaN without; f_NC: by a judge, None without one; count_N: votes on each."""

    models: tuple[str, ...]
    model_N2: Ints
    prompt_N: Ints
    f_NC: Floats | None
    y_NC: Floats | None
    count_N: Ints

    @property
    def sources(self) -> list[Source]:
        """Those there are, the most reliable first."""
        if self.y_NC is None:
            return ["judge"]
        return ["votes"] if self.f_NC is None else ["votes and judge", "votes", "judge"]

    def of(self, source: Source) -> tuple[Floats, Floats | None]:
        """What counts as votes, and what as the judge beside them."""
        if source == "judge" or self.y_NC is None:
            assert self.f_NC is not None
            return self.f_NC, None
        return self.y_NC, self.f_NC if source == "votes and judge" else None


def rows_of(judged: Judged, votes: tuple[Floats, Ints] | None = None) -> Rows:
    """Judged comparisons, with the means and numbers of votes on them, if there are votes."""
    y_NC, count_N = votes or (None, np.zeros(len(judged.table), np.int64))
    return Rows(judged.models, judged.sides, judged.prompts, judged.probabilities, y_NC, count_N)


def compare(
    judged: Judged,
    votes: tuple[Floats, Ints] | None = None,
    by: Sequence[str] = (),
    width: float = WIDTH,
    next_votes: int = NEXT_VOTES,
) -> Comparison:
    """Compare models by a judge, and by votes where there are any.

    by: what to look at apart: language, length, or a column. width: of a win rate's interval, for which the votes that are needed are told.
    next_votes: for how many votes to plan.
    """
    rows = rows_of(judged, votes)
    fitted = {source: _fit(rows, source) for source in rows.sources}
    boards = [leaderboard(rows, source, fitted[source]) for source in rows.sources]
    pairs = tuple(_pairs(rows, judged, boards[0], width))
    slices = tuple(one for name in by for one in _slices(rows, name, judged.slices(name)))
    worth = _worth(rows, fitted) if rows.y_NC is not None else None
    plan = _next_votes(rows, fitted, worth, next_votes) if worth else _first_votes(rows, next_votes)
    return Comparison(
        headline(boards[0], pairs),
        tuple(notes(rows.y_NC is not None, sampling_gap(rows), boards[0])),
        boards[0],
        tuple(boards[1:]),
        tuple(_styles(rows, judged)),
        pairs,
        slices,
        worth,
        plan,
        width,
    )


def leaderboard(rows: Rows, source: Source, fitted: ratings.Ratings | None = None) -> Leaderboard:
    """The leaderboard by a source."""
    found = fitted or _fit(rows, source)
    y_NC, _ = rows.of(source)
    voted_N = ~np.isnan(y_NC[:, 0])
    margin_M = found.margins
    best_M, worst_M = _ranks(found, rows.prompt_N[voted_N])
    ranked_M = found.comparable_ & (found.prompts_ >= FEWEST_PROMPTS)
    standings = []
    for m, name in enumerate(rows.models):
        elo = None
        if found.comparable_[m]:
            value, half = float(ELO * found.strengths_[m]), float(ELO * margin_M[m])
            elo = Estimate(value, value - half, value + half) if ranked_M[m] else Estimate(value)
        best, worst = (int(best_M[m]), int(worst_M[m])) if ranked_M[m] else (None, None)
        rates = _rates_of_model(rows, source, m)
        standings.append(Standing(name, elo, best, worst, rates, _why_apart(found, m, rates)))
    order = sorted(range(len(standings)), key=lambda m: _place(standings[m]))
    return Leaderboard(
        source,
        int(voted_N.sum()),
        len(np.unique(rows.prompt_N[voted_N])),
        tuple(standings[m] for m in order),
        _p_better(found, np.array(order)),
        found.log_tie_ if math.isfinite(found.log_tie_) else None,
        found.weight_ if source == "votes and judge" else None,
    )


def _place(standing: Standing) -> tuple[bool, bool, bool, float]:
    """Where it comes: if it won everything first; by strength; those that are not ranked last, and of them those without strength by win rate."""
    value = standing.elo.value if standing.elo else standing.rates.win_rate.value
    place = -value if math.isfinite(value) else math.inf
    return not standing.unbeaten, bool(standing.why_apart), standing.elo is None, place


def _fit(rows: Rows, source: Source) -> ratings.Ratings:
    y_NC, f_NC = rows.of(source)
    return ratings.fit(rows.model_N2, y_NC, rows.prompt_N, len(rows.models), f_NC)


def _ranks(found: ratings.Ratings, prompt_N: Ints) -> tuple[Ints, Ints]:
    """The best and worst rank (M,) among the models that are ranked; 0 for others."""
    ranked = np.flatnonzero(found.comparable_ & (found.prompts_ >= FEWEST_PROMPTS))
    best_M, worst_M = np.zeros((2, len(found.comparable_)), dtype=np.int64)
    if len(ranked) > 1:
        degrees = effective_groups(np.ones(len(prompt_N)), prompt_N) - 1
        covariance_MM = found.covariance_[np.ix_(ranked, ranked)]
        best_M[ranked], worst_M[ranked] = rank_intervals(found.strengths_[ranked], covariance_MM, degrees)
    return best_M, worst_M


def _why_apart(found: ratings.Ratings, m: int, rates: Rates) -> str:
    """Why a model is not ranked, or nothing."""
    if not found.prompts_[m]:
        return "no comparisons" if rates.source == "judge" else "no votes"
    if found.comparable_[m]:
        return "" if found.prompts_[m] >= FEWEST_PROMPTS else f"in fewer than {FEWEST_PROMPTS} prompts"
    for share, what in ((rates.win, "won"), (rates.loss, "lost"), (rates.tie, "had ties in")):
        if share.value == 1:
            return f"{what} all of its {rates.comparisons}"
    return "not to be compared: it met none of the others, or one side won everything"


def _p_better(found: ratings.Ratings, order: Ints) -> tuple[tuple[float | None, ...], ...]:
    size = len(order)
    a_P, b_P = np.repeat(order, size), np.tile(order, size)
    p_PC = np.where(
        found.comparable_[a_P, None] & found.comparable_[b_P, None], found.probabilities(a_P, b_P), np.nan
    )
    better_MM = (p_PC @ _SCORE_C).reshape(size, size)
    return tuple(tuple(None if np.isnan(p) else float(p) for p in row) for row in better_MM)


def _rates_of_model(rows: Rows, source: Source, m: int, within_N: NDArray[np.bool_] | None = None) -> Rates:
    """The rates of a model against all others."""
    of_model_N = (rows.model_N2 == m).any(axis=1)
    return _rates(rows, source, m, np.flatnonzero(of_model_N if within_N is None else of_model_N & within_N))


def _rates(rows: Rows, source: Source, m: int, chosen: Ints) -> Rates:
    """The rates of a model on some of its comparisons."""
    y_NC, f_NC = rows.of(source)
    swapped_N = rows.model_N2[chosen, 1] == m
    y_NC = swap_answers(y_NC[chosen], swapped_N)
    f_NC = np.zeros_like(y_NC) if f_NC is None else swap_answers(f_NC[chosen], swapped_N)
    if np.isnan(y_NC).all():
        nothing = Estimate(math.nan)
        return Rates(source, 0, nothing, nothing, nothing, nothing)
    of_class = ppi.means(y_NC, f_NC, rows.prompt_N[chosen])
    score = ppi.means((y_NC @ _SCORE_C)[:, None], (f_NC @ _SCORE_C)[:, None], rows.prompt_N[chosen])
    win, loss, tie = (_estimate(of_class, c) for c in range(3))
    return Rates(source, score.votes, win, tie, loss, _estimate(score))


def _estimate(found: ppi.Means, k: int = 0) -> Estimate:
    low, high = found.interval(k)
    value = float(found.value_K[k])
    return Estimate(value) if math.isnan(low) else Estimate(value, low, high)


def _pairs(rows: Rows, judged: Judged, board: Leaderboard, width: float) -> Iterator[Pair]:
    """The pairs of models that were compared, in the order of the leaderboard, the better one first."""
    place = {standing.model: n for n, standing in enumerate(board.standings)}
    pair_N2 = np.sort(rows.model_N2, axis=1)
    found, number_N = np.unique(pair_N2, axis=0, return_inverse=True)
    by_pair = np.split(np.argsort(number_N, kind="stable"), np.cumsum(np.bincount(number_N))[:-1])
    made = []
    for (a, b), chosen in zip(found.tolist(), by_pair, strict=True):
        first, second = (a, b) if place[rows.models[a]] < place[rows.models[b]] else (b, a)
        made.append(_pair(rows, judged, first, second, chosen, width))
    yield from sorted(made, key=lambda pair: (place[pair.model], place[pair.other]))


def _pair(rows: Rows, judged: Judged, m: int, other: int, chosen: Ints, width: float) -> Pair:
    names = rows.models[m], rows.models[other]
    rates = tuple(_rates(rows, source, m, chosen) for source in rows.sources)
    length_controlled = dict(_length_controlled(rows, judged, m, chosen))
    if rows.y_NC is None or not rates[0].comparisons:
        return Pair(*names, rates, length_controlled)
    y_N, f_N = _scores(rows, rows.sources[0], m, chosen)
    score = ppi.means(
        y_N[:, None], np.zeros((len(y_N), 1)) if f_N is None else f_N[:, None], rows.prompt_N[chosen]
    )
    if rates[0].win_rate.low is None:
        return Pair(*names, rates, length_controlled, score.votes)
    needed = score.votes_needed(width / 2)
    enough = math.ceil(needed) if needed <= score.judged else None
    return Pair(*names, rates, length_controlled, score.votes, score.effective_votes, enough)


def _scores(rows: Rows, source: Source, m: int, chosen: Ints) -> tuple[Floats, Floats | None]:
    """What votes, and the judge beside them, give a model on some of its comparisons: 1 a win, 0.5 a tie."""
    swapped_N = rows.model_N2[chosen, 1] == m
    y_NC, f_NC = rows.of(source)
    y_N: Floats = swap_answers(y_NC[chosen], swapped_N) @ _SCORE_C
    return y_N, None if f_NC is None else swap_answers(f_NC[chosen], swapped_N) @ _SCORE_C


def _length_controlled(rows: Rows, judged: Judged, m: int, chosen: Ints) -> Iterator[tuple[Source, Estimate]]:
    """The win rates at equal length of the sources with enough prompts."""
    swapped_N = rows.model_N2[chosen, 1] == m
    a_N, b_N = (style_NS[chosen, 0] for style_NS in judged.styles)
    lengths = np.where(swapped_N, b_N, a_N), np.where(swapped_N, a_N, b_N)
    for source in rows.sources:
        y_N, f_N = _scores(rows, source, m, chosen)
        if np.count_nonzero(~np.isnan(y_N)) < FEWEST_PROMPTS:
            continue
        found = length_controlled.win_rate(y_N, *lengths, rows.prompt_N[chosen], f_N)
        if not math.isnan(found.value):
            has_interval = not math.isnan(found.low)
            yield source, Estimate(found.value, *((found.low, found.high) if has_interval else ()))


def _styles(rows: Rows, judged: Judged) -> Iterator[Style]:
    """Strengths at equal style by each source."""
    style_NS = style_control.differences(*judged.styles)
    for source in rows.sources:
        y_NC, f_NC = rows.of(source)
        found = style_control.fit(rows.model_N2, y_NC, style_NS, rows.prompt_N, len(rows.models), f_NC)
        if found is None:
            continue
        coefficients = {
            name: Estimate(float(value), float(value - half), float(value + half))
            for name, value, half in zip(STYLE, found.coefficients_, found.margins_, strict=True)
        }
        yield Style(leaderboard(rows, source, found.ratings), coefficients)


def _slices(rows: Rows, by: str, slice_N: Sequence[str | None]) -> Iterator[Slice]:
    """The slices with the most comparisons."""
    names, count = np.unique([name for name in slice_N if name is not None], return_counts=True)
    values = np.array(slice_N, dtype=object)
    for name in names[np.argsort(-count, kind="stable")][:MOST_SLICES].tolist():
        within_N = values == name
        rates = {
            model: _rates_of_model(rows, rows.sources[0], m, within_N)
            for m, model in enumerate(rows.models)
            if (rows.model_N2[within_N] == m).any()
        }
        yield Slice(by, name, int(within_N.sum()), rates)


def _worth(rows: Rows, fitted: dict[Source, ratings.Ratings]) -> Worth | None:
    """What the judge is worth, where there are votes and a judge."""
    if "votes and judge" not in fitted:
        return None
    alone, both = (float(np.trace(fitted[source].covariance_)) for source in ("votes", "votes and judge"))
    compared = int((rows.count_N > 0).sum())
    effective = compared * alone / both if both > 0 else float(compared)
    return Worth(int(rows.count_N.sum()), compared, effective, fitted["votes and judge"].weight_)


def _next_votes(rows: Rows, fitted: dict[Source, ratings.Ratings], worth: Worth, votes: int) -> NextVotes:
    """Where the strengths' variances fall most; half of them where models can not be compared yet, if there are such."""
    pair_P2, free_P = _free(rows)
    found = fitted["votes and judge"]
    linked_P = found.comparable_[pair_P2].all(axis=1)
    first_P = _evenly(np.where(linked_P, 0, free_P), votes if not linked_P.any() else votes // 2)
    unjudged = 1 - worth.compared / len(rows.count_N)
    explained = (1 - worth.compared / worth.effective_votes) / unjudged if unjudged > 0 else 0.0
    left = votes - int(first_P.sum())
    chosen_P, falls = next_votes(found, pair_P2, free_P, left, min(max(explained, 0.0), 0.99))
    chosen_P += first_P
    chosen_P += _evenly(free_P - chosen_P, votes - int(chosen_P.sum()))
    return _plan(rows, pair_P2, chosen_P, falls if linked_P.any() else None)


def _first_votes(rows: Rows, votes: int) -> NextVotes:
    """The first votes: as many of each pair of models."""
    pair_P2, free_P = _free(rows)
    return _plan(rows, pair_P2, _evenly(free_P, votes), None)


def _evenly(free_P: Ints, votes: int) -> Ints:
    """The votes (P,) spread evenly over pairs, as far as each has comparisons without one."""
    chosen_P = np.zeros_like(free_P)
    for _ in range(min(votes, int(free_P.sum()))):
        chosen_P[int(np.where(chosen_P < free_P, -chosen_P, -votes - 1).argmax())] += 1
    return chosen_P


def _free(rows: Rows) -> tuple[Ints, Ints]:
    """The pairs of models (P, 2), and how many comparisons of each have no vote (P,)."""
    pair_P2, number_N = np.unique(np.sort(rows.model_N2, axis=1), axis=0, return_inverse=True)
    return pair_P2, np.bincount(number_N, rows.count_N == 0, len(pair_P2)).astype(np.int64)


def _plan(rows: Rows, pair_P2: Ints, chosen_P: Ints, falls: float | None) -> NextVotes:
    pairs = sorted(
        (
            (rows.models[a], rows.models[b], count)
            for (a, b), count in zip(pair_P2.tolist(), chosen_P.tolist(), strict=True)
            if count
        ),
        key=lambda pair: -pair[2],
    )
    return NextVotes(int(chosen_P.sum()), tuple(pairs), falls)


def sampling_gap(rows: Rows) -> float | None:
    """The largest difference, in standard errors less what chance explains, between the comparisons with votes and all of the same
    models, of what the judge says: how it rates each model, how likely a tie is, how far apart the answers are. Above 0 the votes are not
    on a random sample. None without a judge, and with votes on few prompts, or on all.
    """
    if rows.y_NC is None or rows.f_NC is None:
        return None
    model_N2, models = np.sort(rows.model_N2, axis=1), len(rows.models)
    p_NC = swap_answers(rows.f_NC, rows.model_N2[:, 0] > rows.model_N2[:, 1])
    lead_N = p_NC[:, 0] - p_NC[:, 1]
    said_N3 = np.column_stack([lead_N, p_NC[:, 2], np.abs(lead_N)])
    number_N = np.unique(model_N2, axis=0, return_inverse=True)[1]
    prompt_N = np.unique(rows.prompt_N, return_inverse=True)[1]
    voted_N = rows.count_N > 0
    count_P = np.bincount(number_N)
    share_N = voted_N - (np.bincount(number_N, voted_N) / count_P)[number_N]
    off_N3 = share_N[:, None] * (said_N3 - (ppi.sums(said_N3, number_N) / count_P[:, None])[number_N])
    of_models = np.r_[off_N3[:, 0], -off_N3[:, 0]], (np.tile(prompt_N, 2), model_N2.T.ravel())
    off_GF = sparse.hstack(
        [sparse.csr_array(of_models, shape=(prompt_N.max() + 1, models)), ppi.sums(off_N3[:, 1:], prompt_N)]
    )
    square_F = np.asarray(off_GF.power(2).sum(axis=0))
    prompts_M = prompts_of(model_N2[voted_N], np.ones(voted_N.sum()), prompt_N[voted_N], models)
    many_F = np.append(prompts_M, [len(np.unique(prompt_N[voted_N]))] * 2) >= FEWEST_PROMPTS
    tested_F = many_F & (square_F > 1e-20)
    if not tested_F.any():
        return None
    z_F = np.abs(np.asarray(off_GF.sum(axis=0))[tested_F]) / np.sqrt(square_F[tested_F])
    return float(z_F.max() - math.sqrt(2 * math.log(40 * len(z_F))))
