"""Step 1: post-pretrain on preference pairs; later steps start from the adapters, not from the score head."""

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
    precision: str
    lora: Lora
    prompt: Prompt
    subset_votes: int
    training: Training
    seed: int


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write adapter/, without a score head, and curve.json, the loss of each optimizer step."""
    from tiebreak.model.classifier import load_adapted
    from tiebreak.training.fit import fit, save_trained
    from tiebreak.votes import schema, splits

    (base,), (rows,) = inputs["base"], inputs["rows"]
    seed = splits.derive_seed(settings.seed, "post_pretrain")
    table = splits.subset(schema.read_table(rows / "preferences.parquet"), settings.subset_votes, seed)
    classifier = load_adapted(base, settings.lora, None, settings.precision, runtime.device, settings.seed)
    losses = fit(classifier, table, settings.prompt, settings.training, runtime, seed)
    if not runtime.is_main:
        return {}
    save_trained(classifier, losses, settings.lora, output, with_head=False)
    return {
        "votes": len(table),
        "steps": len(losses),
        "last_loss": losses[-1],
        "learned_from": ["preferences"],
    }


def workload(recipe: Recipe, teacher: str | None, votes: "VoteLengths") -> "Workload":
    from tiebreak.pipeline.workload import Workload, subset, training_tokens

    pairs = subset(votes.of("preferences"), recipe.post_pretrain.subset_votes)
    return Workload(trained=training_tokens(pairs, recipe.post_pretrain.training))


STEP = Step(
    "post_pretrain",
    VERSION,
    run,
    number=1,
    needs_gpu=always,
    is_multiprocess=True,
    trains=True,
    writes=("adapter",),
    workload=workload,
)
