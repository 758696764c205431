"""Step 5: train one fold's student on labels and teachers, then fit its temperature."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak.recipe import Distill, Lora, Prompt, Slice
from tiebreak.runtime import Runtime

VERSION = 1


class Settings(Slice):
    fold: int
    precision: str
    lora: Lora
    prompt: Prompt
    soft_labels: str
    distill: Distill
    seed: int


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    raise NotImplementedError
