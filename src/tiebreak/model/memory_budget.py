"""Memory limits: smaller token budgets after out-of-memory errors, and a process's share of a card's memory."""

import logging

from tiebreak.errors import TiebreakError

log = logging.getLogger(__name__)

CONTEXT = 0.75 * 2**30
"""Bytes that CUDA and its libraries take in every process, besides torch's allocations."""


def halve_budget(budget: int, longest: int, setting: str) -> int:
    """Half the token budget after an out-of-memory error, but at least the `longest` row.

    setting: its name in the recipe's `compute`. Raises TiebreakError if one row alone ran out of memory.
    """
    if budget <= longest:
        raise TiebreakError(
            f"a forward of one row, of {longest} tokens, takes more memory than this card has; lower max_tokens, or "
            "choose a smaller precision"
        ) from None
    smaller = max(budget // 2, longest)
    log.warning("%d tokens a forward take too much memory; going on with %s %d", budget, setting, smaller)
    return smaller


def out_of_memory_error(budget: int, setting: str) -> TiebreakError:
    """The error for a token budget that cannot be lowered during the run."""
    return TiebreakError(
        f"a forward of {budget} tokens takes more memory than this card has; take fewer tokens: "
        f"--set compute.{setting}={budget // 2}"
    )


def limit_memory_share(sharers: int) -> None:
    """Limit this process to its share of the current card's memory, beside other processes on it."""
    import torch

    if sharers > 1:
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        torch.cuda.set_per_process_memory_fraction(max(0.05, 1 / sharers - CONTEXT / total))
