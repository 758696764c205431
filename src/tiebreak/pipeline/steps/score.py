"""Step 4: score rows with the teacher of one fold, in both orders; raw logits keyed by row and order.

Rows that the teacher was trained on are marked in_sample, all others out_of_fold. Results are saved every few
thousand rows, so that a killed task resumes.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak.pipeline.step import Step, always
from tiebreak.recipe.schema import Prompt, Recipe
from tiebreak.recipe.values import Slice
from tiebreak.runtime import Runtime

if TYPE_CHECKING:
    import pyarrow as pa

    from tiebreak.pipeline.workload import VoteLengths, Workload

log = logging.getLogger(__name__)

VERSION = 4


class Settings(Slice):
    teacher: str
    fold: int
    shard: int
    shards: int
    subset_votes: int | tuple[int, int]
    taught_votes: int
    max_tokens: int
    precision: str
    prompt: Prompt
    seed: int


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write logits.parquet (judge.logits.LOGITS_SCHEMA) with this shard's votes."""
    import pyarrow as pa

    from tiebreak.judge.scoring_parts import score_in_parts
    from tiebreak.model.classifier import load_adapted
    from tiebreak.model.lora import read_adapter
    from tiebreak.votes import schema

    (base,), (adapter,), (rows,) = inputs["base"], inputs["adapter"], inputs["rows"]
    table = _rows_to_score(rows, settings)
    _, lora = read_adapter(adapter / "adapter")
    classifier = load_adapted(base, lora, adapter / "adapter", settings.precision, runtime.device)
    logits = score_in_parts(
        classifier,
        table,
        settings.prompt,
        settings.max_tokens,
        settings.teacher,
        settings.fold,
        runtime,
    )
    if not runtime.is_main:
        return {}
    schema.write_table(logits, output / "logits.parquet")
    splits = pa.compute.value_counts(table["split"]).to_pylist()
    return {"votes": len(table)} | {f"votes_{item['values']}": item["counts"] for item in splits}


def _rows_to_score(folder: Path, settings: Settings) -> "pa.Table":
    """This shard's votes, marked; the training subset is equal for all teachers, starting with their training rows."""
    import numpy as np

    from tiebreak.votes import schema, splits

    rows = schema.read_table(folder / "rows.parquet")
    unlabelled = folder / "unlabelled.parquet"
    seed = splits.derive_seed(settings.seed, "teach", settings.fold)
    count = settings.subset_votes
    if isinstance(count, tuple):
        count = int(np.random.default_rng(seed).integers(count[0], count[1], endpoint=True))
    side = splits.training_votes(rows, settings.fold)
    if count > len(side):
        log.info("of the fold's training side all %d votes are taken: %d were asked for", len(side), count)
    parts = {
        "train": splits.subset(side, count, seed),
        "held_out": splits.held_out(rows, settings.fold),
        "calibration": splits.calibration(rows),
        "lockbox": splits.lockbox(rows),
    }
    if unlabelled.exists():
        parts["unlabelled"] = schema.read_table(unlabelled)
    table = splits.tag_splits(parts, trained_on=splits.subset(side, settings.taught_votes, seed))
    return table.take(np.arange(settings.shard, len(table), settings.shards))


def workload(recipe: Recipe, teacher: str | None, votes: "VoteLengths") -> "Workload":
    from tiebreak.pipeline.workload import Workload, tokens

    logits = recipe.logits
    pairs = (votes.scored_by([teacher] if teacher else []), votes.held_out)
    return Workload(scored=2 * sum(tokens(side, logits.max_tokens) for side in pairs) / logits.shards)


STEP = Step(
    "score",
    VERSION,
    run,
    number=4,
    fold_section="logits",
    needs_gpu=always,
    is_multiprocess=True,
    workload=workload,
)
