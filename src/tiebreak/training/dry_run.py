"""Memory dry run before the first step: the token budget of a forward and the number of checkpointed layers.

Two forwards and backwards are measured, with one layer keeping its activations and with a few more; memory is linear
in the tokens and in the layers that keep them. The first layer is free: a recomputed layer takes as much memory while
it runs. Of the token budgets that fit, the one with the least time per token is chosen: recomputing a layer costs half
of its forward and backward, and every forward has a fixed cost, given in tokens (`FIXED_TOKENS`). The choice is then
measured itself.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from tiebreak import distributed
from tiebreak.errors import TiebreakError
from tiebreak.model.classifier import Classifier
from tiebreak.model.fast import compile
from tiebreak.tokens.packing import Packed, fixed_length, pack

log = logging.getLogger(__name__)

TOO_SMALL = (
    "the card's memory is too small to train this model even one short row at a time; choose precision fp8 or nf4, "
    "a larger card, or fewer compute.workers on it"
)
FIXED_TOKENS, FIXED_TOKENS_SHARDED = 256, 1600
"""Fixed cost of a forward and its backward, in tokens: kernel launches and padding.

With sharded weights both gather all of them: half a second of a 70B in FP8 on two H100s with NVLink.
"""
PROBE_LAYERS = 2
"""Additional layers that keep activations in the second forward: one alone is small beside the rest."""
SMALLEST_BUDGET = 1024
MARGIN, MARGIN_SHARDED = 0.04, 0.1
"""Share of a card's memory kept free for fragmentation and other libraries.

Larger with sharded weights: gathered layers leave more fragments, and a failed attempt cannot be repeated.
"""


@dataclass(frozen=True)
class MemoryProfile:
    """Memory of a training of `layers` layers on a card, in bytes, at a budget of `tokens`.

    free: available for activations. base: activations apart from the layers that keep theirs.
    per_layer: activations of each layer that keeps them. fixed_tokens: the fixed cost of a forward, in tokens.
    """

    layers: int
    tokens: int
    free: float
    base: float
    per_layer: float
    fixed_tokens: int = FIXED_TOKENS


def choose_budget(memory: MemoryProfile) -> tuple[int, int]:
    """The tokens of a forward and the number of layers to recompute. Raises TiebreakError if nothing fits."""
    options = [(tokens, kept) for tokens, kept in _options(memory) if kept >= 1]
    if not options:
        raise TiebreakError(TOO_SMALL)
    _, tokens, recomputed = min(
        (_time(memory, tokens, memory.layers - kept), -tokens, memory.layers - kept)
        for tokens, kept in options
    )
    return -tokens, recomputed


def _options(memory: MemoryProfile) -> Iterator[tuple[int, int]]:
    """(tokens, layers that can keep their activations) for the budget and its halves."""
    tokens = memory.tokens
    while tokens >= min(SMALLEST_BUDGET, memory.tokens):
        share = tokens / memory.tokens
        yield tokens, min(memory.layers, int((memory.free / share - memory.base) // memory.per_layer))
        tokens //= 2


def _time(memory: MemoryProfile, tokens: int, recomputed: int) -> float:
    """Relative time per token."""
    return 1 + 0.5 * recomputed / memory.layers + memory.fixed_tokens / tokens


def fit_to_memory(classifier: Classifier, budget: int, longest: int, resumed: bool = False) -> int:
    """Set the number of recomputed layers, and return the tokens of a forward, at most `budget`.

    longest: tokens of the longest row, which must fit whatever the budget is. resumed: the optimizer's states exist
    already; otherwise their memory is reserved. Raises TiebreakError if nothing fits.
    """
    layers = max(
        1, len(classifier.model.model.layers) - classifier.skips_last_layer
    )  # a last layer skipped so keeps little
    torch.cuda.empty_cache()
    limit = _memory_limit() - (0 if resumed else 8 * _trainable_parameters(classifier))  # two moments in fp32
    if classifier.is_graphed(budget):  # graphs keep memory of their own beside that of other forwards
        limit -= (limit - torch.cuda.memory_allocated()) / 2
    memory = _measure(classifier, layers, _longest_forward(longest, budget), limit)
    tokens, recomputed = choose_budget(memory)
    tokens, recomputed = (
        int(-distributed.all_reduce_max(-tokens)[0]),
        int(distributed.all_reduce_max(recomputed)[0]),
    )
    while distributed.all_reduce_max(
        not _fits(classifier, _longest_forward(longest, tokens), recomputed, limit)
    )[0]:
        if recomputed == layers - 1:
            raise TiebreakError(TOO_SMALL)
        recomputed = min(layers - 1, recomputed + max(1, layers // 10))
    log.info(
        "%d tokens a forward; %d of %d layers are computed again in the backward; %.1f GiB free for them",
        *(tokens, recomputed, layers, memory.free / 2**30),
    )
    return min(tokens, budget)


def _longest_forward(row: int, budget: int) -> int:
    """The tokens of the longest forward: a full one, or the longest row's."""
    return max(fixed_length(budget, budget), fixed_length(row, budget))


def _memory_limit() -> float:
    """Bytes that this process may take of the card."""
    margin = MARGIN_SHARDED if distributed.is_sharded() else MARGIN
    free, total = torch.cuda.mem_get_info()
    share = (
        total * torch.cuda.get_per_process_memory_fraction()
    )  # other workers may be about to take the rest
    return min(free + torch.cuda.memory_reserved(), share) * (1 - margin)


def _trainable_parameters(classifier: Classifier) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in classifier.trainable().values())


def _measure(classifier: Classifier, layers: int, tokens: int, limit: float) -> MemoryProfile:
    """Memory of the budget, or of its largest half that fits with every layer but one recomputed."""
    static = torch.cuda.memory_allocated() + 4 * _trainable_parameters(classifier)  # with gradients
    while True:
        try:
            one = _peak(classifier, tokens, layers - 1) - static
            break
        except torch.cuda.OutOfMemoryError:
            if tokens <= SMALLEST_BUDGET:
                raise TiebreakError(TOO_SMALL) from None
            tokens //= 2
    more = min(PROBE_LAYERS, layers - 1)
    try:
        layer = (_peak(classifier, tokens, layers - 1 - more) - static - one) / more if more else one
    except torch.cuda.OutOfMemoryError:
        layer = one  # more than that: no other layer keeps its activations
    layer = max(layer, 1.0)
    fixed = FIXED_TOKENS_SHARDED if distributed.is_sharded() else FIXED_TOKENS
    return MemoryProfile(layers, tokens, limit - static, one - layer, layer, fixed)


def _fits(classifier: Classifier, tokens: int, recomputed: int, limit: float) -> bool:
    try:
        return _peak(classifier, tokens, recomputed) <= limit
    except torch.cuda.OutOfMemoryError:
        return False


def _peak(classifier: Classifier, tokens: int, recomputed: int) -> int:
    """Peak bytes during a forward and backward of so many tokens, with gradients allocated."""
    compile.recompute(classifier.model, recomputed)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        for p in classifier.trainable().values():
            p.grad = torch.zeros_like(p)
        batch = _batch(tokens, classifier.fixed).to(classifier.device)
        classifier.logits(batch).sum().backward()  # type: ignore[no-untyped-call]
    except torch.cuda.OutOfMemoryError:
        if not distributed.is_sharded():
            raise
        # the other processes wait within this forward: a second attempt would be out of step
        raise TiebreakError(
            f"a forward of {tokens} tokens takes more memory than this card has; the weights are spread over "
            f"several, so take fewer tokens: --set compute.train_tokens={tokens // 2}"
        ) from None
    finally:
        classifier.model.zero_grad(set_to_none=True)
    return torch.cuda.max_memory_allocated()


def _batch(tokens: int, fixed: bool) -> Packed:
    """A batch of so many tokens in rows of typical length."""
    cuts = range(1024, tokens, 1024)
    rows = [np.full(len(part), n + 1, np.int32) for n, part in enumerate(np.split(np.empty(tokens), cuts))]
    return pack(rows, tokens if fixed else None)
