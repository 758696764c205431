"""Before step 1: read files of votes in any format, set bad rows aside, write one schema."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tiebreak.recipe import Share, Slice
from tiebreak.runtime import Runtime

VERSION = 1


class Settings(Slice):
    role: Literal["votes", "extra", "preferences", "test"]
    max_rejected_share: Share


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    """Write votes.parquet (data.votes.SCHEMA) and rejects.parquet."""
    raise NotImplementedError
