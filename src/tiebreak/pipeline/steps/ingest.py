"""Ingest step, before step 1: read files of votes in any format, reject bad rows, write one schema."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from tiebreak.pipeline.step import Step
from tiebreak.recipe.values import FieldName, LabelName, Role, Share, Slice, ValueText
from tiebreak.runtime import Runtime

VERSION = 8


class Settings(Slice):
    role: Role
    max_rejected_share: Share
    incomplete_files: bool = False
    pairs_per_prompt: int | None = None
    columns: dict[FieldName, str] = Field({})
    values: dict[ValueText, LabelName] = Field({})


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write votes.parquet (votes.schema.SCHEMA) and rejects.parquet (votes.formats.readers.REJECTS_SCHEMA).

    Metrics: records read, votes, rejects in all and by kind. Raises TiebreakError for files that cannot be read or are
    truncated, no votes, or more rejects than the settings allow; then no file remains.
    """
    from tiebreak.votes.formats import readers
    from tiebreak.votes.formats.mapping import ColumnMap
    from tiebreak.votes.parquet import writer
    from tiebreak.votes.schema import SCHEMA

    mapping = ColumnMap(settings.columns, settings.values)
    if settings.role == "votes":
        readers.require_mapped(inputs["files"], mapping)
    kinds: Counter[str] = Counter()
    records = made = weightless = 0
    with (
        writer(output / "votes.parquet", SCHEMA) as good,
        writer(output / "rejects.parquet", readers.REJECTS_SCHEMA) as bad,
    ):
        for batch in readers.read(inputs["files"], settings.role, settings.pairs_per_prompt, mapping):
            if not settings.incomplete_files:
                readers.require_complete(batch.rejects, readers.OR_INCOMPLETE)
            good.write_batch(batch.votes)
            bad.write_table(readers.rejects_table(batch.rejects))
            kinds.update(readers.kinds_of(batch.rejects))
            records += batch.records
            made += batch.votes.num_rows
            weightless += readers.weightless(batch.votes, settings.role)
            runtime.report("read", records, 0, "records")
        names = [str(path) for path in inputs["files"]]
        readers.require_usable(names, records, made, kinds, settings.max_rejected_share, weightless)
    return {
        "records": records,
        "votes": made,
        "rejects": kinds.total(),
        **{f"rejects: {reason}": count for reason, count in kinds.most_common()},
    }


STEP = Step("ingest", VERSION, run, is_prerequisite=True)
