"""Tokens of a forward, and the share of a card's memory that a process may take for them."""

import logging

from tiebreak.errors import TiebreakError

log = logging.getLogger(__name__)

CONTEXT = 0.75 * 2**30
"""Bytes that CUDA and its libraries take in every process, beside what torch allots."""


def less(budget: int, longest: int, setting: str) -> int:
    """Half the budget after one that took too much memory, but the `longest` row at the least.

    setting: its name in the recipe's `compute`. Raises TiebreakError where a row alone took too much.
    """
    if budget <= longest:
        raise TiebreakError(
            f"a forward of one row, of {longest} tokens, takes more memory than this card has; lower max_tokens, or "
            "choose a smaller precision"
        ) from None
    smaller = max(budget // 2, longest)
    log.warning("%d tokens a forward take too much memory; going on with %s %d", budget, setting, smaller)
    return smaller


def too_much(budget: int, setting: str) -> TiebreakError:
    """The error of a budget that cannot be lowered on the way."""
    return TiebreakError(
        f"a forward of {budget} tokens takes more memory than this card has; take fewer tokens: "
        f"--set compute.{setting}={budget // 2}"
    )


def take_share(sharers: int) -> None:
    """Let this process take no more than its part of the current card, beside others that run on it as well."""
    import torch

    if sharers > 1:
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        torch.cuda.set_per_process_memory_fraction(max(0.05, 1 / sharers - CONTEXT / total))
