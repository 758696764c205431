"""Whether what ships is worth more than a simple model of the same votes."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tiebreak.evaluate.ladder import Rung, Truth
from tiebreak.evaluate.metrics import Bootstrap, Estimate, difference

STAGE = "baseline"


def from_baseline(ladder: Sequence[Rung], truth: Truth, bootstrap: Bootstrap) -> dict[str, Any] | None:
    """The paired change in log loss of the last rung from the baseline's last, and a sentence; None without one."""
    baselines = [rung for rung in ladder if rung.stage == STAGE]
    if not baselines:
        return None
    shipped, simple = ladder[-1].predictions, baselines[-1].predictions
    change = difference(shipped, simple, truth.y_NC, bootstrap, truth.groups_N)
    return {"change": asdict(change), "sentence": sentence(change)}


def sentence(change: Estimate) -> str:
    """What a change in log loss from the baseline means; better or worse only where the whole interval is."""
    if change.high < 0:
        gain = f"{-change.value:.3f} ({-change.high:.3f} to {-change.low:.3f})"
        return f"The shipped judge is better than a model of word counts by {gain}."
    if change.low > 0:
        loss = f"{change.value:.3f} ({change.low:.3f} to {change.high:.3f})"
        return f"The shipped judge is worse than a model of word counts by {loss}; use that model, or more votes."
    range_ = f"{change.low:+.3f} to {change.high:+.3f}"
    return (
        f"The shipped judge is not better than a model of word counts (change in log loss {range_}); "
        "use that model, which takes seconds, or more votes."
    )
