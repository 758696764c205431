"""A step, as planning, running and scheduling know it: the constant STEP of each module in pipeline/steps/."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tiebreak.recipe.schema import Recipe
from tiebreak.recipe.values import FoldSection
from tiebreak.runtime import Runtime

if TYPE_CHECKING:
    from tiebreak.pipeline.workload import VoteLengths, Workload

Inputs = Mapping[str, tuple[Path, ...]]
Weights = Literal["adapter", "model", "quantized"]


def never(_recipe: Recipe) -> bool:
    return False


def always(_recipe: Recipe) -> bool:
    return True


@dataclass(frozen=True)
class Step:
    """A step of the pipeline.

    version: raised when the step's output for the same settings and inputs changes.
    run: run(settings, inputs, output, runtime) -> metrics.
    number: of the published nine; None for steps of our own.
    fold_section: the section of the recipe that names its folds.
    needs_gpu: true if its tasks train a model or score with one, by the recipe.
    is_multiprocess: its tasks may share their rows among several processes.
    is_prerequisite: its missing tasks run too when another step is chosen.
    trains: its tasks keep checkpoints of an adapter and its optimizer.
    writes: the weights in its artifacts.
    shows: files of its artifacts that trackers keep.
    workload: workload(recipe, teacher, votes), the tokens of one of its tasks.
    library: what its tasks import beyond the core, as (module, extra that brings it).
    """

    name: str
    version: int
    run: Callable[[Any, Inputs, Path, Runtime], dict[str, Any]]
    number: int | None = None
    fold_section: FoldSection | None = None
    needs_gpu: Callable[[Recipe], bool] = never
    is_multiprocess: bool = False
    is_prerequisite: bool = False
    trains: bool = False
    writes: tuple[Weights, ...] = ()
    shows: tuple[str, ...] = ()
    workload: "Callable[[Recipe, str | None, VoteLengths], Workload] | None" = None
    library: tuple[str, str] | None = None
