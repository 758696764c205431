"""Sweep over values of recipe keys, trained on one fold and compared on unseen votes.

The tasks of a value are those of a run with it, so that a run with the chosen value reuses them.
Dimension letters: N votes, C classes (a, b, tie).
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from math import inf
from typing import TYPE_CHECKING, Any, Literal

from tiebreak import terminal
from tiebreak.engine import local_runner
from tiebreak.engine.signals import Stop
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.pipeline.graph import Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tiebreak.evaluate.variants import LabelledVotes
    from tiebreak.stats.metrics import Estimate

Step = Literal["teach", "distill"]


@dataclass(frozen=True)
class Arm:
    """One arm of the sweep: its overrides, the workspace with them, and the tasks whose logits are compared."""

    overrides: tuple[str, ...]
    work: Workspace
    targets: tuple[Task, ...]

    def required_tasks(self) -> list[Task]:
        """The targets and all their inputs, in order."""
        wanted = {task.id for task in self.targets}
        for task in reversed(self.work.tasks):
            if task.id in wanted:
                wanted |= {upstream.id for upstream in task.upstream()}
        return [task for task in self.work.tasks if task.id in wanted]


@dataclass(frozen=True)
class ArmResult:
    """Result of an arm: log loss on unseen votes and its paired change from the best arm, or its error."""

    overrides: tuple[str, ...]
    log_loss: "Estimate | None" = None
    change: "Estimate | None" = None
    failed: str = ""

    def row(self) -> dict[str, Any]:
        """The result as a row of a table; numbers are None where the arm failed."""
        values = dict(override.split("=", 1) for override in self.overrides)
        figures = {"log_loss": self.log_loss, "change": self.change}
        ends = {
            f"{name}_{end}".removesuffix("_value"): found and asdict(found)[end]
            for name, found in figures.items()
            for end in ("value", "low", "high")
        }
        return values | ends | {"failed": self.failed}

    def formatted(self) -> dict[str, str]:
        """The result formatted for display."""
        values = ", ".join(
            override[override.rfind(".", 0, override.index("=")) + 1 :] for override in self.overrides
        )
        return {
            "value": values,
            "log_loss": _text(self.log_loss),
            "change": _text(self.change) or self.failed,
        }


def arms(
    work: Workspace, keys: Sequence[str], values: Sequence[str], fold: int, step: Step | None = None
) -> list[Arm]:
    """Every combination of the keys' values; each of `values` lists those of one key, with commas.

    step: the step whose models are compared; None for teach if all keys are the teachers', else distill.
    Raises TiebreakError for an unknown key or fold, invalid values, a single value, and a key without effect on the step.
    """
    if len(keys) != len(values):
        raise TiebreakError(
            f"{len(keys)} of --key and {len(values)} of --values: each key needs its own values, such as "
            "--key distill.training.learning_rate --values 1e-4,3e-4"
        )
    step = step or ("teach" if all(k.startswith(("teach.", "models.teachers.")) for k in keys) else "distill")
    choices = [
        [f"{key}={value}" for value in dict.fromkeys(_words(text))]
        for key, text in zip(keys, values, strict=True)
    ]
    found = [_arm(work, overrides, fold, step) for overrides in product(*choices)]
    if len(found) < 2:
        raise TiebreakError(
            f"--values {' '.join(values)}: there is nothing to compare a single value with; give two or more, with "
            f"commas between them, or train with it: tiebreak run RECIPE --set {keys[0]}=VALUE"
        )
    if len({_keys(arm) for arm in found}) < len(found):
        raise TiebreakError(
            f"{', '.join(keys)}: not every value makes other models of step {step}; "
            "name another key, or another step with --step"
        )
    return found


def sweep(found: Sequence[Arm], fold: int, stop: Stop) -> list[ArmResult]:
    """Run the tasks of each arm that are missing, and compare the arms.

    Raises TiebreakError if all fail, or if the arms have different unseen votes.
    """
    from tiebreak.stats.metrics import Bootstrap, difference, summarise

    failures: dict[tuple[str, ...], str] = {}
    for n, arm in enumerate(found, 1):
        terminal.note(f"value {n} of {len(found)}: {' '.join(arm.overrides)}")
        outcome = local_runner.run(arm.work, arm.required_tasks(), stop)
        if outcome.failed:
            failures[arm.overrides] = "; ".join(f"{task}: {why}" for task, why in outcome.failed.items())
    made = [arm for arm in found if arm.overrides not in failures]
    if not made:
        raise TiebreakError(f"no value could be tried; the first failed: {next(iter(failures.values()))}")
    predictions = {arm.overrides: _unseen_predictions(arm, fold) for arm in made}
    truth = predictions[made[0].overrides][1]
    if any(other.ids != truth.ids for _, other in predictions.values()):
        raise TiebreakError("the values leave different votes unseen, so their models cannot be compared")
    settings = found[0].work.recipe.evaluate
    bootstrap = Bootstrap(settings.bootstrap_samples, settings.confidence)
    losses = {
        overrides: summarise(models, truth.y_NC, bootstrap, truth.groups_N)["log_loss"]
        for overrides, (models, _) in predictions.items()
    }
    least = predictions[min(losses, key=lambda overrides: losses[overrides].value)][0]
    return [
        ArmResult(arm.overrides, failed=failures[arm.overrides])
        if arm.overrides in failures
        else ArmResult(
            arm.overrides,
            losses[arm.overrides],
            difference(predictions[arm.overrides][0], least, truth.y_NC, bootstrap, truth.groups_N),
        )
        for arm in found
    ]


def best(results: Sequence[ArmResult]) -> ArmResult:
    """The arm with the lowest log loss."""
    return min(results, key=lambda result: result.log_loss.value if result.log_loss else inf)


def recommended_flags(results: Sequence[ArmResult]) -> str:
    """The flags for the best values, with the arms that do not differ significantly from them."""
    chosen = best(results)
    close = [
        result
        for result in results
        if result is not chosen and result.change and (result.change.low or 0) <= 0
    ]
    others = "; ".join(" ".join(result.overrides) for result in close)
    flags = " ".join(f"--set {shlex.quote(override)}" for override in chosen.overrides)
    return flags + (f"  (not told apart from {others})" if close else "")


def _text(found: "Estimate | None") -> str:
    if found is None:
        return ""
    interval = "" if found.low is None else f" ({found.low:.4f} to {found.high:.4f})"
    return f"{found.value:.4f}{interval}"


def _words(text: str) -> Iterator[str]:
    """Split values at commas outside of brackets."""
    yield from (word.strip() for word in re.split(r",(?![^\[{]*[\]}])", text) if word.strip())


def _arm(work: Workspace, overrides: tuple[str, ...], fold: int, step: Step) -> Arm:
    own = Workspace(work.path, (*work.overrides, *overrides), work.expand)
    section: Literal["logits", "distill"] = "logits" if step == "teach" else "distill"
    if fold not in (valid := own.recipe.folds(section)):
        raise TiebreakError(f"no fold {fold} in {work.path}; {section} has the folds {list(valid)}")
    scoring = [task for task in own.tasks if task.step.fold_section == section]
    # a student of all folds has fold None
    return Arm(overrides, own, tuple(task for task in scoring if task.fold in (fold, None)))


def _keys(arm: Arm) -> tuple[str, ...]:
    return tuple(arm.work.key(task) for task in arm.targets)


def _unseen_predictions(arm: Arm, fold: int) -> "tuple[list[NDArray[np.float64]], LabelledVotes]":
    """Predictions (n, 3) of each of the arm's models for its unseen votes, and their labels.

    Unseen are the calibration side, and the held-out votes unless the teachers have learned from them.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from tiebreak.evaluate.build_metrics import labelled_votes
    from tiebreak.judge import logits
    from tiebreak.votes import splits
    from tiebreak.votes.schema import read_table

    rows = read_table(arm.work.folder(arm.work.find("split/votes")) / "rows.parquet")
    rows = rows.filter(pc.is_valid(rows["p_a"]))
    read = logits.read([arm.work.folder(task) for task in arm.targets])
    scored = [item for item in read if item.origin == "out_of_fold"]
    parts = {"calibration": splits.calibration(rows), "held_out": splits.held_out(rows, fold)}
    parts = {split: table for split, table in parts.items() if len(table) and logits.of_split(scored, split)}
    if not parts:
        raise TiebreakError(f"{arm.work.path} leaves no vote unseen; use --set split.calibration_share=0.1")
    both = arm.work.recipe.tta.both_orders
    by_model: dict[str, list[NDArray[np.float64]]] = {item.model: [] for item in scored}
    for split, table in parts.items():
        for item in logits.of_split(scored, split):
            by_model[item.model].append(item.aligned(table["id"].to_pylist()).probabilities(both, False))
    return [np.concatenate(p) for p in by_model.values()], labelled_votes(pa.concat_tables(parts.values()))
