"""Step 2: folds stratified by label and grouped by prompt, and a lockbox."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak.recipe import Split, Slice
from tiebreak.runtime import Runtime

VERSION = 1


class Settings(Slice):
    split: Split
    seed: int


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    raise NotImplementedError
