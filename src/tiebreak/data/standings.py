"""The models of a data card: their strengths, and why some are not ranked among the others.

Dimension letters: N votes, C classes (a, b, tie), M models.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from tiebreak.data import rates, strengths
from tiebreak.data.clustered import FEWEST_PROMPTS, Share

WIDEST_MARGIN = 200
"""Elo points: a model whose interval is wider to either side is not ranked (200 are odds of three to one)."""

_ONE_SIDE = "always shown {}, so {} cannot be told from the position's effect"

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Model:
    """A model: votes it is in, share won of its decisive ones, Bradley-Terry strength in Elo points.

    margin: half the width of the strength's 95 % interval. why_apart: why it is not ranked; empty if it is.
    NaN for a strength that the votes cannot tell.
    """

    name: str
    votes: int
    wins: Share
    elo: float
    margin: float
    why_apart: str


@dataclass(frozen=True)
class Standings:
    """Models, those that are ranked first, best first; and what side A is worth, in Elo points.

    advantage, margin: None if there are no votes of named models, or if the votes cannot tell: why_unknown.
    """

    models: list[Model]
    advantage: float | None = None
    margin: float | None = None
    why_unknown: str = ""


def standings(p_NC: Floats, model_N2: Ints, weight_N: Floats, group_N: Ints, names: list[str]) -> Standings:
    """Rank models by their votes, at least one; models are numbers of `names`."""
    fitted = strengths.fit(model_N2, p_NC, weight_N, group_N, len(names))
    why_not = _unplaced(p_NC, model_N2, fitted.placed_)
    models = []
    for m in np.unique(model_N2).tolist():
        won_NC, of_model_N = _from_its_side(p_NC, model_N2, m)
        wins = rates.a_wins(won_NC, weight_N[of_model_N], group_N[of_model_N])
        elo, margin, prompts = (float(x[m]) for x in (fitted.elo_, fitted.margin_, fitted.prompts_))
        why = why_not[m] if m in why_not else _too_little(prompts, margin)
        models.append(Model(names[m], int(of_model_N.sum()), wins, elo, margin, why))
    models.sort(key=lambda model: (model.why_apart != "", np.nan_to_num(-model.elo, nan=np.inf)))
    if np.isfinite(fitted.advantage_):
        return Standings(models, fitted.advantage_, fitted.advantage_margin_)
    return Standings(models, why_unknown=_why_unknown(model_N2, list(why_not), names))


def _from_its_side(p_NC: Floats, model_N2: Ints, model: int) -> tuple[Floats, NDArray[np.bool_]]:
    """The votes that a model is in, as if it were side A, and which votes these are."""
    second_N = model_N2[:, 1] == model
    of_model_N = (model_N2[:, 0] == model) | second_N
    return np.where(second_N[:, None], p_NC[:, [1, 0, 2]], p_NC)[of_model_N], of_model_N


def _too_little(prompts: float, margin: float) -> str:
    if prompts < FEWEST_PROMPTS:
        return f"in fewer than {FEWEST_PROMPTS} prompts"
    return f"interval wider than ± {WIDEST_MARGIN} Elo" if margin > WIDEST_MARGIN else ""


def _unplaced(p_NC: Floats, model_N2: Ints, placed_M: NDArray[np.bool_]) -> dict[int, str]:
    """Why each model that is not placed cannot be compared with those that are."""
    met = sparse.csr_array((np.ones(len(model_N2)), tuple(model_N2.T)), shape=(len(placed_M), len(placed_M)))
    part_M = connected_components(met, directed=False)[1]
    reasons = {}
    for m in np.setdiff1d(model_N2, np.flatnonzero(placed_M)).tolist():
        won, lost, _ = _from_its_side(p_NC, model_N2, m)[0].sum(axis=0)
        votes = int((model_N2 == m).sum())
        if placed_M.any() and part_M[m] not in part_M[placed_M]:
            reasons[m] = "never compared with the others, nor through a third"
        elif votes in (won, lost):
            reasons[m] = "won every vote" if won else "lost every vote"
        elif side := _only_side(model_N2, m):
            reasons[m] = _ONE_SIDE.format(side, "its strength")
        else:
            reasons[m] = "no votes for and against it, as a comparison with the others needs"
    return reasons


def _only_side(model_N2: Ints, model: int) -> str:
    """The side that a model was always shown on, if there is one."""
    first, second = (model_N2 == model).sum(axis=0).tolist()
    return "" if first and second else "first" if first else "second"


def _why_unknown(model_N2: Ints, unplaced: list[int], names: list[str]) -> str:
    """Why position's worth cannot be told."""
    for side in ("first", "second"):
        found = [names[m] for m in unplaced if _only_side(model_N2, m) == side]
        if len(found) == 1:
            return f"{found[0]} was {_ONE_SIDE.format(side, 'its strength')}"
        if found:
            several = f" and {len(found) - 3} more" * (len(found) > 3)
            return f"{', '.join(found[:3])}{several} were {_ONE_SIDE.format(side, 'their strength')}"
    return "the votes do not tell it from the strengths of the models"
