"""Step 4: one teacher scores its fold's rows in both orders; raw logits keyed by row and order."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak.recipe import Prompt, Slice
from tiebreak.runtime import Runtime

VERSION = 1


class Settings(Slice):
    teacher: str
    fold: int
    shard: int
    shards: int
    subset_rows: int | tuple[int, int]
    max_tokens: int
    precision: str
    prompt: Prompt
    seed: int


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    raise NotImplementedError
