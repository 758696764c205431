"""Step 9: metrics with intervals, the report, the submission, the model card."""

import fcntl
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak import seen
from tiebreak.output import write_atomically
from tiebreak.pipeline.step import Step
from tiebreak.recipe.schema import Evaluate
from tiebreak.recipe.values import Slice
from tiebreak.runtime import Runtime

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from tiebreak.judge.logits import ModelLogits
    from tiebreak.judge.postprocessing import Postprocessing

VERSION = 15

_MODEL_INPUTS = ("teachers", "students", "average", "averaged", "quantized", "model", "baseline")
_FICLONE = 0x40049409
"""Share a file's blocks, until one of the two is written to: ioctl_ficlone(2), on XFS, btrfs and others."""
Inputs = Mapping[str, tuple[Path, ...]]


class Settings(Slice):
    name: str
    evaluate: Evaluate
    seed: int


def run(settings: Settings, inputs: Inputs, output: Path, runtime: Runtime) -> dict[str, Any]:
    """Write metrics.json, report.html, lockbox.parquet (id and the shipped model's p_a, p_b, p_tie), model/ with
    its card and, if there are test pairs, submission.csv.

    teacher_log_loss and student_log_loss are means over models on the lockbox, answers in the order stored,
    not calibrated; final_log_loss is the quantised model as shipped: TTA, calibration, rules. Nothing depends on the
    clock or the machine: two runs write the same files. Raises TiebreakError if anything was trained or fitted on
    the lockbox.
    """
    import pyarrow as pa

    from tiebreak.evaluate import build_metrics, model_card, report
    from tiebreak.judge import logits
    from tiebreak.judge.package import read
    from tiebreak.judge.postprocessing import Postprocessing
    from tiebreak.stats.metrics import Bootstrap
    from tiebreak.votes import schema, splits

    artifacts = [folder for name in _MODEL_INPUTS for folder in inputs.get(name, ())]
    groups_used = seen.learned_from(artifacts) | seen.fitted_on(artifacts)
    seen.require_unseen(
        ["lockbox"], groups_used, "the result", "that is a mistake of tiebreak's: please report it"
    )
    shipped = inputs["model"][0] / "model"
    package = read(shipped)
    calibration, baseline = package.calibration, inputs.get("baseline", ())
    scored = build_metrics.StageLogits(
        teachers=logits.read(inputs["teachers"]),
        students=_calibrated(inputs["students"]),
        average=logits.read(inputs["average"]),
        averaged=logits.read(inputs["averaged"], calibration),
        quantized=logits.read(inputs["quantized"], calibration),
        baseline=_calibrated(baseline),
    )
    leaderboard = _submit(inputs, output)
    bootstrap = Bootstrap(settings.evaluate.bootstrap_samples, settings.evaluate.confidence, settings.seed)
    runtime.report("measuring", 0, 1, "ladders")
    rows = schema.read_table(inputs["rows"][0] / "rows.parquet")
    postprocessing, weight_folds = (
        Postprocessing.from_package(package, shipped),
        settings.evaluate.weight_folds,
    )
    name = "as shipped" if package.blend is None else "blended with the baseline, as shipped"
    lockbox = splits.lockbox(rows)
    p_NC = _lockbox_probabilities(lockbox, scored.quantized, postprocessing)
    predicted = {"id": lockbox["id"], **schema.probability_columns(p_NC)}
    schema.write_table(pa.table(predicted), output / "lockbox.parquet")
    computed = build_metrics.build_metrics(
        rows, scored, package.tta.both_orders, p_NC, bootstrap, weight_folds, name, package.guarantees
    )
    metrics = {"name": settings.name, "leaderboard_log_loss": leaderboard, **computed}
    metrics["learning_curve"] = _learning_curve(baseline)
    write_atomically(output / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    report.write(metrics, output / "report.html")
    _ship(shipped, output / "model", model_card.render(metrics, package.model_dump(mode="json")))
    headline = {key: value for key, value in metrics.items() if key.endswith(("_rows", "_loss"))}
    return {key: value for key, value in headline.items() if value is not None}


def _lockbox_probabilities(
    lockbox: "pa.Table", quantized: "Sequence[ModelLogits]", postprocessing: "Postprocessing"
) -> "NDArray[np.float64]":
    """The shipped model's probabilities (n, 3) of the lockbox."""
    import numpy as np

    from tiebreak.judge.logits import of_split

    if len(lockbox) == 0:
        return np.empty((0, 3))
    (model,) = of_split(quantized, "lockbox")
    return postprocessing.to_probabilities(lockbox, model.aligned(lockbox["id"].to_pylist()).z_NOC)


def _submit(inputs: Inputs, output: Path) -> float | None:
    """Write the submission; returns its log loss if there is a solution."""
    from tiebreak.evaluate import submission
    from tiebreak.votes.schema import probabilities, read_table

    if "test" not in inputs:
        return None
    test = read_table(inputs["quantized"][0] / "test.parquet")
    path = output / "submission.csv"
    submission.write(test["id"].to_pylist(), probabilities(test), path)
    return submission.leaderboard_log_loss(path, inputs["solution"][0]) if "solution" in inputs else None


def _calibrated(folders: Sequence[Path]) -> "list[ModelLogits]":
    """The logits of models, each with the calibration beside them."""
    from tiebreak.judge.logits import read

    states = [json.loads((folder / "calibration.json").read_text(encoding="utf-8")) for folder in folders]
    return [item for folder, state in zip(folders, states, strict=True) for item in read([folder], state)]


def _learning_curve(baseline: Sequence[Path]) -> dict[str, Any] | None:
    """Read the baseline's learning curve; None without a baseline or a calibration side."""
    from tiebreak.pipeline.steps.baseline import CURVE

    if not baseline:
        return None
    curve: dict[str, Any] | None = json.loads((baseline[0] / CURVE).read_text(encoding="utf-8"))
    return curve


def _ship(source: Path, target: Path, card: str) -> None:
    """A copy of the model folder, which people may change, with the card beside the weights; links stay behind."""
    target.mkdir()
    for file in source.iterdir():
        if file.is_file() and not file.is_symlink():
            _copy(file, target / file.name)
    write_atomically(target / "README.md", card)


def _copy(source: Path, target: Path) -> None:
    """A copy that takes no space before one of the two is written to, where the disk can do that."""
    try:
        with source.open("rb") as read, target.open("wb") as written:
            fcntl.ioctl(written, _FICLONE, read.fileno())
    except OSError:
        shutil.copyfile(source, target)


STEP = Step("evaluate", VERSION, run, number=9, writes=("quantized",), shows=("report.html", "metrics.json"))
