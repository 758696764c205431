"""Step 6: average the students' adapters, merge them into the base in fp32."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak import seen
from tiebreak.pipeline.step import Step
from tiebreak.recipe.schema import Average, Prompt, Recipe, Tta
from tiebreak.recipe.values import Slice
from tiebreak.runtime import Runtime

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from torch import Tensor

    from tiebreak.judge.package import Package
    from tiebreak.model.classifier import Classifier
    from tiebreak.pipeline.workload import VoteLengths, Workload
    from tiebreak.recipe.models import Lora
    from tiebreak.stats.calibration import Calibrator

VERSION = 11


class Settings(Slice):
    average: Average
    prompt: Prompt
    tta: Tta


@dataclass(frozen=True)
class ScoredVotes:
    """Labelled votes with a model's logits (n, 2, 3) in both orders, the swap undone."""

    votes: "pa.Table"
    z_NOC: "NDArray[np.float64]"

    def labels(self) -> "NDArray[np.float32]":
        """The votes' labels (n, 3)."""
        from tiebreak.train.rows import labels_of

        return labels_of(self.votes)[:, 0]

    def fit_calibrator(self, tta: Tta, certain_from: float | None, method: str) -> "tuple[str, Calibrator]":
        """Fit a calibrator, by name, on the probabilities with this TTA; `best` is chosen by cross-validation over groups."""
        from sklearn.base import clone

        from tiebreak.evaluate.build_metrics import labelled_votes
        from tiebreak.judge.swap import tta_probabilities
        from tiebreak.stats.calibration import CALIBRATORS
        from tiebreak.stats.nested_cv import best_candidate

        p_NC, y_NC = tta_probabilities(self.votes, self.z_NOC, tta, certain_from), self.labels()
        name = (
            best_candidate(CALIBRATORS, p_NC, y_NC, labelled_votes(self.votes).groups_N)
            if method == "best"
            else method
        )
        return name, clone(CALIBRATORS[name]).fit(p_NC, y_NC)

    def log_loss(self) -> float:
        """The log loss of the mean over both orders."""
        from tiebreak.judge.logits import mean_over_orders
        from tiebreak.stats.metrics import log_loss

        return log_loss(mean_over_orders(self.z_NOC), self.labels())


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write adapter/, the average; model/, the base with it merged in; and logits.parquet, which calibrates it.

    The model's calibration, and the certainty from which one order is enough, are fitted on its logits of the
    calibration side, which no model trained on. If that is empty they are fitted on the held-out votes of all
    students together, each scored by the student that has not seen it. The rules are fitted on the training sides'
    votes. Raises TiebreakError if a student has learned from the calibrating votes, itself or through teachers.
    """
    import pyarrow as pa

    from tiebreak.judge import package
    from tiebreak.judge.average import average
    from tiebreak.judge.scoring_parts import score_in_parts
    from tiebreak.model.lora import read_adapter, save_adapter
    from tiebreak.model.merge import save
    from tiebreak.votes import schema, splits

    (base,), (rows,), folders = inputs["base"], inputs["rows"], inputs["students"]
    method, table = settings.average.method, schema.read_table(rows / "rows.parquet")
    calibration_votes = splits.calibration(table)
    split = "calibration" if len(calibration_votes) else "held_out"
    students = [_unseen_logits(table, folder, split) for folder in folders]
    weights = [
        1 / _scored_votes(table, logits).log_loss() if method == "weighted" else 1.0 for logits in students
    ]
    adapters = [read_adapter(folder / "adapter") for folder in folders]
    state, lora = average(adapters, weights, method == "published")
    save_adapter(state, lora, output / "adapter")
    runtime.report("merging", 0, 1, "models")
    classifier = _merged(base, state, lora, runtime.device)
    save(classifier, output / "model")
    logits = pa.concat_tables(students)
    if len(calibration_votes):
        tagged, max_tokens = splits.tag_splits({"calibration": calibration_votes}), settings.tta.max_tokens
        logits = score_in_parts(classifier, tagged, settings.prompt, max_tokens, "student", None, runtime)
    schema.write_table(logits, output / "logits.parquet")
    scored, training = _scored_votes(table, logits), splits.training_votes(table, schema.LOCKBOX)
    provenance = {
        "average": method,
        "adapters": [folder.name for folder in folders],
        "shares": [weight / sum(weights) for weight in weights],
        "calibrated_on": sorted(splits.groups_of(scored.votes)),
        "learned_from": sorted(seen.learned_from(folders)),
    }
    shipped, blend_metrics = _package(settings, scored, training, provenance), dict[str, Any]()
    if len(calibration_votes) and "baseline" in inputs:
        baseline, blend_method = inputs["baseline"][0], settings.average.blend
        shipped, blend_metrics = _blend_with_baseline(
            shipped, scored, blend_method, baseline, output / "model"
        )
    package.write(shipped, output / "model")
    fitted_on = sorted(splits.groups_of(scored.votes) | splits.groups_of(training))
    metrics = {"students": len(folders), "rank": lora.rank, "fitted_on": fitted_on}
    return metrics | shipped.calibration | shipped.provenance | blend_metrics


def _merged(base: Path, state: "dict[str, Tensor]", lora: "Lora", device: str) -> "Classifier":
    from tiebreak.model.classifier import load, stored_precision
    from tiebreak.model.merge import merge

    classifier = load(base, stored_precision(base, device), device)
    merge(classifier, state, lora)
    return classifier


def _package(
    settings: Settings, scored: ScoredVotes, training: "pa.Table", provenance: dict[str, Any]
) -> "Package":
    """The package file: calibration and certainty threshold fitted on scored votes, rules on training votes."""
    from tiebreak.judge.package import Package
    from tiebreak.judge.rules import Rules
    from tiebreak.judge.swap import certainty_threshold
    from tiebreak.train.rows import labels_of

    tta = settings.tta
    certain_from = certainty_threshold(scored.votes, scored.z_NOC, tta.share)
    name, calibrator = scored.fit_calibrator(tta, certain_from, settings.average.calibration)
    return Package(
        prompt=settings.prompt,
        tta=tta,
        calibration=calibrator.to_json(),
        certain_from=certain_from,
        rules=Rules().fit(training, labels_of(training)[:, 0]).to_json(),
        provenance=provenance | {"calibration": name},
    )


def _blend_with_baseline(
    shipped: "Package", scored: ScoredVotes, method: str, baseline: Path, model: Path
) -> "tuple[Package, dict[str, Any]]":
    """The package, blended with the baseline if that lowers the loss on the calibration side, and the blend's metrics."""
    import shutil
    from dataclasses import asdict

    import numpy as np

    from tiebreak.baseline import files
    from tiebreak.evaluate.build_metrics import labelled_votes
    from tiebreak.judge.choose_blend import choose_blend
    from tiebreak.judge.logits import softmax
    from tiebreak.judge.swap import tta_probabilities
    from tiebreak.stats.calibration import from_json

    baseline_votes, truth = (
        _scored_votes(scored.votes, _unseen_logits(scored.votes, baseline, "calibration")),
        labelled_votes(scored.votes),
    )
    position = {vote: n for n, vote in enumerate(baseline_votes.votes["id"].to_pylist())}
    z_NC = baseline_votes.z_NOC[[position[vote] for vote in truth.ids], 0]
    p_NC = tta_probabilities(scored.votes, scored.z_NOC, shipped.tta, shipped.certain_from)
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


def _scored_votes(rows: "pa.Table", logits: "pa.Table") -> ScoredVotes:
    """Join logits with their votes."""
    from tiebreak.judge.logits import by_vote

    position = {vote: n for n, vote in enumerate(rows["id"].to_pylist())}
    ids, z_NOC = by_vote(logits)
    return ScoredVotes(rows.take([position[vote] for vote in ids]), z_NOC)


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
