"""Step 6: average the students' adapters, merge them into the base in fp32."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak import seen
from tiebreak.pipeline.step import Step
from tiebreak.recipe.schema import Average, Prompt, Recipe, Tta
from tiebreak.recipe.values import Slice
from tiebreak.runtime import Runtime

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

    from tiebreak.judge.logits import ModelLogits
    from tiebreak.judge.package import Package
    from tiebreak.model.classifier import Classifier
    from tiebreak.pipeline.workload import VoteLengths, Workload
    from tiebreak.recipe.models import Lora
    from tiebreak.stats.calibration import Calibrator
    from tiebreak.stats.metrics import Array

VERSION = 14


class Settings(Slice):
    average: Average
    prompt: Prompt
    tta: Tta


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write adapter/, the average; model/, the base with it merged in; and logits.parquet, which calibrates it.

    The model's calibration, and the certainty from which one order is enough, are fitted on its logits of the
    calibration side, which no model trained on. If that is empty they are fitted on the held-out votes of all
    students together, each scored by the student that has not seen it. The rules are fitted on the training sides'
    votes. Raises TiebreakError if a student has learned from the calibrating votes, itself or through teachers.
    """
    import shutil

    import pyarrow as pa

    from tiebreak.baseline import training_features
    from tiebreak.judge import package
    from tiebreak.judge.average import average
    from tiebreak.judge.logits import from_table, pool
    from tiebreak.judge.scoring_parts import score_in_parts
    from tiebreak.model.lora import read_adapter, save_adapter
    from tiebreak.model.merge import save
    from tiebreak.votes import schema, splits

    (base,), (rows,), folders = inputs["base"], inputs["rows"], inputs["students"]
    method, table = settings.average.method, schema.read_table(rows / "rows.parquet")
    calibration_votes = splits.calibration(table)
    split = "calibration" if len(calibration_votes) else "held_out"
    students = [_unseen_logits(table, folder, split) for folder in folders]
    adapters = [read_adapter(folder / "adapter") for folder in folders]
    state, lora = average(adapters, method == "published")
    save_adapter(state, lora, output / "adapter")
    runtime.report("merging", 0, 1, "models")
    classifier = _merged(base, state, lora, runtime.device)
    save(classifier, output / "model")
    logits = pa.concat_tables(students)
    if len(calibration_votes):
        tagged, max_tokens = splits.tag_splits({"calibration": calibration_votes}), settings.tta.max_tokens
        logits = score_in_parts(classifier, tagged, settings.prompt, max_tokens, "student", None, runtime)
    schema.write_table(logits, output / "logits.parquet")
    scored = pool(list(from_table(logits)))
    votes, training = schema.rows_of(table, scored.ids), splits.training_votes(table, schema.LOCKBOX)
    provenance = {
        "average": method,
        "adapters": [folder.name for folder in folders],
        "shares": [1 / len(folders)] * len(folders),
        "calibrated_on": sorted(splits.groups_of(votes)),
        "learned_from": sorted(seen.learned_from(folders)),
    }
    shipped, blend_metrics = _package(settings, votes, scored, training, provenance), dict[str, Any]()
    if len(calibration_votes) and "baseline" in inputs:
        baseline, blend_method = inputs["baseline"][0], settings.average.blend
        shipped, blend_metrics = _blend_with_baseline(
            shipped, votes, scored, blend_method, baseline, output / "model"
        )
    if "baseline" in inputs:
        shutil.copyfile(
            inputs["baseline"][0] / training_features.NAME, output / "model" / training_features.NAME
        )
    package.write(shipped, output / "model")
    fitted_on = sorted(splits.groups_of(votes) | splits.groups_of(training))
    metrics = {"students": len(folders), "rank": lora.rank, "fitted_on": fitted_on}
    return metrics | shipped.calibration | shipped.provenance | blend_metrics


def _merged(base: Path, state: "dict[str, Tensor]", lora: "Lora", device: str) -> "Classifier":
    from tiebreak.model.classifier import load, stored_precision
    from tiebreak.model.merge import merge

    classifier = load(base, stored_precision(base, device), device)
    merge(classifier, state, lora)
    return classifier


def _package(
    settings: Settings,
    votes: "pa.Table",
    scored: "ModelLogits",
    training: "pa.Table",
    provenance: dict[str, Any],
) -> "Package":
    """The package file: calibration and certainty threshold fitted on scored votes, rules on training votes."""
    from tiebreak.judge.package import Package
    from tiebreak.judge.rules import Rules
    from tiebreak.judge.tta import certainty_threshold, tta_probabilities
    from tiebreak.training.rows import labels_of

    tta = settings.tta
    certain_from = certainty_threshold(votes, scored.z_NOC, tta.share)
    p_NC = tta_probabilities(votes, scored.z_NOC, tta, certain_from)
    name, calibrator = _fit_calibrator(votes, p_NC, settings.average.calibration)
    return Package(
        prompt=settings.prompt,
        tta=tta,
        calibration=calibrator.to_json(),
        certain_from=certain_from,
        rules=Rules().fit(training, labels_of(training)[:, 0]).to_json(),
        provenance=provenance | {"calibration": name},
    )


def _fit_calibrator(votes: "pa.Table", p_NC: "Array", method: str) -> "tuple[str, Calibrator]":
    """A calibrator, by name, fitted on probabilities of votes; `best` is chosen by cross-validation over groups."""
    from sklearn.base import clone

    from tiebreak.evaluate.build_metrics import labelled_votes
    from tiebreak.stats.calibration import CALIBRATORS
    from tiebreak.stats.nested_cv import best_candidate
    from tiebreak.training.rows import labels_of

    y_NC, name = labels_of(votes)[:, 0], method
    if method == "best":
        name = best_candidate(CALIBRATORS, p_NC, y_NC, labelled_votes(votes).groups_N)
    return name, clone(CALIBRATORS[name]).fit(p_NC, y_NC)


def _blend_with_baseline(
    shipped: "Package",
    votes: "pa.Table",
    scored: "ModelLogits",
    method: str,
    baseline: Path,
    model: Path,
) -> "tuple[Package, dict[str, Any]]":
    """The package, blended with the baseline if that lowers the loss on the calibration side, and the blend's metrics."""
    import shutil
    from dataclasses import asdict

    import numpy as np

    from tiebreak.baseline import files
    from tiebreak.evaluate.build_metrics import labelled_votes
    from tiebreak.judge.choose_blend import choose_blend
    from tiebreak.judge.logits import from_table, softmax
    from tiebreak.judge.tta import tta_probabilities
    from tiebreak.stats.calibration import from_json

    truth = labelled_votes(votes)
    (of_baseline,) = from_table(_unseen_logits(votes, baseline, "calibration"))
    z_NC = of_baseline.aligned(truth.ids).z_NOC[:, 0]
    p_NC = tta_probabilities(votes, scored.z_NOC, shipped.tta, shipped.certain_from)
    x_NMC = np.stack([from_json(shipped.calibration).predict_proba(p_NC), softmax(z_NC)], axis=1)
    choice = choose_blend(x_NMC, truth.y_NC, truth.groups_N, method)
    metrics: dict[str, Any] = {"blend": choice.name}
    if choice.change:
        metrics["blend_change"] = asdict(choice.change)
    if choice.blend is None:
        return shipped, metrics
    shutil.copyfile(baseline / files.NAME, model / files.NAME)
    blend = choice.blend.to_json()
    learned_from = sorted({*shipped.provenance["learned_from"], *seen.learned_from([baseline])})
    provenance = shipped.provenance | {"learned_from": learned_from, "blended_with_baseline": choice.name}
    return shipped.model_copy(update={"blend": blend, "provenance": provenance}), metrics


def _unseen_logits(rows: "pa.Table", model: Path, split: str) -> "pa.Table":
    """Read a model's logits of one split. Raises TiebreakError if it has learned from any of these votes."""
    import pyarrow.compute as pc

    from tiebreak.votes import splits
    from tiebreak.votes.schema import read_table

    logits = read_table(model / "logits.parquet")
    logits = logits.filter(pc.equal(logits["split"], split))
    groups = splits.groups_of(rows.filter(pc.is_in(rows["id"], value_set=logits["id"].combine_chunks())))
    seen.require_unseen(groups, seen.learned_from([model]), "the average's calibration")
    return logits


def workload(recipe: Recipe, teacher: str | None, votes: "VoteLengths") -> "Workload":
    from tiebreak.pipeline.workload import Workload, tokens

    return Workload(scored=2 * tokens(votes.share(recipe.split.calibration_share), recipe.tta.max_tokens))


STEP = Step(
    "average",
    VERSION,
    run,
    number=6,
    needs_gpu=lambda recipe: recipe.split.calibration_share > 0,  # else nothing is scored
    writes=("adapter", "model"),
    workload=workload,
)
