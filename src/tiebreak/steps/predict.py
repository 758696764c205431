"""Step 8: predict lockbox and test votes, each in both orders, the swap undone."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiebreak.recipe import Slice, Tta
from tiebreak.runtime import Runtime

VERSION = 2


class Settings(Slice):
    tta: Tta


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write logits.parquet, lockbox votes in both orders, and test.parquet (id, p_a, p_b, p_tie): as shipped:
    with the TTA of the recipe, calibration and rules.
    """
    import pyarrow as pa

    import tiebreak
    from tiebreak.data import sides, votes
    from tiebreak.predict.parts import in_parts, score_in_parts

    (model,), (rows,) = inputs["model"], inputs["rows"]
    judge = tiebreak.load(model / "model", device=runtime.device, score_tokens=runtime.score_tokens)
    lockbox = sides.lockbox(votes.read_table(rows / "rows.parquet"))
    marked = sides.marked({"lockbox": lockbox})
    logits = score_in_parts(
        judge.classifier, marked, judge.package.prompt, settings.tta.max_tokens, "student", None, runtime
    )
    if runtime.leads:
        votes.write_table(logits, output / "logits.parquet")
    if "test" not in inputs:
        return {"lockbox_votes": len(lockbox)}
    test = votes.read_table(inputs["test"][0] / "votes.parquet")

    def predicted(part: pa.Table) -> pa.Table:
        p_NC = judge.say(part, report=runtime.report)
        return pa.table({"id": part["id"], **votes.probability_columns(p_NC)})

    own = replace(runtime, scratch=runtime.scratch / "test")
    parts = in_parts(predicted, test, own)
    if runtime.leads:
        votes.write_table(pa.concat_tables(parts), output / "test.parquet")
    return {"lockbox_votes": len(lockbox), "test_votes": len(test)}
