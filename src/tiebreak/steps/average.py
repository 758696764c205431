"""Step 6: average the students' adapters, merge them into the base in fp32."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak.errors import Interrupted
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

VERSION = 5

ENOUGH_TO_CALIBRATE = 2000
"""Soup votes that the calibration is fitted on alone: one number fitted on n votes costs about 1 / (2 n)."""


class Settings(Slice):
    average: Average
    prompt: Prompt
    tta: Tta


@dataclass(frozen=True)
class Students:
    """The students' adapters beside their base, and how those of some become one model."""

    base: Path
    adapters: "Sequence[tuple[dict[str, Tensor], Lora]]"
    published: bool
    device: str

    def average(
        self, members: Sequence[int], weights: Sequence[float] | None = None
    ) -> "tuple[dict[str, Tensor], Lora]":
        from tiebreak.ensemble.average import average

        return average([self.adapters[n] for n in members], weights, self.published)

    def merged(self, state: "dict[str, Tensor]", lora: "Lora") -> "Classifier":
        from tiebreak.model.classifier import load, stored_precision
        from tiebreak.model.merge import merge

        classifier = load(self.base, stored_precision(self.base, self.device), self.device)
        merge(classifier, state, lora)
        return classifier


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

    def log_loss(self, at_best_temperature: bool = False) -> float:
        """The log loss of the mean over both orders."""
        from tiebreak.data.logits import mean_over_orders
        from tiebreak.evaluate.calibration import TemperatureScaling
        from tiebreak.evaluate.metrics import log_loss

        p_NC, y_NC = mean_over_orders(self.z_NOC), self.labels()
        if at_best_temperature:
            p_NC = TemperatureScaling().fit(p_NC, y_NC).predict_proba(p_NC)
        return log_loss(p_NC, y_NC)


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write adapter/, the average, and model/, the base with it merged in.

    The model's calibration, and the certainty from which one order is enough, are fitted on the votes of
    split.soup_share, which no student trained on, where these are ENOUGH_TO_CALIBRATE; else on the held-out votes of all
    students in the average together, since it was trained on all others. The rules are the training sides' votes, counted.
    """
    from tiebreak.data import sides, votes
    from tiebreak.model.lora import read_adapter, save_adapter
    from tiebreak.model.merge import save
    from tiebreak.predict import package

    (base,), (rows,), folders = inputs["base"], inputs["rows"], inputs["students"]
    method, table = settings.average.method, votes.read_table(rows / "rows.parquet")
    adapters = [read_adapter(folder / "adapter") for folder in folders]
    students = Students(base, adapters, method == "published", runtime.device)
    soup, held_out = sides.soup(table), _held_out(table, folders)
    members = list(range(len(folders)))
    if method == "soup":
        members = _soup(students, soup, settings, runtime)
    weights = [1 / held_out[n].log_loss() if method == "weighted" else 1.0 for n in members]
    state, lora = students.average(members, weights)
    save_adapter(state, lora, output / "adapter")
    runtime.report("merging", 0, 1, "models")
    classifier = students.merged(state, lora)
    save(classifier, output / "model")
    from_soup = len(soup) >= ENOUGH_TO_CALIBRATE
    said = (
        _say(classifier, soup, settings, runtime, "average")
        if from_soup
        else _joined([held_out[n] for n in members])
    )
    made = {
        "average": method,
        "adapters": [folders[n].name for n in members],
        "shares": [weight / sum(weights) for weight in weights],
        "calibrated_on": "soup votes" if from_soup else "students' held-out votes",
    }
    shipped = _package(settings, said, sides.training_side(table, votes.LOCKBOX), made)
    package.write(shipped, output / "model")
    return {"students": len(folders), "rank": lora.rank} | shipped.calibration | shipped.provenance


def _package(settings: Settings, said: Said, training: "pa.Table", made: dict[str, Any]) -> "Package":
    """What ships beside the weights: calibration and certainty fitted on what the model said, rules on training votes."""
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


def _soup(students: Students, soup: "pa.Table", settings: Settings, runtime: Runtime) -> list[int]:
    """The students of the greedy soup, by what each average can reach in both orders with a temperature."""
    from tiebreak.ensemble.average import greedy

    def loss_of(members: Sequence[int]) -> float:
        if runtime.should_stop():
            raise Interrupted(f"stopped before scoring students {members} together; what was scored is saved")
        classifier = students.merged(*students.average(members))
        said = _say(classifier, soup, settings, runtime, "soup-" + "-".join(map(str, members)))
        return said.log_loss(at_best_temperature=True)

    alone = [loss_of([n]) for n in range(len(students.adapters))]
    return greedy(alone, loss_of)


def _say(
    classifier: "Classifier", table: "pa.Table", settings: Settings, runtime: Runtime, name: str
) -> Said:
    """What a model says of votes; logits are kept in the scratch."""
    from tiebreak.data import sides
    from tiebreak.data.logits import by_vote
    from tiebreak.predict.parts import score_in_parts

    marked = sides.marked({"held_out": table})
    own = replace(runtime, scratch=runtime.scratch / name)
    max_tokens = settings.tta.max_tokens
    logits = score_in_parts(classifier, marked, settings.prompt, max_tokens, "student", None, own)
    return Said(table, by_vote(logits)[1])


def _held_out(rows: "pa.Table", folders: Sequence[Path]) -> list[Said]:
    """What each student said of the votes it held out."""
    import pyarrow.compute as pc

    from tiebreak.data import votes
    from tiebreak.data.logits import by_vote

    position = {vote: n for n, vote in enumerate(rows["id"].to_pylist())}
    said = []
    for folder in folders:
        logits = votes.read_table(folder / "logits.parquet")
        ids, z_NOC = by_vote(logits.filter(pc.equal(logits["split"], "held_out")))
        said.append(Said(rows.take([position[vote] for vote in ids]), z_NOC))
    return said


def _joined(parts: Sequence[Said]) -> Said:
    import numpy as np
    import pyarrow as pa

    return Said(
        pa.concat_tables(part.votes for part in parts), np.concatenate([part.z_NOC for part in parts])
    )
