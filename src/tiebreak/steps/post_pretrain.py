"""Step 1: learn the task on preference pairs; the adapters carry over, the score head does not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak.recipe import Lora, Prompt, Slice, Training
from tiebreak.runtime import Runtime

VERSION = 3


class Settings(Slice):
    precision: str
    lora: Lora
    prompt: Prompt
    subset_rows: int
    training: Training
    seed: int


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write adapter/, without a score head, and curve.json, the loss of each optimizer step."""
    from tiebreak.data import sides, votes
    from tiebreak.model.classifier import load_adapted
    from tiebreak.train.fit import fit, keep

    (base,), (rows,) = inputs["base"], inputs["rows"]
    seed = sides.derive(settings.seed, "post_pretrain")
    table = sides.subset(votes.read_table(rows / "preferences.parquet"), settings.subset_rows, seed)
    classifier = load_adapted(base, settings.lora, None, settings.precision, runtime.device, settings.seed)
    losses = fit(classifier, table, settings.prompt, settings.training, runtime, seed)
    if not runtime.leads:
        return {}
    keep(classifier, losses, settings.lora, output, with_head=False)
    return {
        "votes": len(table),
        "steps": len(losses),
        "last_loss": losses[-1],
        "learned_from": ["preferences"],
    }
