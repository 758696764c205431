"""Step 6: average the students' adapters, merge them into the base in fp32."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak.recipe import Average, Prompt, Slice, Tta
from tiebreak.runtime import Runtime

VERSION = 1


class Settings(Slice):
    average: Average
    prompt: Prompt
    tta: Tta


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    raise NotImplementedError
