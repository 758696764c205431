"""Step 7: GPTQ, 8 bits; the score head is left alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak.recipe import Prompt, Quantize, Slice
from tiebreak.runtime import Runtime

VERSION = 1


class Settings(Slice):
    quantize: Quantize
    prompt: Prompt
    seed: int


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    raise NotImplementedError
