"""Step 8: predict lockbox and test rows in both orders."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak.recipe import Slice, Tta
from tiebreak.runtime import Runtime

VERSION = 1


class Settings(Slice):
    tta: Tta


def run(
    settings: Settings, inputs: Mapping[str, tuple[Path, ...]], output: Path, runtime: Runtime
) -> dict[str, Any]:
    raise NotImplementedError
