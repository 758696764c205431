"""Step 9: metrics with intervals, the report, the submission, the model card."""

import fcntl
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak import seen
from tiebreak.recipe import Evaluate, Slice
from tiebreak.runtime import Runtime

if TYPE_CHECKING:
    import pyarrow as pa

    from tiebreak.evaluate.stages import Scored
    from tiebreak.predict.verdict import Verdict

VERSION = 11

_MADE = ("teachers", "students", "average", "averaged", "quantized", "model", "baseline")
_FICLONE = 0x40049409
"""Share a file's blocks, until one of the two is written to: ioctl_ficlone(2), on XFS, btrfs and others."""
Inputs = Mapping[str, tuple[Path, ...]]


class Settings(Slice):
    name: str
    evaluate: Evaluate
    seed: int


def run(settings: Settings, inputs: Inputs, output: Path, runtime: Runtime) -> dict[str, Any]:
    """Write metrics.json, report.html, lockbox.parquet (id and the shipped model's p_a, p_b, p_tie), model/ with
    its card and, where there are test pairs, submission.csv.

    teacher_log_loss and student_log_loss are means over models on the lockbox, answers in the order stored,
    not calibrated; final_log_loss is the quantised model as it ships: TTA, calibration, rules. What was
    measured on the clock, or depends on the machine, is not in here: two runs write the same files. Raises
    TiebreakError if anything has learned from, or was fitted on, the lockbox.
    """
    from tiebreak.data import votes
    from tiebreak.evaluate import card, measure, report, stages
    from tiebreak.evaluate.metrics import Bootstrap
    from tiebreak.predict.package import read
    from tiebreak.predict.verdict import Verdict

    made = [folder for name in _MADE for folder in inputs.get(name, ())]
    known = seen.learned_from(made) | seen.fitted_on(made)
    seen.require_unseen(["lockbox"], known, "the result", "that is a mistake of tiebreak's: please report it")
    shipped = inputs["model"][0] / "model"
    package = read(shipped)
    calibration, simple = package.calibration, inputs.get("baseline", ())
    scored = measure.Stages(
        teachers=stages.read(inputs["teachers"]),
        students=stages.read(inputs["students"], [_calibration(folder) for folder in inputs["students"]]),
        average=stages.read(inputs["average"]),
        averaged=stages.read(inputs["averaged"], [calibration]),
        quantized=stages.read(inputs["quantized"], [calibration]),
        baseline=stages.read(simple, list(map(_calibration, simple))),
    )
    leaderboard = _submit(inputs, output)
    bootstrap = Bootstrap(settings.evaluate.bootstrap_samples, settings.evaluate.confidence, settings.seed)
    runtime.report("measuring", 0, 1, "ladders")
    rows = votes.read_table(inputs["rows"][0] / "rows.parquet")
    verdict, weight_folds = Verdict.of(package, shipped), settings.evaluate.weight_folds
    name = "as shipped" if package.blend is None else "blended with the baseline, as shipped"
    measured = measure.measure(
        rows, scored, package.tta.both_orders, verdict.on, bootstrap, weight_folds, name
    )
    _predict_lockbox(rows, scored.quantized, verdict, output)
    metrics = {"name": settings.name, "leaderboard_log_loss": leaderboard, **measured}
    metrics["learning_curve"] = _learning_curve(simple)
    (output / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    report.write(metrics, output / "report.html")
    _ship(shipped, output / "model", card.render(metrics, package.model_dump(mode="json")))
    headline = {key: value for key, value in metrics.items() if key.endswith(("_rows", "_loss"))}
    return {key: value for key, value in headline.items() if value is not None}


def _predict_lockbox(
    rows: "pa.Table", quantized: "Sequence[Scored]", verdict: "Verdict", output: Path
) -> None:
    import pyarrow as pa

    from tiebreak.data import sides, votes
    from tiebreak.evaluate.stages import of_split

    lockbox = sides.lockbox(rows)
    columns = {"id": lockbox["id"]}
    for model in of_split(quantized, "lockbox"):
        p_NC = verdict.on(lockbox, model.aligned(lockbox["id"].to_pylist()).z_NOC)
        columns |= votes.probability_columns(p_NC)
    votes.write_table(pa.table(columns), output / "lockbox.parquet")


def _submit(inputs: Inputs, output: Path) -> float | None:
    """Write the submission; its log loss where the solution is known."""
    from tiebreak.data.votes import probabilities, read_table
    from tiebreak.evaluate import submission

    if "test" not in inputs:
        return None
    test = read_table(inputs["quantized"][0] / "test.parquet")
    path = output / "submission.csv"
    submission.write(test["id"].to_pylist(), probabilities(test), path)
    return submission.leaderboard_log_loss(path, inputs["solution"][0]) if "solution" in inputs else None


def _calibration(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((folder / "calibration.json").read_text(encoding="utf-8"))
    return state


def _learning_curve(baseline: Sequence[Path]) -> dict[str, Any] | None:
    """The baseline's, which is of the calibration side; None where there is no baseline or no such side."""
    from tiebreak.steps.baseline import CURVE

    if not baseline:
        return None
    curve: dict[str, Any] | None = json.loads((baseline[0] / CURVE).read_text(encoding="utf-8"))
    return curve


def _ship(source: Path, target: Path, card: str) -> None:
    """A copy of the model folder, which people may change, with the card beside the weights."""
    shutil.copytree(source, target, copy_function=_copy)
    (target / "README.md").write_text(card, encoding="utf-8")


def _copy(source: str, target: str) -> None:
    """A copy that takes no space before one of the two is written to, where the disk can do that."""
    try:
        with open(source, "rb") as read, open(target, "wb") as written:
            fcntl.ioctl(written, _FICLONE, read.fileno())
    except OSError:
        shutil.copyfile(source, target)
