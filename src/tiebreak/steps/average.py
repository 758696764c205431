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

    from tiebreak.model.classifier import Classifier
    from tiebreak.recipe import Lora

VERSION = 2


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

        method = "published" if self.published else "exact"
        return average([self.adapters[n] for n in members], method, weights)

    def merged(self, state: "dict[str, Tensor]", lora: "Lora") -> "Classifier":
        from tiebreak.model.classifier import load
        from tiebreak.model.merge import merge

        classifier = load(self.base, device=self.device)
        merge(classifier, state, lora)
        return classifier


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write adapter/, the average, and model/, the base with it merged in.

    The model's temperature is fitted on the votes of split.soup_share, which no student trained on; without
    any, on every student's held-out votes together: no other vote is left that the average was not trained on.
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
    weights = [_inverse_loss(*held_out[n]) if method == "weighted" else 1.0 for n in members]
    state, lora = students.average(members, weights)
    save_adapter(state, lora, output / "adapter")
    runtime.report("merging", 0, 1, "models")
    classifier = students.merged(state, lora)
    save(classifier, output / "model")
    if len(soup):
        temperature, _ = _fitted(*_say(classifier, soup, settings, runtime, "average"))
    else:
        temperature, _ = _fitted(*map(_joined, zip(*held_out, strict=True)))
    made = {
        "average": method,
        "adapters": [folders[n].name for n in members],
        "shares": [weight / sum(weights) for weight in weights],
        "temperature_from": "soup votes" if len(soup) else "students' held-out votes",
    }
    package.write(
        package.Package(
            prompt=settings.prompt,
            tta=settings.tta,
            calibration={"temperature": temperature},
            provenance=made,
        ),
        output / "model",
    )
    return {"students": len(folders), "rank": lora.rank, "temperature": temperature} | made


def _soup(students: Students, soup: "pa.Table", settings: Settings, runtime: Runtime) -> list[int]:
    """The students of the greedy soup, by the log loss that each average can reach with a temperature."""
    from tiebreak.ensemble.average import greedy

    def loss_of(members: Sequence[int]) -> float:
        if runtime.should_stop():
            raise Interrupted(f"stopped before scoring students {members} together; what was scored is saved")
        classifier = students.merged(*students.average(members))
        name = "soup-" + "-".join(map(str, members))
        return _fitted(*_say(classifier, soup, settings, runtime, name))[1]

    alone = [loss_of([n]) for n in range(len(students.adapters))]
    return greedy(alone, loss_of)


def _say(
    classifier: "Classifier", table: "pa.Table", settings: Settings, runtime: Runtime, name: str
) -> "tuple[NDArray[np.float64], NDArray[np.float32]]":
    """Probabilities (n, 3) of a model over both orders, and the labels; logits are kept in the scratch."""
    import pyarrow as pa

    from tiebreak.data.logits import by_vote, mean_over_orders
    from tiebreak.predict.parts import score_in_parts
    from tiebreak.train.rows import labels_of

    table = table.append_column("split", pa.array(["held_out"] * len(table), pa.string()))
    own = replace(runtime, scratch=runtime.scratch / name)
    max_tokens = settings.tta.max_tokens
    logits = score_in_parts(classifier, table, settings.prompt, max_tokens, "student", None, own)
    return mean_over_orders(by_vote(logits)[1]), labels_of(table)[:, 0]


def _held_out(
    rows: "pa.Table", folders: Sequence[Path]
) -> "list[tuple[NDArray[np.float64], NDArray[np.float32]]]":
    """What each student said of the votes it held out, (n, 3), and their labels."""
    import numpy as np
    import pyarrow.compute as pc

    from tiebreak.data import sides, votes
    from tiebreak.data.logits import by_vote, mean_over_orders
    from tiebreak.train.rows import labels_of

    voted = sides.voted(rows)
    labels = dict(zip(voted["id"].to_pylist(), labels_of(voted)[:, 0], strict=True))
    said = []
    for folder in folders:
        logits = votes.read_table(folder / "logits.parquet")
        ids, z_NOC = by_vote(logits.filter(pc.equal(logits["split"], "held_out")))
        said.append((mean_over_orders(z_NOC), np.stack([labels[vote] for vote in ids])))
    return said


def _joined(parts: "Sequence[NDArray[Any]]") -> "NDArray[Any]":
    import numpy as np

    return np.concatenate(parts)


def _inverse_loss(p_NC: "NDArray[np.float64]", labels_NC: "NDArray[np.float32]") -> float:
    from tiebreak.evaluate.metrics import log_loss

    return 1 / log_loss(p_NC, labels_NC)


def _fitted(p_NC: "NDArray[np.float64]", labels_NC: "NDArray[np.float32]") -> tuple[float, float]:
    """The best temperature and the log loss at it."""
    from tiebreak.evaluate.calibration import TemperatureScaling
    from tiebreak.evaluate.metrics import log_loss

    scaling = TemperatureScaling().fit(p_NC, labels_NC)
    return float(scaling.temperature_), log_loss(scaling.predict_proba(p_NC), labels_NC)
