"""Variants of prediction: metrics of each stage on the lockbox (the ladder), and of each fold on its own rows.

Every result is a plain dict, ready for JSON; an estimate is {"value", "low", "high"}, a calibration error the fields
of `calibration_test.CalibrationError`. spread: the standard deviation of a variant's models, in log loss.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiebreak.judge.logits import ModelLogits
from tiebreak.stats.calibration_test import calibration_error
from tiebreak.stats.clustered import share
from tiebreak.stats.metrics import (
    Array,
    Bootstrap,
    accuracy,
    bin_of,
    difference,
    log_loss,
    prior_prediction,
    summarise,
)

CURVE_BINS = 10


@dataclass(frozen=True)
class LabelledVotes:
    """Labelled votes: ids, soft labels (n, 3) and the number of each vote's prompt group."""

    ids: list[str]
    y_NC: Array
    groups_N: NDArray[np.int64]

    def subset(self, ids: Sequence[str]) -> "LabelledVotes":
        """The labelled votes among `ids`."""
        position = {vote: n for n, vote in enumerate(self.ids)}
        rows = [position[vote] for vote in ids if vote in position]
        return LabelledVotes([self.ids[n] for n in rows], self.y_NC[rows], self.groups_N[rows])


class Stage(StrEnum):
    """Stages of the ladder with a name of their own; the others' are made of a teacher's or a blend's name."""

    PRIOR = "class shares"
    BASELINE = "baseline"
    STUDENT = "student"
    AVERAGED = "averaged"
    QUANTISED = "quantised"


def teacher_stage(teacher: str) -> str:
    """The stage of a teacher's variants."""
    return f"teacher {teacher}"


@dataclass(frozen=True)
class Variant:
    """A variant of prediction on the lockbox, by one model or by the models of several folds.

    after: the stage that the first variant of this stage is compared with.
    """

    stage: str
    both_orders: bool
    calibrated: bool
    names: tuple[str, ...]
    predictions: tuple[Array, ...]
    after: str = ""


def variant_key(variant: Variant) -> dict[str, Any]:
    """The identifying fields of a variant, as read by `report.label`."""
    return {"stage": variant.stage, "both_orders": variant.both_orders, "calibrated": variant.calibrated}


def prior_variant(prior_C: Array, rows: int) -> Variant:
    """The variant that predicts the class shares of the training votes for every vote."""
    return Variant(Stage.PRIOR, False, False, ("",), (prior_prediction(prior_C, rows),))


def variants(
    stage: str, models: Sequence[ModelLogits], both_orders: bool = True, after: str = ""
) -> Iterator[Variant]:
    """Variants of a stage: one order; both orders; the latter (or, without TTA, one order) calibrated."""
    tta = both_orders and all(model.orders == 2 for model in models)
    calibrated = all(model.calibrator is not None for model in models)
    names = tuple("" if model.fold is None else f"fold {model.fold}" for model in models)
    for both, calibrate in ((False, False), (True, False), (tta, True)):
        if models and (tta or not both) and (calibrated or not calibrate):
            yield Variant(
                stage, both, calibrate, names, tuple(m.probabilities(both, calibrate) for m in models), after
            )


def evaluate_variants(
    ladder: Sequence[Variant], truth: LabelledVotes, bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """Metrics of each variant, the mean over its models, and the change in log loss from the variant `below`."""
    results = []
    for n, variant in enumerate(ladder):
        result = _variant_metrics(variant, truth, bootstrap)
        if below := _reference_variant(variant, ladder[:n]):
            change = difference(variant.predictions, below.predictions, truth.y_NC, bootstrap, truth.groups_N)
            result |= {"below": variant_key(below), "change": asdict(change)}
        results.append(result)
    return results


def _reference_variant(variant: Variant, earlier: Sequence[Variant]) -> Variant | None:
    """The variant to compare with: the previous of the stage, or for its first the equivalent one of stage `after`."""
    equivalent = {
        "stage": variant.after,
        "both_orders": variant.both_orders,
        "calibrated": variant.calibrated,
    }
    candidates = (
        other
        for other in reversed(earlier)
        if other.stage == variant.stage or variant_key(other) == equivalent
    )
    return next(candidates, None)


def fold_results(
    models: Sequence[ModelLogits], truth: LabelledVotes, bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """Metrics of each model on each split but the lockbox, then of a model's folds on all their held-out rows.

    origin: as in judge.logits.LOGITS_SCHEMA, if the model has learned from these rows. fitted_here: the
    calibration was fitted on the same rows.
    """
    results = []
    pools: dict[tuple[str, bool, bool, str, bool], list[tuple[Array, LabelledVotes]]] = {}
    for model in sorted(models, key=lambda m: (m.model, m.split, -1 if m.fold is None else m.fold)):
        known = truth.subset(model.ids)
        if model.split == "lockbox" or not known.ids:
            continue
        for variant in variants(model.model, [model.aligned(known.ids)]):
            where: dict[str, Any] = {"fold": model.fold, "split": model.split, "origin": model.origin}
            where["fitted_here"] = variant.calibrated and model.split == model.calibrated_on
            results.append(where | _fold_result(variant, known, bootstrap))
            if model.split == "held_out":
                key = (
                    variant.stage,
                    variant.both_orders,
                    variant.calibrated,
                    model.origin,
                    where["fitted_here"],
                )
                pools.setdefault(key, []).append((variant.predictions[0], known))
    for (stage, both, calibrate, origin, fitted_here), parts in pools.items():
        if len(parts) > 1:
            pooled = Variant(stage, both, calibrate, ("",), (np.concatenate([p_NC for p_NC, _ in parts]),))
            where = {"fold": "all", "split": "held_out", "origin": origin, "fitted_here": fitted_here}
            results.append(
                where | _fold_result(pooled, _concatenated([known for _, known in parts]), bootstrap)
            )
    return results


def reliability(p_NC: Array, y_NC: Array, groups_N: NDArray[np.int64]) -> list[list[dict[str, float | None]]]:
    """Bins of a reliability diagram for each class: mean probability, observed share, rows.

    The share's 95 % interval is clustered by group; None for too few groups (stats.clustered).
    """
    return [list(_curve(p_N, y_N, groups_N)) for p_N, y_N in zip(p_NC.T, y_NC.T, strict=True)]


def _curve(p_N: Array, y_N: Array, groups_N: NDArray[np.int64]) -> Iterator[dict[str, float | None]]:
    bins = bin_of(p_N, CURVE_BINS)
    for b in np.unique(bins):
        inside = bins == b
        observed = share(y_N[inside], np.ones(inside.sum()), groups_N[inside])
        yield {
            "probability": float(p_N[inside].mean()),
            "share": observed.value,
            "low": observed.low if observed.has_interval else None,
            "high": observed.high if observed.has_interval else None,
            "rows": observed.votes,
        }


def _variant_metrics(variant: Variant, truth: LabelledVotes, bootstrap: Bootstrap) -> dict[str, Any]:
    scored = variant.predictions, truth.y_NC, bootstrap, truth.groups_N
    described = {
        **variant_key(variant),
        "models": len(variant.predictions),
        **{name: asdict(estimate) for name, estimate in summarise(*scored).items()},
        "ece": asdict(calibration_error(*scored)),
    }
    if len(variant.names) > 1:
        described["folds"] = [
            {"name": name, "log_loss": log_loss(p_NC, truth.y_NC), "accuracy": accuracy(p_NC, truth.y_NC)}
            for name, p_NC in zip(variant.names, variant.predictions, strict=True)
        ]
        described["spread"] = float(np.std([fold["log_loss"] for fold in described["folds"]], ddof=1))
    return described


def _fold_result(variant: Variant, truth: LabelledVotes, bootstrap: Bootstrap) -> dict[str, Any]:
    result = {"rows": len(truth.ids)} | _variant_metrics(variant, truth, bootstrap)
    del result["models"]
    return result


def _concatenated(parts: Sequence[LabelledVotes]) -> LabelledVotes:
    return LabelledVotes(
        [vote for part in parts for vote in part.ids],
        np.concatenate([part.y_NC for part in parts]),
        np.concatenate([part.groups_N for part in parts]),
    )
