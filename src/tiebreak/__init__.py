"""Learn from votes which of two answers people prefer: calibrated P(A), P(B), P(tie)."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiebreak.judge.judge import Judge

__version__ = "0.1.0"
__all__ = ["load"]


def load(
    folder: str | Path, device: str | None = None, score_tokens: int = 16384, precision: str = "auto"
) -> "Judge":
    """Load a model folder that `tiebreak run` made; `load(folder).predict(pairs)` gives an array (n, 3).

    device: "cpu" or "cuda"; the GPU where there is one by default. score_tokens: tokens of one forward.
    precision: fp32, bf16, fp16, or fp8, faster on cards that compute it; auto chooses one of the first three.
    Raises TiebreakError if the folder is missing, no such model or damaged, by the hashes that it records, or the
    device is not here.
    """
    from tiebreak.judge.judge import load_judge

    return load_judge(Path(folder), device, score_tokens, precision)
