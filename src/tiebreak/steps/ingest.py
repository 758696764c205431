"""Before step 1: read files of votes in any format, set bad rows aside, write one schema."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak.recipe import Role, Share, Slice
from tiebreak.runtime import Runtime

VERSION = 4


class Settings(Slice):
    role: Role
    max_rejected_share: Share
    incomplete_files: bool = False
    pairs_per_prompt: int | None = None


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write votes.parquet (data.votes.SCHEMA) and rejects.parquet (data.readers.REJECTS_SCHEMA).

    Metrics: records read, votes made of them, rejects in all and by kind. Raises TiebreakError for files that
    cannot be read or break off, no votes, or more rejects than the settings allow; then nothing is left behind.
    """
    from tiebreak.data import readers
    from tiebreak.data.streaming import writer
    from tiebreak.data.votes import SCHEMA

    kinds: Counter[str] = Counter()
    records = made = 0
    with (
        writer(output / "votes.parquet", SCHEMA) as good,
        writer(output / "rejects.parquet", readers.REJECTS_SCHEMA) as bad,
    ):
        for batch in readers.read(inputs["files"], settings.role, settings.pairs_per_prompt):
            if not settings.incomplete_files:
                readers.refuse_incomplete(batch.rejects, readers.OR_INCOMPLETE)
            good.write_batch(batch.votes)
            bad.write_table(readers.rejects_table(batch.rejects))
            kinds.update(readers.kind(reason) for _, _, reason in batch.rejects)
            records += batch.records
            made += batch.votes.num_rows
            runtime.report("read", records, 0, "records")
        names = [str(path) for path in inputs["files"]]
        readers.refuse_rejected(names, records, made, kinds, settings.max_rejected_share)
    return {
        "records": records,
        "votes": made,
        "rejects": kinds.total(),
        **{f"rejects: {reason}": count for reason, count in kinds.most_common()},
    }
