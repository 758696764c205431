"""Step 5: distil teachers and labels into a student, of one fold or of all, and fit its temperature."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak import seen
from tiebreak.errors import TiebreakError
from tiebreak.output import write_atomically
from tiebreak.pipeline.step import Step, always
from tiebreak.recipe.models import Lora
from tiebreak.recipe.schema import Distill, Prompt, Recipe, Tta
from tiebreak.recipe.values import Slice
from tiebreak.runtime import Runtime

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from tiebreak.pipeline.workload import VoteLengths, Workload

VERSION = 5


class Settings(Slice):
    fold: int | None
    precision: str
    lora: Lora
    prompt: Prompt
    teachers: tuple[str, ...]
    soft_labels: str
    distill: Distill
    tta: Tta
    seed: int


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write adapter/ with the score head, curve.json, logits.parquet (held-out, calibration and lockbox votes in
    both orders) and calibration.json, the temperature and the votes that it was fitted on.
    """
    import numpy as np

    from tiebreak.model.classifier import load_adapted
    from tiebreak.training.fit import fit, save_trained
    from tiebreak.training.losses import Loss
    from tiebreak.votes import schema, splits

    (base,), (rows,) = inputs["base"], inputs["rows"]
    table = schema.read_table(rows / "rows.parquet")
    scored, teachers_NOMC, origins = _soft_labels(
        _candidates(rows, settings.fold), settings, inputs["logits"]
    )
    training_groups, aside = splits.groups_of(scored), _set_aside(table, settings.fold)
    learned_from = training_groups | seen.learned_from([*inputs["logits"], *inputs.get("start", ())])
    seen.require_unseen(
        splits.groups_of(aside[_calibration_split(aside)]), learned_from, "a student's temperature"
    )
    start = inputs["start"][0] / "adapter" if "start" in inputs else None
    classifier = load_adapted(base, settings.lora, start, settings.precision, runtime.device, settings.seed)
    distill = settings.distill
    terms = [distill.per_teacher.get(name, distill) for name in settings.teachers]
    loss = Loss(
        label=distill.label_weight,
        kl=tuple(term.kl_weight for term in terms),
        cosine=tuple(term.cosine_weight for term in terms),
        temperature=tuple(term.temperature for term in terms),
        smoothing=distill.label_smoothing,
    )
    is_extra = scored["fold"].to_numpy() == schema.EXTRA
    weights_N = np.where(is_extra, distill.extra_weight, 1.0).astype(np.float32)
    if distill.unlabelled_weight is not None:
        weights_N[np.isnan(scored["p_a"].to_numpy())] = distill.unlabelled_weight
    seed = splits.derive_seed(settings.seed, "distill", settings.fold)
    losses = fit(
        classifier,
        scored,
        settings.prompt,
        distill.training,
        runtime,
        seed,
        loss,
        teachers_NOMC,
        weights_N,
    )
    if runtime.is_main:
        save_trained(classifier, losses, settings.lora, output)
    marked = splits.tag_splits(aside, learned_from=learned_from)
    return {
        "votes": len(scored),
        "steps": len(losses),
        "last_loss": losses[-1],
        **origins,
        "learned_from": sorted(training_groups),
        **_calibrate(classifier, aside, marked, settings, output, runtime),
    }


def _candidates(rows: Path, fold: int | None) -> "pa.Table":
    """The student's training votes: its training side, and pairs without votes."""
    import pyarrow as pa

    from tiebreak.votes import schema, splits

    table = schema.read_table(rows / "rows.parquet")
    side = splits.training_votes(table, schema.LOCKBOX if fold is None else fold)
    unlabelled = rows / "unlabelled.parquet"
    return pa.concat_tables([side, schema.read_table(unlabelled)]) if unlabelled.exists() else side


def _soft_labels(
    candidates: "pa.Table", settings: Settings, folders: tuple[Path, ...]
) -> tuple["pa.Table", "NDArray[np.float32]", dict[str, int]]:
    """The candidates scored by every teacher, their logits (votes, orders, teachers, 3), and counts by origin."""
    from tiebreak.judge.logits import read
    from tiebreak.training.soft_labels import select_soft_labels, stack_teachers

    chosen = select_soft_labels(read(folders), settings.soft_labels, settings.fold)
    scored, teachers_NOMC = stack_teachers(
        candidates, chosen, settings.teachers, settings.distill.average_orders
    )
    if len(scored) == 0:
        raise TiebreakError(
            f"no training vote of {'any fold' if settings.fold is None else f'fold {settings.fold}'} has logits of every teacher; run step 4 "
            "with the same logits.subset_votes for each teacher"
        )
    used, counts = set(scored["id"].to_pylist()), Counter[str]()
    for item in chosen:
        counts[f"soft_labels_{item.origin}"] += item.orders * len(used.intersection(item.ids))
    return scored, teachers_NOMC, dict(+counts)


def _set_aside(rows: "pa.Table", fold: int | None) -> dict[str, "pa.Table"]:
    """The votes for the student to score, by split."""
    from tiebreak.votes import splits

    held_out = {} if fold is None else {"held_out": splits.held_out(rows, fold)}
    return held_out | {"calibration": splits.calibration(rows), "lockbox": splits.lockbox(rows)}


def _calibration_split(aside: Mapping[str, "pa.Table"]) -> str:
    """The split to fit the temperature on."""
    return "calibration" if len(aside["calibration"]) else "held_out"


def _calibrate(
    classifier: Any,
    aside: Mapping[str, "pa.Table"],
    marked: "pa.Table",
    settings: Settings,
    output: Path,
    runtime: Runtime,
) -> dict[str, Any]:
    """Score the votes set aside (`marked`: all as one table) with the recipe's TTA, and fit the temperature."""
    from tiebreak.judge.logits import from_table, of_split, pool
    from tiebreak.judge.scoring_parts import score_in_parts
    from tiebreak.judge.tta import tta_probabilities
    from tiebreak.stats.calibration import TemperatureScaling
    from tiebreak.stats.metrics import log_loss
    from tiebreak.training.rows import labels_of
    from tiebreak.votes import schema, splits

    max_tokens = settings.tta.max_tokens
    logits = score_in_parts(
        classifier, marked, settings.prompt, max_tokens, "student", settings.fold, runtime
    )
    if not runtime.is_main:
        return {}
    schema.write_table(logits, output / "logits.parquet")
    split = _calibration_split(aside)
    scored = pool(of_split(list(from_table(logits)), split)).aligned(aside[split]["id"].to_pylist())
    p_NC = tta_probabilities(aside[split], scored.z_NOC, settings.tta, certain_from=None)
    labels_NC = labels_of(aside[split])[:, 0]
    scaling = TemperatureScaling().fit(p_NC, labels_NC)
    state = {"temperature": scaling.temperature_, "fitted_on": split}
    write_atomically(output / "calibration.json", json.dumps(state) + "\n")
    return {
        "temperature": scaling.temperature_,
        "log_loss": log_loss(p_NC, labels_NC),
        "log_loss_calibrated": log_loss(scaling.predict_proba(p_NC), labels_NC),
        "fitted_on": sorted(splits.groups_of(aside[split])),
    }


def workload(recipe: Recipe, teacher: str | None, votes: "VoteLengths") -> "Workload":
    from tiebreak.pipeline.workload import Workload, tokens, training_tokens

    one = recipe.distill.students == "one"
    training = votes.every_vote if one else votes.scored_by(recipe.models.teachers)
    scored = 2 * tokens(votes.held_out, recipe.tta.max_tokens)
    return Workload(training_tokens(training, recipe.distill.training), scored)


STEP = Step(
    "distill",
    VERSION,
    run,
    number=5,
    fold_section="distill",
    needs_gpu=always,
    is_multiprocess=True,
    trains=True,
    writes=("adapter",),
    workload=workload,
)
