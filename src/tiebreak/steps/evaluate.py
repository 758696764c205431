"""Step 9: metrics with intervals, the report, the submission, the model card."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak.recipe import Evaluate, Slice
from tiebreak.runtime import Runtime

VERSION = 1


class Settings(Slice):
    name: str
    evaluate: Evaluate
    seed: int


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    raise NotImplementedError
