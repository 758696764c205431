"""A sweep: a few values of recipe keys, each trained on one fold, compared on votes that its models have not seen.

Every value's tasks are those that a run with it would make, so that a run with the chosen one takes them up.
Dimension letters: N votes, C classes (a, b, tie).
"""

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from math import inf
from typing import TYPE_CHECKING, Any, Literal

from tiebreak.errors import TiebreakError
from tiebreak.execute import local
from tiebreak.execute.signals import Stop
from tiebreak.execute.workspace import Workspace
from tiebreak.pipeline import Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tiebreak.evaluate.ladder import Truth
    from tiebreak.evaluate.metrics import Estimate

Step = Literal["teach", "distill"]


@dataclass(frozen=True)
class Arm:
    """One choice of values: its overrides, the recipe with them, and the tasks whose logits are compared."""

    overrides: tuple[str, ...]
    work: Workspace
    targets: tuple[Task, ...]

    def needed(self) -> list[Task]:
        """The targets and all that they read, in order."""
        wanted = {task.id for task in self.targets}
        for task in reversed(self.work.tasks):
            if task.id in wanted:
                wanted |= {upstream.id for upstream in task.upstream()}
        return [task for task in self.work.tasks if task.id in wanted]


@dataclass(frozen=True)
class Tried:
    """What an arm came to: log loss on unseen votes, its paired change from the best arm's, or why it failed."""

    overrides: tuple[str, ...]
    log_loss: "Estimate | None" = None
    change: "Estimate | None" = None
    failed: str = ""

    def row(self) -> dict[str, Any]:
        """As a row of a table; numbers are None where the arm failed."""
        values = dict(override.split("=", 1) for override in self.overrides)
        figures = {"log_loss": self.log_loss, "change": self.change}
        ends = {
            f"{name}_{end}".removesuffix("_value"): found and asdict(found)[end]
            for name, found in figures.items()
            for end in ("value", "low", "high")
        }
        return values | ends | {"failed": self.failed}

    def shown(self) -> dict[str, str]:
        """The same for people."""
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

    step: the step whose models are compared; None for teach where all keys are the teachers', else distill.
    Raises TiebreakError for an unknown key or fold, values that are no values, and a key without effect on the step.
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
    if len({_keys(arm) for arm in found}) < len(found):
        raise TiebreakError(
            f"{', '.join(keys)}: not every value makes other models of step {step}; "
            "name another key, or another step with --step"
        )
    return found


def sweep(found: Sequence[Arm], fold: int, stop: Stop) -> list[Tried]:
    """Make what the arms need, one after the other, and compare them. What is there already is not made again.

    Raises TiebreakError where all fail, or where the arms' models have not the same votes left unseen.
    """
    from tiebreak.evaluate.metrics import Bootstrap, difference, summarise

    failures: dict[tuple[str, ...], str] = {}
    for n, arm in enumerate(found, 1):
        print(f"value {n} of {len(found)}: {' '.join(arm.overrides)}", file=sys.stderr)
        outcome = local.run(arm.work, arm.needed(), stop)
        if outcome.failed:
            failures[arm.overrides] = "; ".join(f"{task}: {why}" for task, why in outcome.failed.items())
    made = [arm for arm in found if arm.overrides not in failures]
    if not made:
        raise TiebreakError(f"no value could be tried; the first failed: {next(iter(failures.values()))}")
    said = {arm.overrides: _said(arm, fold) for arm in made}
    truth = said[made[0].overrides][1]
    if any(other.ids != truth.ids for _, other in said.values()):
        raise TiebreakError("the values leave different votes unseen, so their models cannot be compared")
    settings = found[0].work.recipe.evaluate
    bootstrap = Bootstrap(settings.bootstrap_samples, settings.confidence)
    losses = {
        overrides: summarise(models, truth.y_NC, bootstrap, truth.groups_N)["log_loss"]
        for overrides, (models, _) in said.items()
    }
    least = said[min(losses, key=lambda overrides: losses[overrides].value)][0]
    return [
        Tried(arm.overrides, failed=failures[arm.overrides])
        if arm.overrides in failures
        else Tried(
            arm.overrides,
            losses[arm.overrides],
            difference(said[arm.overrides][0], least, truth.y_NC, bootstrap, truth.groups_N),
        )
        for arm in found
    ]


def best(tried: Sequence[Tried]) -> Tried:
    """The one with the least log loss."""
    return min(tried, key=lambda one: one.log_loss.value if one.log_loss else inf)


def advice(tried: Sequence[Tried]) -> str:
    """The flags that take over the best values, and which others the votes do not tell from them."""
    chosen = best(tried)
    close = [one for one in tried if one is not chosen and one.change and (one.change.low or 0) <= 0]
    others = "; ".join(" ".join(one.overrides) for one in close)
    flags = " ".join(f"--set {shlex.quote(override)}" for override in chosen.overrides)
    return flags + (f"  (not told apart from {others})" if close else "")


def _text(found: "Estimate | None") -> str:
    if found is None:
        return ""
    interval = "" if found.low is None else f" ({found.low:.4f} to {found.high:.4f})"
    return f"{found.value:.4f}{interval}"


def _words(text: str) -> Iterator[str]:
    """Values between commas, those inside of brackets aside."""
    yield from (word.strip() for word in re.split(r",(?![^\[{]*[\]}])", text) if word.strip())


def _arm(work: Workspace, overrides: tuple[str, ...], fold: int, step: Step) -> Arm:
    own = Workspace(work.path, (*work.overrides, *overrides), work.expand)
    section: Literal["logits", "distill"] = "logits" if step == "teach" else "distill"
    if fold not in (valid := own.recipe.folds(section)):
        raise TiebreakError(f"no fold {fold} in {work.path}; {section} has the folds {list(valid)}")
    scoring = [task for task in own.tasks if task.step_name == ("score" if step == "teach" else "distill")]
    # a student of all folds has none
    return Arm(
        overrides, own, tuple(task for task in scoring if task.settings.model_dump()["fold"] in (fold, None))
    )


def _keys(arm: Arm) -> tuple[str, ...]:
    return tuple(arm.work.key(task) for task in arm.targets)


def _said(arm: Arm, fold: int) -> "tuple[list[NDArray[np.float64]], Truth]":
    """What each of the arm's models says of the votes it has not seen (n, 3), and what is true of them.

    These are the calibration side, and what it held out unless its teachers have learned that.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from tiebreak.data import sides
    from tiebreak.data.votes import read_table
    from tiebreak.evaluate import stages
    from tiebreak.evaluate.measure import truth_of

    rows = read_table(arm.work.folder(arm.work.find("split/votes")) / "rows.parquet")
    rows = rows.filter(pc.is_valid(rows["p_a"]))
    read = stages.read([arm.work.folder(task) for task in arm.targets])
    scored = [item for item in read if item.origin == "out_of_fold"]
    parts = {"calibration": sides.calibration(rows), "held_out": sides.held_out(rows, fold)}
    parts = {split: table for split, table in parts.items() if len(table) and stages.of_split(scored, split)}
    if not parts:
        raise TiebreakError(f"{arm.work.path} leaves no vote unseen; use --set split.calibration_share=0.1")
    both = arm.work.recipe.tta.both_orders
    by_model: dict[str, list[NDArray[np.float64]]] = {item.model: [] for item in scored}
    for split, table in parts.items():
        for item in stages.of_split(scored, split):
            by_model[item.model].append(item.aligned(table["id"].to_pylist()).probabilities(both, False))
    return [np.concatenate(p) for p in by_model.values()], truth_of(pa.concat_tables(parts.values()))
