"""Step 6: average the students' adapters, merge them into the base in fp32."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak import seen
from tiebreak.recipe import Average, Prompt, Slice, Tta
from tiebreak.runtime import Runtime

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from torch import Tensor

    from tiebreak.evaluate.calibration import Calibrator
    from tiebreak.model.classifier import Classifier
    from tiebreak.predict.package import Package
    from tiebreak.recipe import Lora

VERSION = 10


class Settings(Slice):
    average: Average
    prompt: Prompt
    tta: Tta


@dataclass(frozen=True)
class Said:
    """What a model said of labelled votes in both orders: logits (n, 2, 3), the swap undone."""

    votes: "pa.Table"
    z_NOC: "NDArray[np.float64]"

    def labels(self) -> "NDArray[np.float32]":
        """The votes' labels (n, 3)."""
        from tiebreak.train.rows import labels_of

        return labels_of(self.votes)[:, 0]

    def calibrated(self, tta: Tta, certain_from: float | None, method: str) -> "tuple[str, Calibrator]":
        """A calibrator by its name, fitted on what the model says with this TTA; `best` is chosen over folds of groups."""
        from sklearn.base import clone

        from tiebreak.data.orders import over_orders
        from tiebreak.evaluate.calibration import CALIBRATORS
        from tiebreak.evaluate.measure import truth_of
        from tiebreak.evaluate.selection import best

        p_NC, y_NC = over_orders(self.votes, self.z_NOC, tta, certain_from), self.labels()
        name = best(CALIBRATORS, p_NC, y_NC, truth_of(self.votes).groups_N) if method == "best" else method
        return name, clone(CALIBRATORS[name]).fit(p_NC, y_NC)

    def log_loss(self) -> float:
        """The log loss of the mean over both orders."""
        from tiebreak.data.logits import mean_over_orders
        from tiebreak.evaluate.metrics import log_loss

        return log_loss(mean_over_orders(self.z_NOC), self.labels())


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write adapter/, the average; model/, the base with it merged in; and logits.parquet, what calibrates it.

    The model's calibration, and the certainty from which one order is enough, are fitted on what it says of the
    calibration side, which no model trained on. Where that is empty they are fitted on the held-out votes of all
    students together, each vote judged by the student that has not seen it. The rules are the training sides' votes,
    counted. Raises TiebreakError where a student has learned, itself or through teachers, what it is to be fitted on.
    """
    import pyarrow as pa

    from tiebreak.data import sides, votes
    from tiebreak.ensemble.average import average
    from tiebreak.model.lora import read_adapter, save_adapter
    from tiebreak.model.merge import save
    from tiebreak.predict import package
    from tiebreak.predict.parts import score_in_parts

    (base,), (rows,), folders = inputs["base"], inputs["rows"], inputs["students"]
    method, table = settings.average.method, votes.read_table(rows / "rows.parquet")
    aside = sides.calibration(table)
    split = "calibration" if len(aside) else "held_out"
    students = [_unseen(table, folder, split) for folder in folders]
    weights = [1 / _said(table, logits).log_loss() if method == "weighted" else 1.0 for logits in students]
    adapters = [read_adapter(folder / "adapter") for folder in folders]
    state, lora = average(adapters, weights, method == "published")
    save_adapter(state, lora, output / "adapter")
    runtime.report("merging", 0, 1, "models")
    classifier = _merged(base, state, lora, runtime.device)
    save(classifier, output / "model")
    logits = pa.concat_tables(students)
    if len(aside):
        marked, max_tokens = sides.marked({"calibration": aside}), settings.tta.max_tokens
        logits = score_in_parts(classifier, marked, settings.prompt, max_tokens, "student", None, runtime)
    votes.write_table(logits, output / "logits.parquet")
    said, training = _said(table, logits), sides.training_side(table, votes.LOCKBOX)
    made = {
        "average": method,
        "adapters": [folder.name for folder in folders],
        "shares": [weight / sum(weights) for weight in weights],
        "calibrated_on": sorted(sides.groups_of(said.votes)),
        "learned_from": sorted(seen.learned_from(folders)),
    }
    shipped, joined = _package(settings, said, training, made), dict[str, Any]()
    if len(aside) and "baseline" in inputs:
        simple, wanted = inputs["baseline"][0], settings.average.blend
        shipped, joined = _join(shipped, said, wanted, simple, output / "model")
    package.write(shipped, output / "model")
    fitted_on = sorted(sides.groups_of(said.votes) | sides.groups_of(training))
    metrics = {"students": len(folders), "rank": lora.rank, "fitted_on": fitted_on}
    return metrics | shipped.calibration | shipped.provenance | joined


def _merged(base: Path, state: "dict[str, Tensor]", lora: "Lora", device: str) -> "Classifier":
    from tiebreak.model.classifier import load, stored_precision
    from tiebreak.model.merge import merge

    classifier = load(base, stored_precision(base, device), device)
    merge(classifier, state, lora)
    return classifier


def _package(settings: Settings, said: Said, training: "pa.Table", made: dict[str, Any]) -> "Package":
    """What ships beside the weights: calibration and certainty fitted on what was said, rules on training votes."""
    from tiebreak.data.orders import certainty
    from tiebreak.evaluate.rules import Rules
    from tiebreak.predict.package import Package
    from tiebreak.train.rows import labels_of

    tta = settings.tta
    certain_from = certainty(said.votes, said.z_NOC, tta.share)
    name, calibrator = said.calibrated(tta, certain_from, settings.average.calibration)
    return Package(
        prompt=settings.prompt,
        tta=tta,
        calibration=calibrator.to_json(),
        certain_from=certain_from,
        rules=Rules().fit(training, labels_of(training)[:, 0]).to_json(),
        provenance=made | {"calibration": name},
    )


def _join(
    shipped: "Package", said: Said, wanted: str, baseline: Path, model: Path
) -> "tuple[Package, dict[str, Any]]":
    """The package, blended with the baseline where that pays on the calibration side, and what was found there."""
    import shutil
    from dataclasses import asdict

    import numpy as np

    from tiebreak.baseline import files
    from tiebreak.data.logits import softmax
    from tiebreak.data.orders import over_orders
    from tiebreak.evaluate.calibration import from_json
    from tiebreak.evaluate.joining import join
    from tiebreak.evaluate.measure import truth_of

    simple, truth = _said(said.votes, _unseen(said.votes, baseline, "calibration")), truth_of(said.votes)
    position = {vote: n for n, vote in enumerate(simple.votes["id"].to_pylist())}
    z_NC = simple.z_NOC[[position[vote] for vote in truth.ids], 0]
    p_NC = over_orders(said.votes, said.z_NOC, shipped.tta, shipped.certain_from)
    x_NMC = np.stack([from_json(shipped.calibration).predict_proba(p_NC), softmax(z_NC)], axis=1)
    joining = join(x_NMC, truth.y_NC, truth.groups_N, wanted)
    found: dict[str, Any] = {"blend": joining.name}
    if joining.change:
        found["blend_change"] = asdict(joining.change)
    if joining.blend is None:
        return shipped, found
    shutil.copyfile(baseline / files.NAME, model / files.NAME)
    blend = joining.blend.to_json() | {"sha256": files.digest(model)}
    learned_from = sorted({*shipped.provenance["learned_from"], *seen.learned_from([baseline])})
    provenance = shipped.provenance | {"learned_from": learned_from, "blended_with_baseline": joining.name}
    return shipped.model_copy(update={"blend": blend, "provenance": provenance}), found


def _unseen(rows: "pa.Table", model: Path, split: str) -> "pa.Table":
    """A model's logits of one split. Raises TiebreakError if it has learned from any of these votes."""
    import pyarrow.compute as pc

    from tiebreak.data import sides
    from tiebreak.data.votes import read_table

    logits = read_table(model / "logits.parquet")
    logits = logits.filter(pc.equal(logits["split"], split))
    groups = sides.groups_of(rows.filter(pc.is_in(rows["id"], value_set=logits["id"].combine_chunks())))
    seen.require_unseen(groups, seen.learned_from([model]), "the average's calibration")
    return logits


def _said(rows: "pa.Table", logits: "pa.Table") -> Said:
    """Logits beside the votes that they are of."""
    from tiebreak.data.logits import by_vote

    position = {vote: n for n, vote in enumerate(rows["id"].to_pylist())}
    ids, z_NOC = by_vote(logits)
    return Said(rows.take([position[vote] for vote in ids]), z_NOC)
