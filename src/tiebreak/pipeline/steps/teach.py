"""Step 3: train one teacher on the training side of one fold."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak.pipeline.step import Step, always
from tiebreak.recipe.models import Lora
from tiebreak.recipe.schema import Prompt, Recipe, Training
from tiebreak.recipe.values import Slice
from tiebreak.runtime import Runtime

if TYPE_CHECKING:
    from tiebreak.pipeline.workload import VoteLengths, Workload

VERSION = 4


class Settings(Slice):
    fold: int
    precision: str
    lora: Lora
    prompt: Prompt
    subset_votes: int
    training: Training
    seed: int


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write adapter/, with the score head in it, and curve.json, the loss of each optimizer step."""
    from tiebreak.model.classifier import load_adapted
    from tiebreak.training.fit import fit, save_trained
    from tiebreak.votes import schema, splits

    (base,), (rows,) = inputs["base"], inputs["rows"]
    seed = splits.derive_seed(settings.seed, "teach", settings.fold)
    table = splits.training_votes(schema.read_table(rows / "rows.parquet"), settings.fold)
    table = splits.subset(table, settings.subset_votes, seed)
    start = inputs["start"][0] / "adapter" if "start" in inputs else None
    classifier = load_adapted(base, settings.lora, start, settings.precision, runtime.device, settings.seed)
    losses = fit(classifier, table, settings.prompt, settings.training, runtime, seed)
    if not runtime.is_main:
        return {}
    save_trained(classifier, losses, settings.lora, output)
    learned_from = sorted(splits.groups_of(table))
    return {
        "votes": len(table),
        "steps": len(losses),
        "last_loss": losses[-1],
        "learned_from": learned_from,
    }


def workload(recipe: Recipe, teacher: str | None, votes: "VoteLengths") -> "Workload":
    from tiebreak.pipeline.workload import Workload, subset, training_tokens

    side = subset(votes.training_side, recipe.teach.subset_votes)
    return Workload(trained=training_tokens(side, recipe.teach.training))


STEP = Step(
    "teach",
    VERSION,
    run,
    number=3,
    fold_section="teach",
    needs_gpu=always,
    is_multiprocess=True,
    trains=True,
    writes=("adapter",),
    workload=workload,
)
