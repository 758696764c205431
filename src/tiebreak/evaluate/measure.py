"""Everything metrics.json says about votes and logits: the ladder, the folds, the curves."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tiebreak.data.votes import LABELS, LOCKBOX
from tiebreak.evaluate.augmentation import trade
from tiebreak.evaluate.bias import bias
from tiebreak.evaluate.decomposition import brier_parts
from tiebreak.evaluate.ladder import Rung, Truth, climb, fold_results, prior_rung, reliability, rungs
from tiebreak.evaluate.metrics import Array, Bootstrap, log_loss
from tiebreak.evaluate.stages import Scored, of_split


@dataclass(frozen=True)
class Stages:
    """The logits of every stage, in the recipe's order."""

    teachers: Sequence[Scored]
    students: Sequence[Scored]
    averaged: Sequence[Scored]
    quantized: Sequence[Scored]


def measure(
    rows: pa.Table,
    stages: Stages,
    both_orders: bool,
    verdict: Callable[[pa.Table, Array], Array],
    bootstrap: Bootstrap,
    weight_folds: bool = False,
) -> dict[str, Any]:
    """Measure all stages against `rows` (data.votes.ROWS_SCHEMA); votes without labels are left out.

    both_orders: the recipe's TTA. verdict: what ships, from votes and the quantised model's logits, which is
    the last rung where rules or a partial TTA make it differ from the one before. weight_folds: add a rung of
    the folds' students blended by 1 / log loss on their own held-out votes. Raises TiebreakError where logits
    are missing.
    """
    rows = rows.filter(pc.is_valid(rows["p_a"]))
    votes, fold_N = truth_of(rows), rows["fold"].to_numpy()
    lockbox_rows = rows.filter(pc.equal(rows["fold"], LOCKBOX))
    lockbox = votes.only(lockbox_rows["id"].to_pylist())
    prior_C = votes.y_NC[fold_N >= 0].mean(axis=0)  # without extra votes, which are another population
    ladder = list(_rungs(stages, lockbox, prior_C, both_orders)) if lockbox.ids else []
    if ladder:
        ladder += _as_shipped(stages, lockbox_rows, verdict, ladder[-1])
    if ladder and weight_folds:
        above = next(n for n, rung in enumerate(ladder) if rung.stage == "averaged")
        ladder.insert(above, _blended(stages.students, votes, lockbox, both_orders))
    climbed = climb(ladder, lockbox, bootstrap)
    return {
        "lockbox_rows": len(lockbox.ids),
        **_headline(climbed),
        "prior": dict(zip(LABELS, prior_C.tolist(), strict=True)),
        "confidence": bootstrap.confidence,
        "bootstrap_samples": bootstrap.samples,
        "ladder": climbed,
        "folds": fold_results([*stages.teachers, *stages.students], votes, bootstrap),
        "calibration": [_calibration(rung, lockbox) for rung in ladder if rung.stage == "quantised"][-2:],
        **(_shipped(lockbox_rows, lockbox, ladder[-1], stages, bootstrap) if ladder else {}),
    }


def truth_of(rows: pa.Table) -> Truth:
    """Labels and prompt groups of labelled votes."""
    y_NC = np.stack([rows[f"p_{label}"].to_numpy() for label in LABELS], axis=1).astype(np.float64)
    groups_N = np.unique(np.array(rows["group"].to_pylist(), dtype=str), return_inverse=True)[1]
    return Truth(rows["id"].to_pylist(), y_NC, groups_N)


def _rungs(stages: Stages, lockbox: Truth, prior_C: Array, both_orders: bool) -> Iterator[Rung]:
    def on_lockbox(models: Sequence[Scored]) -> list[Scored]:
        return [model.aligned(lockbox.ids) for model in of_split(models, "lockbox")]

    yield prior_rung(prior_C, len(lockbox.ids))
    teachers = on_lockbox(stages.teachers)
    for name in dict.fromkeys(model.model for model in teachers):
        yield from rungs(f"teacher {name}", [m for m in teachers if m.model == name], both_orders)
    yield from rungs("student", on_lockbox(stages.students), both_orders)
    yield from rungs("averaged", on_lockbox(stages.averaged), both_orders)
    yield from rungs("quantised", on_lockbox(stages.quantized), both_orders)


def _as_shipped(
    stages: Stages, rows: pa.Table, verdict: Callable[[pa.Table, Array], Array], last: Rung
) -> Iterator[Rung]:
    """The lockbox votes as the shipped model judges them, if that is not what the last rung says already."""
    (model,) = of_split(stages.quantized, "lockbox")
    p_NC = verdict(rows, model.aligned(rows["id"].to_pylist()).z_NOC)
    if not np.array_equal(p_NC, last.predictions[0]):
        yield Rung("as shipped", last.both_orders, last.calibrated, last.names, (p_NC,))


def _blended(students: Sequence[Scored], votes: Truth, lockbox: Truth, both_orders: bool) -> Rung:
    """The mean of the folds' students on the lockbox, each with the weight 1 / its held-out log loss."""

    def say(model: Scored, ids: list[str]) -> Array:
        return model.aligned(ids).probabilities(
            both_orders and model.orders == 2, model.calibrator is not None
        )

    held_out = {model.fold: model for model in of_split(students, "held_out")}
    models = of_split(students, "lockbox")
    weight_M = []
    for model in models:
        known = votes.only(held_out[model.fold].ids)
        weight_M.append(1 / log_loss(say(held_out[model.fold], known.ids), known.y_NC))
    p_NC = np.average([say(model, lockbox.ids) for model in models], axis=0, weights=weight_M)
    calibrated = all(model.calibrator is not None for model in models)
    return Rung("students blended", both_orders, calibrated, ("",), (p_NC,))


def _calibration(rung: Rung, lockbox: Truth) -> dict[str, Any]:
    """How far the shipped model's probabilities can be trusted, before or after its temperature."""
    (p_NC,) = rung.predictions
    return {
        "calibrated": rung.calibrated,
        "brier_parts": asdict(brier_parts(p_NC, lockbox.y_NC)),
        "curves": reliability(p_NC, lockbox.y_NC),
    }


def _shipped(
    rows: pa.Table, lockbox: Truth, rung: Rung, stages: Stages, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Bias of the shipped model, and what its augmentation buys."""
    (model,) = of_split(stages.quantized, "lockbox")
    z_NOC = model.aligned(lockbox.ids).z_NOC
    return {
        "bias": bias(rows, rung.predictions[0], z_NOC, lockbox, bootstrap),
        "augmentation": list(trade(z_NOC, lockbox, bootstrap)) if model.orders == 2 else [],
    }


def _headline(climbed: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """The figures that matter most; None where nothing was measured.

    Those of teachers and students are means over models: answers in the order stored, not calibrated.
    """
    plain = {
        rung["stage"]: rung["log_loss"]["value"]
        for rung in climbed
        if not (rung["both_orders"] or rung["calibrated"])
    }
    taught = [value for stage, value in plain.items() if stage.startswith("teacher ")]
    return {
        "prior_log_loss": plain.get("class prior"),
        "teacher_log_loss": float(np.mean(taught)) if taught else None,
        "student_log_loss": plain.get("student"),
        "final_log_loss": climbed[-1]["log_loss"]["value"] if climbed else None,
    }
