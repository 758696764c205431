"""The ladder: what each stage of the recipe scores on the lockbox, and each fold on its own rows.

Every result is a plain dict, ready for JSON; an estimate is {"value", "low", "high"}, a calibration error what
`calibrated.CalibrationError` holds. spread: the standard deviation of a rung's models, in log loss.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiebreak.data.clustered import share
from tiebreak.evaluate.calibrated import calibration_error
from tiebreak.evaluate.metrics import (
    Array,
    Bootstrap,
    accuracy,
    bin_of,
    difference,
    log_loss,
    prior_prediction,
    summarise,
)
from tiebreak.evaluate.stages import Scored

CURVE_BINS = 10


@dataclass(frozen=True)
class Truth:
    """Labelled votes: ids, soft labels (n, 3) and the number of each vote's prompt group."""

    ids: list[str]
    y_NC: Array
    groups_N: NDArray[np.int64]

    def only(self, ids: Sequence[str]) -> "Truth":
        """Those of `ids` that are labelled."""
        position = {vote: n for n, vote in enumerate(self.ids)}
        rows = [position[vote] for vote in ids if vote in position]
        return Truth([self.ids[n] for n in rows], self.y_NC[rows], self.groups_N[rows])


@dataclass(frozen=True)
class Rung:
    """One way of predicting the lockbox: by one model, or by the models of several folds.

    after: the stage that the first rung of this one is compared with.
    """

    stage: str
    both_orders: bool
    calibrated: bool
    names: tuple[str, ...]
    predictions: tuple[Array, ...]
    after: str = ""


def way(rung: Rung) -> dict[str, Any]:
    """What tells a rung from the others, as `report.label` reads it."""
    return {"stage": rung.stage, "both_orders": rung.both_orders, "calibrated": rung.calibrated}


def prior_rung(prior_C: Array, rows: int) -> Rung:
    """The class shares of the training votes, for every vote."""
    return Rung("class prior", False, False, ("",), (prior_prediction(prior_C, rows),))


def rungs(stage: str, models: Sequence[Scored], both_orders: bool = True, after: str = "") -> Iterator[Rung]:
    """A stage's rungs: one order; both orders; the better-informed of the two calibrated."""
    tta = both_orders and all(model.orders == 2 for model in models)
    calibrated = all(model.calibrator is not None for model in models)
    names = tuple("" if model.fold is None else f"fold {model.fold}" for model in models)
    for both, warm in ((False, False), (True, False), (tta, True)):
        if models and (tta or not both) and (calibrated or not warm):
            yield Rung(stage, both, warm, names, tuple(m.probabilities(both, warm) for m in models), after)


def climb(ladder: Sequence[Rung], truth: Truth, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Each rung's metrics, the mean over its models, and its change in log loss from the rung `below`."""
    results = []
    for n, rung in enumerate(ladder):
        result = _described(rung, truth, bootstrap)
        if below := _below(rung, ladder[:n]):
            change = difference(rung.predictions, below.predictions, truth.y_NC, bootstrap, truth.groups_N)
            result |= {"below": way(below), "change": asdict(change)}
        results.append(result)
    return results


def _below(rung: Rung, earlier: Sequence[Rung]) -> Rung | None:
    """The rung before it in its stage; for a stage's first the like one of the stage that it comes after."""
    like = {"stage": rung.after, "both_orders": rung.both_orders, "calibrated": rung.calibrated}
    near = (other for other in reversed(earlier) if other.stage == rung.stage or way(other) == like)
    return next(near, None)


def fold_results(models: Sequence[Scored], truth: Truth, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Each model on each split but the lockbox, then all held-out rows of a model's folds together.

    `origin` says whether the model has learned from these rows, as data.logits.LOGITS_SCHEMA has it; `fitted_here`
    marks a calibration that was fitted on the very rows it is scored on.
    """
    results = []
    pools: dict[tuple[str, bool, bool, str, bool], list[tuple[Array, Truth]]] = {}
    for model in sorted(models, key=lambda m: (m.model, m.split, -1 if m.fold is None else m.fold)):
        known = truth.only(model.ids)
        if model.split == "lockbox" or not known.ids:
            continue
        for rung in rungs(model.model, [model.aligned(known.ids)]):
            where: dict[str, Any] = {"fold": model.fold, "split": model.split, "origin": model.origin}
            where["fitted_here"] = rung.calibrated and model.split == model.calibrated_on
            results.append(where | _fold_result(rung, known, bootstrap))
            if model.split == "held_out":
                key = rung.stage, rung.both_orders, rung.calibrated, model.origin, where["fitted_here"]
                pools.setdefault(key, []).append((rung.predictions[0], known))
    for (stage, both, warm, origin, fitted_here), parts in pools.items():
        if len(parts) > 1:
            pooled = Rung(stage, both, warm, ("",), (np.concatenate([p_NC for p_NC, _ in parts]),))
            where = {"fold": "all", "split": "held_out", "origin": origin, "fitted_here": fitted_here}
            results.append(where | _fold_result(pooled, _joined([known for _, known in parts]), bootstrap))
    return results


def reliability(p_NC: Array, y_NC: Array, groups_N: NDArray[np.int64]) -> list[list[dict[str, float | None]]]:
    """For each class the bins of a reliability diagram: mean probability, observed share, rows.

    The share's 95 % interval takes the rows of a group together; None for too few groups (data.clustered).
    """
    return [list(_curve(p_N, y_N, groups_N)) for p_N, y_N in zip(p_NC.T, y_NC.T, strict=True)]


def _curve(p_N: Array, y_N: Array, groups_N: NDArray[np.int64]) -> Iterator[dict[str, float | None]]:
    bins = bin_of(p_N, CURVE_BINS)
    for b in np.unique(bins):
        inside = bins == b
        seen = share(y_N[inside], np.ones(inside.sum()), groups_N[inside])
        yield {
            "probability": float(p_N[inside].mean()),
            "share": seen.value,
            "low": seen.low if seen.has_interval else None,
            "high": seen.high if seen.has_interval else None,
            "rows": seen.votes,
        }


def _described(rung: Rung, truth: Truth, bootstrap: Bootstrap) -> dict[str, Any]:
    scored = rung.predictions, truth.y_NC, bootstrap, truth.groups_N
    described = {
        **way(rung),
        "models": len(rung.predictions),
        **{name: asdict(estimate) for name, estimate in summarise(*scored).items()},
        "ece": asdict(calibration_error(*scored)),
    }
    if len(rung.names) > 1:
        described["folds"] = [
            {"name": name, "log_loss": log_loss(p_NC, truth.y_NC), "accuracy": accuracy(p_NC, truth.y_NC)}
            for name, p_NC in zip(rung.names, rung.predictions, strict=True)
        ]
        described["spread"] = float(np.std([fold["log_loss"] for fold in described["folds"]], ddof=1))
    return described


def _fold_result(rung: Rung, truth: Truth, bootstrap: Bootstrap) -> dict[str, Any]:
    result = {"rows": len(truth.ids)} | _described(rung, truth, bootstrap)
    del result["models"]
    return result


def _joined(parts: Sequence[Truth]) -> Truth:
    return Truth(
        [vote for part in parts for vote in part.ids],
        np.concatenate([part.y_NC for part in parts]),
        np.concatenate([part.groups_N for part in parts]),
    )
