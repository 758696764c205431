"""Learn from votes which of two answers people prefer: calibrated P(A), P(B), P(tie)."""

from pathlib import Path
from typing import TYPE_CHECKING

from tiebreak.arguments import checked

if TYPE_CHECKING:
    from tiebreak.judge.judge import Judge

__version__ = "0.1.0"
__all__ = ["load"]


@checked
def load(
    folder: str | Path,
    device: str | None = None,
    score_tokens: int = 16384,
    precision: str = "auto",
    revision: str | None = None,
) -> "Judge":
    """Load a model folder that `tiebreak run` made, or a model of the Hugging Face hub by its name, OWNER/NAME;
    `load(folder).predict(pairs)` gives an array (n, 3).

    revision: branch, tag or commit of a model of the hub; its commit is in `judge.package.provenance`. A folder that is
    here comes before a model of the hub.

    device: "cpu" or "cuda"; the GPU where there is one by default. score_tokens: tokens of one forward.
    precision: fp32, bf16, fp16, or fp8, faster on cards that compute it; auto chooses one of the first three.
    Raises TiebreakError if the folder is missing, no such model or damaged, by the hashes that it records, the model of
    the hub is not to be had, or the device is not here.
    """
    from tiebreak.judge.judge import load_judge
    from tiebreak.judge.location import locate

    found = locate(folder, revision)
    judge = load_judge(found.folder, device, score_tokens, precision)
    judge.package = found.recorded(judge.package)
    return judge
