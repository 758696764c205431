"""Step 8: predict lockbox and test votes, each in both orders, the swap undone."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak.pipeline.step import Step, always
from tiebreak.recipe.schema import Recipe, Tta
from tiebreak.recipe.values import Slice
from tiebreak.runtime import Runtime

if TYPE_CHECKING:
    from tiebreak.pipeline.workload import VoteLengths, Workload

VERSION = 3


class Settings(Slice):
    tta: Tta


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write logits.parquet, lockbox votes in both orders, and test.parquet (id, p_a, p_b, p_tie) as shipped:
    with the TTA of the recipe, calibration and rules.
    """
    import pyarrow as pa

    import tiebreak
    from tiebreak.judge.scoring_parts import map_in_parts, score_in_parts
    from tiebreak.votes import schema, splits

    (model,), (rows,) = inputs["model"], inputs["rows"]
    judge = tiebreak.load(model / "model", device=runtime.device, score_tokens=runtime.score_tokens)
    lockbox = splits.lockbox(schema.read_table(rows / "rows.parquet"))
    marked = splits.tag_splits({"lockbox": lockbox})
    logits = score_in_parts(
        judge.classifier, marked, judge.package.prompt, settings.tta.max_tokens, "student", None, runtime
    )
    if runtime.is_main:
        schema.write_table(logits, output / "logits.parquet")
    if "test" not in inputs:
        return {"lockbox_votes": len(lockbox)}
    test = schema.read_table(inputs["test"][0] / "votes.parquet")

    def predict_part(part: pa.Table) -> pa.Table:
        p_NC = judge.predict_table(part, report=runtime.report)
        return pa.table({"id": part["id"], **schema.probability_columns(p_NC)})

    test_runtime = replace(runtime, scratch=runtime.scratch / "test")
    parts = map_in_parts(predict_part, test, test_runtime)
    if runtime.is_main:
        schema.write_table(pa.concat_tables(parts), output / "test.parquet")
    return {"lockbox_votes": len(lockbox), "test_votes": len(test)}


def workload(recipe: Recipe, teacher: str | None, votes: "VoteLengths") -> "Workload":
    from tiebreak.pipeline.workload import Workload, tokens

    pairs = (votes.share(recipe.split.lockbox_share), votes.of("test"))
    scored = sum(tokens(side, recipe.tta.max_tokens) for side in pairs)
    return Workload(scored=(1 + recipe.tta.both_orders) * scored)


STEP = Step(
    "predict",
    VERSION,
    run,
    number=8,
    needs_gpu=always,
    is_multiprocess=True,
    workload=workload,
)
