"""Metrics of a run, as in metrics.json: the ladder of variants, the folds, calibration, bias and the verdict."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tiebreak.errors import TiebreakError
from tiebreak.evaluate.augmentation import VotesAndLogits, tta_tradeoff
from tiebreak.evaluate.bias import bias_report
from tiebreak.evaluate.decomposition import brier_parts
from tiebreak.evaluate.selective import decided_shares
from tiebreak.evaluate.variants import (
    LabelledVotes,
    Stage,
    Variant,
    evaluate_variants,
    fold_results,
    prior_variant,
    reliability,
    teacher_stage,
    variant_key,
    variants,
)
from tiebreak.evaluate.verdict import build_verdict
from tiebreak.judge.logits import ModelLogits, of_split, pool
from tiebreak.stats.blend import PROMPTS_TO_FIT, WEIGHTINGS, shares, weighted
from tiebreak.stats.calibration_test import calibration_test
from tiebreak.stats.guarantees import Guarantees
from tiebreak.stats.metrics import Array, Bootstrap, log_loss
from tiebreak.stats.nested_cv import nested
from tiebreak.votes import splits
from tiebreak.votes.schema import LABELS, probabilities, rows_of


@dataclass(frozen=True)
class StageLogits:
    """Logits of every stage, in the recipe's order; `average`: those that step 6 was calibrated on."""

    teachers: Sequence[ModelLogits]
    students: Sequence[ModelLogits]
    average: Sequence[ModelLogits]
    averaged: Sequence[ModelLogits]
    quantized: Sequence[ModelLogits]
    baseline: Sequence[ModelLogits] = ()


def build_metrics(
    rows: pa.Table,
    stages: StageLogits,
    both_orders: bool,
    shipped_NC: Array,
    bootstrap: Bootstrap,
    weight_folds: bool = False,
    shipped: str = "as shipped",
    guarantees: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Compute the metrics of all stages on `rows` (votes.schema.ROWS_SCHEMA); votes without labels are left out.

    both_orders: the recipe's TTA. shipped_NC: the shipped model's probabilities of the lockbox. They are the last
    variant, called `shipped`, if rules, a partial TTA or a baseline make them differ from the one before. weight_folds:
    also blend the students by 1 / log loss on unseen votes. guarantees: the shipped model's (judge.package). Raises TiebreakError where logits are missing.
    """
    shipped_NC = shipped_NC[splits.lockbox(rows)["p_a"].is_valid().to_numpy()]
    rows = rows.filter(pc.is_valid(rows["p_a"]))
    votes, fold_N = labelled_votes(rows), rows["fold"].to_numpy()
    lockbox = votes.subset(splits.lockbox(rows)["id"].to_pylist())
    prior_C = votes.y_NC[fold_N >= 0].mean(axis=0)  # without extra votes, which are another population
    ladder = (
        list(_variants(stages, votes, lockbox, prior_C, both_orders, weight_folds)) if lockbox.ids else []
    )
    if ladder:
        ladder += _shipped_variant(shipped_NC, ladder[-1], shipped)
    evaluated = evaluate_variants(ladder, lockbox, bootstrap)
    return {
        "lockbox_rows": len(lockbox.ids),
        "lockbox_prompts": len(np.unique(lockbox.groups_N)),
        **_headline(evaluated, stages.teachers),
        "prior": dict(zip(LABELS, prior_C.tolist(), strict=True)),
        "confidence": bootstrap.confidence,
        "bootstrap_samples": bootstrap.samples,
        "ladder": evaluated,
        "folds": fold_results([*stages.teachers, *stages.students], votes, bootstrap),
        "calibration": _calibration(ladder, lockbox),
        "abstention": _abstention(guarantees, shipped_NC, lockbox),
        **(
            _shipped_metrics(rows, lockbox, ladder, stages, prior_C, bootstrap)
            if ladder
            else {"verdict": None}
        ),
    }


def labelled_votes(rows: pa.Table) -> LabelledVotes:
    """Labels and prompt groups of labelled votes."""
    groups_N = np.unique(np.array(rows["group"].to_pylist(), dtype=str), return_inverse=True)[1]
    return LabelledVotes(rows["id"].to_pylist(), probabilities(rows), groups_N)


def _variants(
    stages: StageLogits,
    votes: LabelledVotes,
    lockbox: LabelledVotes,
    prior_C: Array,
    both_orders: bool,
    weight_folds: bool,
) -> Iterator[Variant]:
    def stage_variants(stage: str, models: Sequence[ModelLogits], after: str) -> list[Variant]:
        aligned = [model.aligned(lockbox.ids) for model in of_split(models, "lockbox")]
        return list(variants(stage, aligned, both_orders, after))

    yield prior_variant(prior_C, len(lockbox.ids))
    baseline = [model.aligned(lockbox.ids) for model in of_split(stages.baseline, "lockbox")]
    yield from variants(Stage.BASELINE, baseline, both_orders=False, after=Stage.PRIOR)
    before_students: str = Stage.PRIOR
    for name in dict.fromkeys(model.model for model in of_split(stages.teachers, "lockbox")):
        before_students = teacher_stage(name)
        yield from stage_variants(
            before_students, [m for m in stages.teachers if m.model == name], Stage.PRIOR
        )
    students = stage_variants(Stage.STUDENT, stages.students, before_students)
    yield from students
    yield from stage_variants(Stage.AVERAGED, stages.averaged, Stage.STUDENT)
    if students and len(students[-1].predictions) > 1:
        yield from _blends(students[-1], stages.students, votes, lockbox, weight_folds)
    yield from stage_variants(Stage.QUANTISED, stages.quantized, Stage.AVERAGED)


def _blends(
    variant: Variant,
    students: Sequence[ModelLogits],
    votes: LabelledVotes,
    lockbox: LabelledVotes,
    weight_folds: bool,
) -> Iterator[Variant]:
    """Blends of the students' predictions in `variant`, to compare with the average of their weights.

    The lockbox votes are the only ones scored by every student. Blend weights are therefore fitted on them by nested
    cross-validation over prompts.
    """
    x_NMC = np.stack(variant.predictions, axis=1)
    blends = {"equal weights": weighted(shares(None, x_NMC.shape[1]), x_NMC)}
    if len(np.unique(lockbox.groups_N)) >= PROMPTS_TO_FIT:
        fitted = nested(WEIGHTINGS, x_NMC, lockbox.y_NC, lockbox.groups_N)
        blends["weights by nested CV on the lockbox"] = fitted.predictions
    if weight_folds:
        blends["weights by loss on unseen votes"] = weighted(
            _weights_by_unseen_loss(variant, students, votes), x_NMC
        )
    for name, p_NC in blends.items():
        stage = f"students blended, {name}"
        yield Variant(stage, variant.both_orders, variant.calibrated, ("",), (p_NC,), Stage.AVERAGED)


def _weights_by_unseen_loss(variant: Variant, students: Sequence[ModelLogits], votes: LabelledVotes) -> Array:
    """Weights (models,), 1 / the log loss of each student on the calibration side, or without one on the
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
        known = votes.subset(unseen[model.fold].ids)
        scored = unseen[model.fold].aligned(known.ids)
        losses.append(log_loss(scored.probabilities(variant.both_orders, variant.calibrated), known.y_NC))
    return shares([1 / loss for loss in losses], len(losses))


def _shipped_variant(p_NC: Array, last: Variant, stage: str) -> Iterator[Variant]:
    """The shipped model's variant, if its predictions differ from those of the last variant."""
    if not np.array_equal(p_NC, last.predictions[0]):
        yield Variant(stage, last.both_orders, last.calibrated, last.names, (p_NC,), last.stage)


def _abstention(
    guarantees: dict[str, Any] | None, p_NC: Array, lockbox: LabelledVotes
) -> dict[str, Any] | None:
    """What the shipped model decides on the lockbox; None without one, or without counts of unseen voters."""
    if guarantees is None or not lockbox.ids:
        return None
    unseen = Guarantees.from_json(guarantees)
    rows = list(decided_shares(unseen, p_NC, lockbox))
    return {"voters": unseen.voters, "smallest_max_error": unseen.smallest_max_error(), "rows": rows}


def _calibration(ladder: Sequence[Variant], lockbox: LabelledVotes) -> list[dict[str, Any]]:
    """Calibration of the quantised model's raw probabilities and of the shipped ones."""
    raw = [variant for variant in ladder if variant.stage == Stage.QUANTISED and not variant.calibrated][-1:]
    return [
        {
            **variant_key(variant),
            "test": asdict(calibration_test(variant.predictions[0], lockbox.y_NC, lockbox.groups_N)),
            "brier_parts": asdict(brier_parts(variant.predictions[0], lockbox.y_NC)),
            "curves": reliability(variant.predictions[0], lockbox.y_NC, lockbox.groups_N),
        }
        for variant in (*raw, *ladder[-1:])
    ]


def _shipped_metrics(
    rows: pa.Table,
    lockbox: LabelledVotes,
    ladder: Sequence[Variant],
    stages: StageLogits,
    prior_C: Array,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """The verdict on the shipped model, its bias report, and its TTA trade-off."""
    (model,) = of_split(stages.quantized, "lockbox")
    scored = splits.lockbox(rows), model.aligned(lockbox.ids).z_NOC
    augmentation: list[dict[str, Any]] = []
    if model.orders == 2:
        augmentation += tta_tradeoff(votes_with_logits(rows, stages.average), scored, lockbox, bootstrap)
    (prior_NC,), (p_NC,) = ladder[0].predictions, ladder[-1].predictions
    bias = bias_report(scored[0], p_NC, scored[1], prior_C, lockbox, bootstrap)
    baseline = next(
        (variant.predictions for variant in reversed(ladder) if variant.stage == Stage.BASELINE), ()
    )
    return {
        "verdict": asdict(build_verdict(p_NC, prior_NC, lockbox, bias, bootstrap, baseline)),
        "bias": bias,
        "augmentation": augmentation,
    }


def votes_with_logits(rows: pa.Table, scored: Sequence[ModelLogits]) -> VotesAndLogits:
    """Scored votes with their logits, of several models."""
    known = pool(scored).among(set(rows["id"].to_pylist()))
    return rows_of(rows, known.ids), known.z_NOC


def _headline(
    evaluated: Sequence[dict[str, Any]], teachers: Sequence[ModelLogits]
) -> dict[str, float | None]:
    """Headline log losses; None where there are none.

    Those of teachers and students are means over models, with answers in the stored order and uncalibrated.
    """
    losses = {
        variant["stage"]: variant["log_loss"]["value"]
        for variant in evaluated
        if not (variant["both_orders"] or variant["calibrated"])
    }
    teacher_stages = {teacher_stage(model.model) for model in teachers}
    teacher_losses = [value for stage, value in losses.items() if stage in teacher_stages]
    return {
        "prior_log_loss": losses.get(Stage.PRIOR),
        "teacher_log_loss": float(np.mean(teacher_losses)) if teacher_losses else None,
        "student_log_loss": losses.get(Stage.STUDENT),
        "final_log_loss": evaluated[-1]["log_loss"]["value"] if evaluated else None,
    }
