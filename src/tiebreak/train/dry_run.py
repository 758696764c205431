"""Find what fits a GPU before the first step: tokens of a forward, and how many layers keep their activations.

Two forwards and backwards are measured, with one layer kept and with a few more; memory is linear in the tokens
and in the layers kept. One costs nothing to keep: a layer that is computed again takes as much while it is. Of the
token budgets that fit, the one with the least time a token wins: computing a layer again costs half of its forward
and backward, and every forward costs as much as some tokens more (`FIXED_TOKENS`). What wins is measured too.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from tiebreak import distributed
from tiebreak.data.packing import Packed, pack, shape
from tiebreak.errors import TiebreakError
from tiebreak.model import gpu
from tiebreak.model.classifier import Classifier

log = logging.getLogger(__name__)

TOO_SMALL = (
    "the card's memory is too small to train this model even one short row at a time; choose precision fp8 or nf4, "
    "a larger card, or fewer compute.workers on it"
)
FIXED_TOKENS, FIXED_TOKENS_SPREAD = 256, 1600
"""What a forward and its backward cost beside their tokens: launches, and tokens that fill it up.

Where the weights are spread they gather them all, twice: half a second of a 70B in FP8 on two H100s with NVLink.
"""
PROBED = 2
"""Layers more in the second forward than in the first: what one takes is small beside what all else does."""
SMALLEST_BUDGET = 1024
MARGIN, MARGIN_SPREAD = 0.04, 0.1
"""The share of a card's memory left alone: fragments, and what other libraries take.

More where the weights are spread: layers that come and go leave more fragments, and a try that fails is the last.
"""


@dataclass(frozen=True)
class Memory:
    """Bytes on a card for a training of `layers` layers, at a budget of `tokens`.

    free: what activations may take. bare: what they take beside the layers that are kept.
    layer: what each layer that keeps its activations takes. fixed: the cost of a forward, in tokens.
    """

    layers: int
    tokens: int
    free: float
    bare: float
    layer: float
    fixed: int = FIXED_TOKENS


def choose(memory: Memory) -> tuple[int, int]:
    """The tokens of a forward and the layers to compute again. Raises TiebreakError if nothing fits."""
    options = [(tokens, kept) for tokens, kept in _options(memory) if kept >= 1]
    if not options:
        raise TiebreakError(TOO_SMALL)
    _, tokens, again = min(
        (_time(memory, tokens, memory.layers - kept), -tokens, memory.layers - kept)
        for tokens, kept in options
    )
    return -tokens, again


def _options(memory: Memory) -> Iterator[tuple[int, int]]:
    """(tokens, the layers that fit then) for the budget and its halves."""
    tokens = memory.tokens
    while tokens >= min(SMALLEST_BUDGET, memory.tokens):
        share = tokens / memory.tokens
        yield tokens, min(memory.layers, int((memory.free / share - memory.bare) // memory.layer))
        tokens //= 2


def _time(memory: Memory, tokens: int, again: int) -> float:
    """Relative time a token."""
    return 1 + 0.5 * again / memory.layers + memory.fixed / tokens


def settle(classifier: Classifier, budget: int, longest: int, resumed: bool = False) -> int:
    """Set how many layers are computed again, and return the tokens of a forward, at most `budget`.

    longest: tokens of the longest row, which must fit whatever the budget is. The optimizer's states are counted
    in before they exist; resumed: they do. Raises TiebreakError if nothing fits.
    """
    layers = max(1, len(classifier.model.model.layers) - classifier.at_ends)  # such a last one keeps little
    torch.cuda.empty_cache()
    limit = _limit() - (0 if resumed else 8 * _adapters(classifier))  # two moments in fp32
    memory = _measure(classifier, layers, _longest(longest, budget), limit)
    tokens, again = choose(memory)
    tokens, again = int(-distributed.most(-tokens)[0]), int(distributed.most(again)[0])
    while distributed.most(not _fits(classifier, _longest(longest, tokens), again, limit))[0]:
        if again == layers - 1:
            raise TiebreakError(TOO_SMALL)
        again = min(layers - 1, again + max(1, layers // 10))
    log.info(
        "%d tokens a forward; %d of %d layers are computed again in the backward; %.1f GiB free for them",
        *(tokens, again, layers, memory.free / 2**30),
    )
    return min(tokens, budget)


def _longest(row: int, budget: int) -> int:
    """The tokens of the longest forward: a full one, or the longest row's."""
    return max(shape(budget, budget), shape(row, budget))


def _limit() -> float:
    """Bytes that this process may take of the card."""
    margin = MARGIN_SPREAD if distributed.shards() else MARGIN
    free, total = torch.cuda.mem_get_info()
    share = total * torch.cuda.get_per_process_memory_fraction()  # others may be about to take the rest
    return min(free + torch.cuda.memory_reserved(), share) * (1 - margin)


def _adapters(classifier: Classifier) -> int:
    """Numbers that learn."""
    return sum(p.numel() for p in classifier.trainable().values())


def _measure(classifier: Classifier, layers: int, tokens: int, limit: float) -> Memory:
    """Bytes that the budget takes, or its largest half that fits with every layer but one computed again."""
    static = torch.cuda.memory_allocated() + 4 * _adapters(classifier)  # with gradients
    while True:
        try:
            one = _peak(classifier, tokens, layers - 1) - static
            break
        except torch.cuda.OutOfMemoryError:
            if tokens <= SMALLEST_BUDGET:
                raise TiebreakError(TOO_SMALL) from None
            tokens //= 2
    more = min(PROBED, layers - 1)
    try:
        layer = (_peak(classifier, tokens, layers - 1 - more) - static - one) / more if more else one
    except torch.cuda.OutOfMemoryError:
        layer = one  # more than that: nothing else is kept
    layer = max(layer, 1.0)
    fixed = FIXED_TOKENS_SPREAD if distributed.shards() else FIXED_TOKENS
    return Memory(layers, tokens, limit - static, one - layer, layer, fixed)


def _fits(classifier: Classifier, tokens: int, again: int, limit: float) -> bool:
    try:
        return _peak(classifier, tokens, again) <= limit
    except torch.cuda.OutOfMemoryError:
        return False


def _peak(classifier: Classifier, tokens: int, again: int) -> int:
    """The most bytes in use during a forward and backward of so many tokens, not the first of its step."""
    gpu.recompute(classifier.model, again)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        for p in classifier.trainable().values():
            p.grad = torch.zeros_like(p)
        batch = _batch(tokens, classifier.fixed).to(classifier.device)
        classifier.logits(batch).sum().backward()  # type: ignore[no-untyped-call]
    except torch.cuda.OutOfMemoryError:
        if not distributed.shards():
            raise
        # the other processes wait for this one in the middle of a forward: a second try would not meet them
        raise TiebreakError(
            f"a forward of {tokens} tokens takes more memory than this card has; the weights are spread over "
            f"several, so take fewer tokens: --set compute.train_tokens={tokens // 2}"
        ) from None
    finally:
        classifier.model.zero_grad(set_to_none=True)
    return torch.cuda.max_memory_allocated()


def _batch(tokens: int, fixed: bool) -> Packed:
    """Rows of a usual length that make up so many tokens."""
    cuts = range(1024, tokens, 1024)
    rows = [np.full(len(part), n + 1, np.int32) for n, part in enumerate(np.split(np.empty(tokens), cuts))]
    return pack(rows, tokens if fixed else None)
