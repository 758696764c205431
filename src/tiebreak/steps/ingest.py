"""Before step 1: read files of votes in any format, set bad rows aside, write one schema."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak.errors import TiebreakError
from tiebreak.recipe import Role, Share, Slice
from tiebreak.runtime import Runtime

VERSION = 3


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
                otherwise = ", or take what comes before: --set data.incomplete_files=true"
                readers.refuse_incomplete(batch.rejects, otherwise)
            good.write_batch(batch.votes)
            bad.write_table(readers.rejects_table(batch.rejects))
            kinds.update(readers.kind(reason) for _, _, reason in batch.rejects)
            records += batch.records
            made += batch.votes.num_rows
            runtime.report("read", records, 0, "records")
        _check(settings, inputs["files"], records, made, kinds)
    return {
        "records": records,
        "votes": made,
        "rejects": kinds.total(),
        **{f"rejects: {reason}": count for reason, count in kinds.most_common()},
    }


def _check(settings: Settings, files: tuple[Path, ...], records: int, made: int, kinds: Counter[str]) -> None:
    from tiebreak.data import readers

    named = ", ".join(map(str, files))
    if not records:
        raise TiebreakError(f"no rows in {named}")
    share = kinds.total() / records
    if share > settings.max_rejected_share:
        raise TiebreakError(
            f"{kinds.total()} of {records} rows in {named} cannot be used ({share:.1%}, allowed are "
            f"{settings.max_rejected_share:.1%}): {readers.summary(kinds)}. Mend the files, or allow "
            f"more: --set data.max_rejected_share={share + 0.01:.2f}"
        )
    if not made:
        raise TiebreakError(f"no usable rows in {named}: {readers.summary(kinds)}")
