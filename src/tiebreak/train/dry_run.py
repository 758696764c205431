"""Find what fits a GPU before the first step: tokens of a forward, and how many layers keep their activations.

Two forwards and backwards are measured, one with every layer computed again in the backward and one with a few
layers kept; memory is linear in the tokens and in the layers kept. Of the token budgets that fit, the one with
the least time a token wins: computing a layer again costs half of its forward and backward, and every forward
costs as much as `FIXED_TOKENS` tokens more.
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
    "or a larger card"
)
FIXED_TOKENS = 128
PROBED = 2
SMALLEST_BUDGET = 1024
MARGIN, MARGIN_SPREAD = 0.04, 0.1
"""The share of a card's memory left alone: fragments, and what other libraries take.

More where the weights are spread: layers that come and go leave more fragments, and a try that fails is the last.
"""


@dataclass(frozen=True)
class Memory:
    """Bytes on a card for a training of `layers` layers, at a budget of `tokens`.

    free: what activations may take. bare: what they take at the least, every layer computed again.
    layer: what each layer that keeps its activations takes on top.
    """

    layers: int
    tokens: int
    free: float
    bare: float
    layer: float


def choose(memory: Memory) -> tuple[int, int]:
    """The tokens of a forward and the layers to compute again. Raises TiebreakError if nothing fits."""
    options = [option for option in _options(memory) if option[2] >= 0]
    if not options:
        raise TiebreakError(TOO_SMALL)
    _, tokens, again = min(
        (_time(tokens, again, memory.layers), -tokens, again) for tokens, again, _ in options
    )
    return -tokens, again


def _options(memory: Memory) -> Iterator[tuple[int, int, float]]:
    """(tokens, layers computed again, bytes left) for the budget and its halves."""
    tokens = memory.tokens
    while tokens >= min(SMALLEST_BUDGET, memory.tokens):
        share = tokens / memory.tokens
        kept = min(memory.layers, int((memory.free / share - memory.bare) // memory.layer))
        yield tokens, memory.layers - max(0, kept), kept
        tokens //= 2


def _time(tokens: int, again: int, layers: int) -> float:
    """Relative time a token."""
    return (1 + 0.5 * again / layers) * (1 + FIXED_TOKENS / tokens)


def settle(classifier: Classifier, budget: int, longest: int, resumed: bool = False) -> int:
    """Set how many layers are computed again, and return the tokens of a forward, at most `budget`.

    longest: tokens of the longest row, which must fit whatever the budget is. The adapters' gradients and
    optimizer states are counted in before they exist; resumed: the states do. Raises TiebreakError if nothing
    fits.
    """
    layers = max(1, len(classifier.model.model.layers) - classifier.at_ends)  # such a last one keeps little
    memory = _measure(classifier, layers, _longest(longest, budget), resumed)
    tokens, again = choose(memory)
    tokens, again = int(-distributed.most(-tokens)[0]), int(distributed.most(again)[0])
    while True:
        try:
            _peak(classifier, _longest(longest, tokens), again)
            break
        except torch.cuda.OutOfMemoryError:
            if again == layers:
                raise TiebreakError(TOO_SMALL) from None
            again = min(layers, again + max(1, layers // 10))
    log.info(
        "%d tokens a forward; %d of %d layers are computed again in the backward; %.1f GiB free for them",
        *(tokens, again, layers, memory.free / 2**30),
    )
    return min(tokens, budget)


def _longest(row: int, budget: int) -> int:
    """The tokens of the longest forward: a full one, or the longest row's."""
    return max(shape(budget, budget), shape(row, budget))


def _measure(classifier: Classifier, layers: int, tokens: int, resumed: bool) -> Memory:
    """Bytes that the budget takes, or its largest half that fits with every layer computed again."""
    torch.cuda.empty_cache()
    adapters = sum(p.numel() for p in classifier.trainable().values())
    static = torch.cuda.memory_allocated()
    margin = MARGIN_SPREAD if distributed.shards() else MARGIN
    limit = (torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()) * (1 - margin)
    free = limit - static - (4 if resumed else 12) * adapters  # gradients and two moments in fp32
    while True:
        try:
            bare = _peak(classifier, tokens, layers) - static - 4 * adapters
            break
        except torch.cuda.OutOfMemoryError:
            if tokens <= SMALLEST_BUDGET:
                raise TiebreakError(TOO_SMALL) from None
            tokens //= 2
    kept = min(PROBED, layers)
    try:
        layer = (_peak(classifier, tokens, layers - kept) - static - 4 * adapters - bare) / kept
    except torch.cuda.OutOfMemoryError:
        layer = free  # so much that none is kept
    return Memory(layers, tokens, free, bare, max(layer, 1.0))


def _peak(classifier: Classifier, tokens: int, again: int) -> int:
    """The most bytes in use during a forward and backward of so many tokens."""
    gpu.recompute(classifier.model, again)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    batch = _batch(tokens, classifier.fixed).to(classifier.device)
    try:
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
