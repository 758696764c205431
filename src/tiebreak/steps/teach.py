"""Step 3: train one teacher on the training side of one fold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak.recipe import Lora, Prompt, Slice, Training
from tiebreak.runtime import Runtime

VERSION = 1


class Settings(Slice):
    fold: int
    precision: str
    lora: Lora
    prompt: Prompt
    subset_rows: int
    training: Training
    seed: int


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    raise NotImplementedError
