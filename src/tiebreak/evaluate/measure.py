"""Everything metrics.json says about votes and logits: the ladder, the folds, the curves."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tiebreak.data import sides
from tiebreak.data.votes import LABELS, probabilities
from tiebreak.errors import TiebreakError
from tiebreak.evaluate.augmentation import Said, trade
from tiebreak.evaluate.bias import bias
from tiebreak.evaluate.blend import PROMPTS_TO_FIT, WEIGHTINGS, shares, weighted
from tiebreak.evaluate.calibrated import calibration_test
from tiebreak.evaluate.conclusion import conclude
from tiebreak.evaluate.decomposition import brier_parts
from tiebreak.evaluate.ladder import Rung, Truth, climb, fold_results, prior_rung, reliability, rungs, way
from tiebreak.evaluate.metrics import Array, Bootstrap, log_loss
from tiebreak.evaluate.selection import nested
from tiebreak.evaluate.stages import Scored, of_split

BASELINE = "baseline"
"""The stage of the simple model's rung."""


@dataclass(frozen=True)
class Stages:
    """The logits of every stage, in the recipe's order; `average` is what step 6 was calibrated on."""

    teachers: Sequence[Scored]
    students: Sequence[Scored]
    average: Sequence[Scored]
    averaged: Sequence[Scored]
    quantized: Sequence[Scored]
    baseline: Sequence[Scored] = ()


def measure(
    rows: pa.Table,
    stages: Stages,
    both_orders: bool,
    verdict: Callable[[pa.Table, Array], Array],
    bootstrap: Bootstrap,
    weight_folds: bool = False,
    shipped: str = "as shipped",
) -> dict[str, Any]:
    """Measure all stages against `rows` (data.votes.ROWS_SCHEMA); votes without labels are left out.

    both_orders: the recipe's TTA. verdict: what ships, from votes and the quantised model's logits, which is
    the last rung, called `shipped`, where rules, a partial TTA or a baseline make it differ from the one before.
    weight_folds: blend the students by 1 / log loss on votes that they have not seen too. Raises TiebreakError where
    logits are missing.
    """
    rows = rows.filter(pc.is_valid(rows["p_a"]))
    votes, fold_N = truth_of(rows), rows["fold"].to_numpy()
    lockbox_rows = sides.lockbox(rows)
    lockbox = votes.only(lockbox_rows["id"].to_pylist())
    prior_C = votes.y_NC[fold_N >= 0].mean(axis=0)  # without extra votes, which are another population
    ladder = list(_rungs(stages, votes, lockbox, prior_C, both_orders, weight_folds)) if lockbox.ids else []
    if ladder:
        ladder += _as_shipped(stages, lockbox_rows, verdict, ladder[-1], shipped)
    climbed = climb(ladder, lockbox, bootstrap)
    return {
        "lockbox_rows": len(lockbox.ids),
        "lockbox_prompts": len(np.unique(lockbox.groups_N)),
        **_headline(climbed),
        "prior": dict(zip(LABELS, prior_C.tolist(), strict=True)),
        "confidence": bootstrap.confidence,
        "bootstrap_samples": bootstrap.samples,
        "ladder": climbed,
        "folds": fold_results([*stages.teachers, *stages.students], votes, bootstrap),
        "calibration": _calibration(ladder, lockbox),
        **(_shipped(rows, lockbox, ladder, stages, prior_C, bootstrap) if ladder else {"verdict": None}),
    }


def truth_of(rows: pa.Table) -> Truth:
    """Labels and prompt groups of labelled votes."""
    groups_N = np.unique(np.array(rows["group"].to_pylist(), dtype=str), return_inverse=True)[1]
    return Truth(rows["id"].to_pylist(), probabilities(rows), groups_N)


def _rungs(
    stages: Stages, votes: Truth, lockbox: Truth, prior_C: Array, both_orders: bool, weight_folds: bool
) -> Iterator[Rung]:
    def of(stage: str, models: Sequence[Scored], after: str) -> list[Rung]:
        aligned = [model.aligned(lockbox.ids) for model in of_split(models, "lockbox")]
        return list(rungs(stage, aligned, both_orders, after))

    yield prior_rung(prior_C, len(lockbox.ids))
    simple = [model.aligned(lockbox.ids) for model in of_split(stages.baseline, "lockbox")]
    yield from rungs(BASELINE, simple, both_orders=False, after="class prior")
    taught = "class prior"
    for name in dict.fromkeys(model.model for model in of_split(stages.teachers, "lockbox")):
        taught = f"teacher {name}"
        yield from of(taught, [m for m in stages.teachers if m.model == name], "class prior")
    students = of("student", stages.students, taught)
    yield from students
    yield from of("averaged", stages.averaged, "student")
    if students and len(students[-1].predictions) > 1:
        yield from _blends(students[-1], stages.students, votes, lockbox, weight_folds)
    yield from of("quantised", stages.quantized, "averaged")


def _blends(
    rung: Rung, students: Sequence[Scored], votes: Truth, lockbox: Truth, weight_folds: bool
) -> Iterator[Rung]:
    """What the students say in `rung`, blended: to compare with the average of their weights.

    Every student scored the lockbox and no other votes. So weights are fitted there, each vote's on votes of
    other prompts.
    """
    x_NMC = np.stack(rung.predictions, axis=1)
    blends = {"equal weights": weighted(shares(None, x_NMC.shape[1]), x_NMC)}
    if len(np.unique(lockbox.groups_N)) >= PROMPTS_TO_FIT:
        fitted = nested(WEIGHTINGS, x_NMC, lockbox.y_NC, lockbox.groups_N)
        blends["weights by nested CV on the lockbox"] = fitted.predictions
    if weight_folds:
        blends["weights by loss on unseen votes"] = weighted(_by_unseen_loss(rung, students, votes), x_NMC)
    for name, p_NC in blends.items():
        stage = f"students blended, {name}"
        yield Rung(stage, rung.both_orders, rung.calibrated, ("",), (p_NC,), "averaged")


def _by_unseen_loss(rung: Rung, students: Sequence[Scored], votes: Truth) -> Array:
    """Weights (models,), 1 / the log loss of each student on the calibration side, or where there is none on the
    votes it held out. Raises TiebreakError where it has learned from these through its teachers.
    """
    unseen = {
        model.fold: model
        for split in ("held_out", "calibration")
        for model in of_split(students, split)
        if model.origin == "out_of_fold"
    }
    losses = []
    for model in of_split(students, "lockbox"):
        if model.fold not in unseen:
            raise TiebreakError(
                f"the student of fold {model.fold} has seen all votes outside the lockbox, and "
                "evaluate.weight_folds needs others; use --set split.calibration_share=0.1"
            )
        known = votes.only(unseen[model.fold].ids)
        said = unseen[model.fold].aligned(known.ids)
        losses.append(log_loss(said.probabilities(rung.both_orders, rung.calibrated), known.y_NC))
    return shares([1 / loss for loss in losses], len(losses))


def _as_shipped(
    stages: Stages, rows: pa.Table, verdict: Callable[[pa.Table, Array], Array], last: Rung, stage: str
) -> Iterator[Rung]:
    """The lockbox votes as the shipped model judges them, if that is not what the last rung says already."""
    (model,) = of_split(stages.quantized, "lockbox")
    p_NC = verdict(rows, model.aligned(rows["id"].to_pylist()).z_NOC)
    if not np.array_equal(p_NC, last.predictions[0]):
        yield Rung(stage, last.both_orders, last.calibrated, last.names, (p_NC,), last.stage)


def _calibration(ladder: Sequence[Rung], lockbox: Truth) -> list[dict[str, Any]]:
    """How far the probabilities can be trusted: the quantised model's, raw, and those that ship."""
    raw = [rung for rung in ladder if rung.stage == "quantised" and not rung.calibrated][-1:]
    return [
        {
            **way(rung),
            "test": asdict(calibration_test(rung.predictions[0], lockbox.y_NC, lockbox.groups_N)),
            "brier_parts": asdict(brier_parts(rung.predictions[0], lockbox.y_NC)),
            "curves": reliability(rung.predictions[0], lockbox.y_NC, lockbox.groups_N),
        }
        for rung in (*raw, *ladder[-1:])
    ]


def _shipped(
    rows: pa.Table,
    lockbox: Truth,
    ladder: Sequence[Rung],
    stages: Stages,
    prior_C: Array,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """The verdict on the shipped model, its bias, and what its augmentation buys."""
    (model,) = of_split(stages.quantized, "lockbox")
    said = sides.lockbox(rows), model.aligned(lockbox.ids).z_NOC
    augmentation: list[dict[str, Any]] = []
    if model.orders == 2:
        augmentation += trade(joined(rows, stages.average), said, lockbox, bootstrap)
    (prior_NC,), (p_NC,) = ladder[0].predictions, ladder[-1].predictions
    leanings = bias(said[0], p_NC, said[1], prior_C, lockbox, bootstrap)
    baseline = next((rung.predictions for rung in reversed(ladder) if rung.stage == BASELINE), ())
    return {
        "verdict": asdict(conclude(p_NC, prior_NC, lockbox, leanings, bootstrap, baseline)),
        "bias": leanings,
        "augmentation": augmentation,
    }


def joined(rows: pa.Table, scored: Sequence[Scored]) -> Said:
    """The votes that models scored, each with the logits that they gave it."""
    position = {vote: n for n, vote in enumerate(rows["id"].to_pylist())}
    said = [model.aligned([vote for vote in model.ids if vote in position]) for model in scored]
    taken = rows.take([position[vote] for model in said for vote in model.ids])
    return taken, np.concatenate([model.z_NOC for model in said])


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
