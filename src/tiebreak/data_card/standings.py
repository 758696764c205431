"""Standings of the models in a data card: strengths, and the reasons why some models are not ranked.

Dimension letters: N votes, C classes (a, b, tie), M models.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from tiebreak.data_card import label_statistics
from tiebreak.stats import bradley_terry
from tiebreak.stats.clustered import FEWEST_PROMPTS, Share
from tiebreak.votes.schema import swap_answers

WIDEST_MARGIN = 200
"""Elo points: a model whose interval is wider to either side is not ranked (200 are odds of three to one)."""

MOST_MODELS = 500
"""Models that are ranked, those with the most votes: each step of the fit takes the cube of their number."""

_ONE_SIDE = "always shown {}, so {} cannot be told from the position's effect"

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Model:
    """A model: the number of its votes, its share of wins in the decisive ones, its Bradley-Terry strength in Elo points.

    margin: half the width of the strength's 95 % interval. why_apart: the reason why it is not ranked; empty if it is.
    A strength that is not estimable is NaN.
    """

    name: str
    votes: int
    wins: Share
    elo: float
    margin: float
    why_apart: str


@dataclass(frozen=True)
class Standings:
    """The models, ranked ones first, best first, and the advantage of side A in Elo points.

    advantage, margin: None if there are no votes of named models, or if not estimable, with the reason in why_unknown.
    """

    models: list[Model]
    advantage: float | None = None
    margin: float | None = None
    why_unknown: str = ""


def standings(p_NC: Floats, model_N2: Ints, weight_N: Floats, group_N: Ints, names: list[str]) -> Standings:
    """Rank models by their votes, at least one; models are indices into `names`."""
    votes_M = np.bincount(model_N2.ravel(), minlength=len(names))
    rare_M = np.argsort(np.argsort(-votes_M, kind="stable")) >= MOST_MODELS
    index_M = np.cumsum(~rare_M) - 1
    kept_N = ~rare_M[model_N2].any(axis=1)
    kept_p_NC, kept_model_N2 = p_NC[kept_N], model_N2[kept_N]
    fitted = bradley_terry.fit(
        index_M[kept_model_N2], kept_p_NC, weight_N[kept_N], group_N[kept_N], int((~rare_M).sum())
    )
    reason_of = _incomparable_models(kept_p_NC, kept_model_N2, fitted.comparable_[index_M] & ~rare_M)
    rare = f"not among the {MOST_MODELS} models with the most votes"
    reason_of |= dict.fromkeys(np.flatnonzero(rare_M).tolist(), rare)
    models = []
    rows_of = _rows_of_models(model_N2, votes_M)
    for m in np.flatnonzero(votes_M).tolist():
        rows = rows_of[m]
        won_NC = _as_side_a(p_NC[rows], model_N2[rows], m)
        wins = label_statistics.a_wins(won_NC, weight_N[rows], group_N[rows])
        elo, margin, prompts = (float(x[index_M[m]]) for x in (fitted.elo_, fitted.margin_, fitted.prompts_))
        if rare_M[m]:
            elo = margin = np.nan
        reason = reason_of[m] if m in reason_of else _insufficient_data(prompts, margin)
        models.append(Model(names[m], int(votes_M[m]), wins, elo, margin, reason))
    models.sort(key=lambda model: (model.why_apart != "", np.nan_to_num(-model.elo, nan=np.inf)))
    if np.isfinite(fitted.advantage_):
        return Standings(models, fitted.advantage_, fitted.advantage_margin_)
    return Standings(models, why_unknown=_unknown_advantage(model_N2, list(reason_of), names))


def _rows_of_models(model_N2: Ints, votes_M: Ints) -> list[Ints]:
    """The rows of each model's votes, in order."""
    order = np.argsort(model_N2.ravel(), kind="stable") // 2
    return np.split(order, np.cumsum(votes_M)[:-1])


def _as_side_a(p_NC: Floats, model_N2: Ints, model: int) -> Floats:
    """The votes of a model as if it were side A."""
    return swap_answers(p_NC, model_N2[:, 1] == model)


def _insufficient_data(prompts: float, margin: float) -> str:
    if prompts < FEWEST_PROMPTS:
        return f"in fewer than {FEWEST_PROMPTS} prompts"
    return f"interval wider than ± {WIDEST_MARGIN} Elo" if margin > WIDEST_MARGIN else ""


def _incomparable_models(p_NC: Floats, model_N2: Ints, comparable_M: NDArray[np.bool_]) -> dict[int, str]:
    """The reason for each incomparable model why it cannot be compared with the comparable ones."""
    compared = sparse.csr_array(
        (np.ones(len(model_N2)), tuple(model_N2.T)), shape=(len(comparable_M), len(comparable_M))
    )
    component_M = connected_components(compared, directed=False)[1]
    reasons = {}
    for m in np.setdiff1d(model_N2, np.flatnonzero(comparable_M)).tolist():
        rows = np.flatnonzero((model_N2 == m).any(axis=1))
        won, lost, _ = _as_side_a(p_NC[rows], model_N2[rows], m).sum(axis=0)
        votes = len(rows)
        if comparable_M.any() and component_M[m] not in component_M[comparable_M]:
            reasons[m] = "never compared with the others, nor through a third"
        elif votes in (won, lost):
            reasons[m] = "won every vote" if won else "lost every vote"
        elif side := _only_side(model_N2[rows], m):
            reasons[m] = _ONE_SIDE.format(side, "its strength")
        else:
            reasons[m] = "no votes for and against it, as a comparison with the others needs"
    return reasons


def _only_side(model_N2: Ints, model: int) -> str:
    """The side that a model was always shown on, or an empty string."""
    first, second = (model_N2 == model).sum(axis=0).tolist()
    return "" if first and second else "first" if first else "second"


def _unknown_advantage(model_N2: Ints, incomparable: list[int], names: list[str]) -> str:
    """The reason why the advantage of side A is not estimable."""
    shown_M2 = np.stack([np.bincount(model_N, minlength=len(names)) for model_N in model_N2.T], axis=1)
    for other, side in ((1, "first"), (0, "second")):
        found = [names[m] for m in incomparable if not shown_M2[m, other]]
        if len(found) == 1:
            return f"{found[0]} was {_ONE_SIDE.format(side, 'its strength')}"
        if found:
            several = f" and {len(found) - 3} more" * (len(found) > 3)
            return f"{', '.join(found[:3])}{several} were {_ONE_SIDE.format(side, 'their strength')}"
    return "the votes do not tell it from the strengths of the models"
