"""Sequence packing: documents of different lengths in one row of tokens, without padding.

Adjacent documents with a common prefix, such as the two orders of a vote with its prompt, share it: the second
stores the rest only and attends to the first one's prefix. A causal model computes the same for both.

Dimension letters: T tokens of the packed row, D documents, L length of the longest document of a group, P padded tokens
of all groups, N tiles.
"""

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Document = NDArray[np.int32]

TILE = 128
"""Tokens in a tile of the attention kernel, all of them a document's own."""
PARTS = 16
"""Parts of the budget that a forward is padded to a multiple of, so that there are few lengths."""
MANY_FORWARDS = 8
"""The number of forwards from which on all but the last are packed full; fewer are balanced."""
MIN_SHARED = 8
"""The length of the shortest prefix that is shared; a shorter one is computed twice."""


@dataclass(frozen=True)
class Span:
    """The position of a document in the row: tokens shared with the one before it, if any, then its own."""

    shared_start: int
    shared_stop: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.shared_stop - self.shared_start + self.stop - self.start


@dataclass(frozen=True)
class Layout:
    """The document layout for portable attention: documents of similar length form a group.

    shapes: the number of documents of each group and the length of its longest. index_P: the positions of all groups'
    tokens, document by document, right-padded with position 0. place_T: the place of each token of the row in index_P.
    ends_D, length_D: the last position and the length of each document, in the order of the groups.
    """

    shapes: tuple[tuple[int, int], ...]
    index_P: Tensor
    place_T: Tensor
    ends_D: Tensor
    length_D: Tensor


@dataclass(frozen=True)
class Tiles:
    """The tiles of the attention kernel (model.fast.flash_attention), those with most work first.

    queries_N5: first token, end of the document, start of its own tokens, start and end of the shared ones.
    keys_N5: first token, end of the document, start and end of the document that shares its prefix, and
    the end of that prefix. Unused rows are zero.
    """

    queries_N5: Tensor
    keys_N5: Tensor


@dataclass(frozen=True)
class Packed:
    """The inputs of one forward: packed documents. positions_T restart at 0; ends_D are the indices of last tokens.

    Padded for the kernel, ends_D has more rows than there are documents; the others hold 0.
    """

    ids_T: Tensor
    positions_T: Tensor
    ends_D: Tensor
    spans: tuple[Span, ...]
    layout: Layout | Tiles

    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors of a row that is packed for the kernel; `of_tensors` is their inverse but for the spans."""
        assert isinstance(self.layout, Tiles)
        return self.ids_T, self.positions_T, self.ends_D, self.layout.queries_N5, self.layout.keys_N5

    @staticmethod
    def of_tensors(
        ids_T: Tensor, positions_T: Tensor, ends_D: Tensor, queries_N5: Tensor, keys_N5: Tensor
    ) -> "Packed":
        return Packed(ids_T, positions_T, ends_D, (), Tiles(queries_N5, keys_N5))

    def to(self, device: str) -> "Packed":
        """A copy on a device; from page-locked memory it is asynchronous."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> "Packed":
        return self._map(Tensor.pin_memory)

    def documents(self) -> Iterator[Tensor]:
        """The tokens of each document, shared ones included."""
        for span in self.spans:
            yield torch.cat(
                [self.ids_T[span.shared_start : span.shared_stop], self.ids_T[span.start : span.stop]]
            )

    def _map(self, move: Callable[[Tensor], Tensor]) -> "Packed":
        layout = self.layout
        if isinstance(layout, Tiles):
            layout = Tiles(move(layout.queries_N5), move(layout.keys_N5))
        else:
            tensors = (layout.index_P, layout.place_T, layout.ends_D, layout.length_D)
            layout = Layout(layout.shapes, *map(move, tensors))
        return Packed(move(self.ids_T), move(self.positions_T), move(self.ends_D), self.spans, layout)


def pack(documents: Sequence[Document], tokens: int | None = None, unshared: Collection[int] = ()) -> Packed:
    """Pack documents for portable attention, or, given `tokens`, padded to that length for the kernel.

    unshared: indices of documents that share no prefix with the one before.
    """
    spans = tuple(_spans(documents, unshared))
    own = [
        document[len(span) - (span.stop - span.start) :]
        for document, span in zip(documents, spans, strict=True)
    ]
    end = spans[-1].stop
    padding = (
        [] if tokens is None else [Span(s, s, s, min(s + TILE, tokens)) for s in range(end, tokens, TILE)]
    )
    padded = [*spans, *padding]
    positions = [np.arange(len(span) - (span.stop - span.start), len(span)) for span in padded]
    own += [np.zeros(len(span), np.int32) for span in padding]
    return Packed(
        ids_T=torch.from_numpy(np.concatenate(own).astype(np.int64)),
        positions_T=torch.from_numpy(np.concatenate(positions)),
        ends_D=_ends(spans, tokens),
        spans=spans,
        layout=_layout(spans) if tokens is None else _tiles(padded, tokens),
    )


def _ends(spans: Sequence[Span], tokens: int | None) -> Tensor:
    ends = [span.stop - 1 for span in spans]
    if tokens is not None:  # one shape unless documents are tiny
        ends += [0] * (max(-(-tokens // 1024) * 16, 1 << (len(ends) - 1).bit_length()) - len(ends))
    return torch.tensor(ends)


def batches(documents: Sequence[Document], budget: int, fixed: bool) -> Iterator[tuple[list[int], Packed]]:
    """Pack documents into forwards of at most `budget` tokens, each with the indices of its documents.

    fixed: for the attention kernel, in few shapes, so that little is compiled; otherwise longest first, so
    that documents of similar length are batched. A document longer than the budget gets a forward of its own.
    Prefixes are shared within units only: sharing across units could shorten the prefix that a pair shares.
    """
    by_length = sorted(range(len(documents)), key=lambda n: -len(documents[n]))
    units = list(_units(by_length, documents, budget))
    costs = [sum(cost for _, cost in unit) for unit in units]
    for run in _bins(costs, budget) if fixed else by_budget(costs, budget):
        members = [n for unit in run for n, _ in units[unit]]
        tokens = fixed_length(sum(costs[unit] for unit in run), budget) if fixed else None
        unshared = set(accumulate(len(units[unit]) for unit in run))
        yield members, pack([documents[n] for n in members], tokens, unshared)


def fixed_length(tokens: int, budget: int) -> int:
    """The padded length of a forward: a multiple of a sixteenth of the budget, or a power of two above the budget."""
    part = -(-budget // (PARTS * TILE)) * TILE
    return -(-tokens // part) * part if tokens <= budget else 1 << (tokens - 1).bit_length()


def by_budget(lengths: Sequence[int], budget: int) -> Iterator[range]:
    """Split a sequence of documents into runs of at most `budget` tokens; a longer document is a run of its own."""
    start, tokens = 0, 0
    for n, length in enumerate(lengths):
        if tokens + length > budget and n > start:
            yield range(start, n)
            start, tokens = n, 0
        tokens += length
    if start < len(lengths):
        yield range(start, len(lengths))


def _bins(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Bins of documents: a few of about equal load, or many that are full, so that little is padded, in few shapes."""
    return (_best_fit if sum(lengths) > MANY_FORWARDS * budget else _balanced)(lengths, budget)


def _best_fit(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Bins by best fit decreasing (Johnson 1973): each document, longest first, goes where it leaves the least room."""
    bins: list[list[int]] = []
    rooms: list[tuple[int, int]] = []
    for n in sorted(range(len(lengths)), key=lambda n: -lengths[n]):
        tightest = bisect_left(rooms, (lengths[n], 0))
        if tightest < len(rooms):
            room, b = rooms.pop(tightest)
        else:
            room, b = max(budget, lengths[n]), len(bins)
            bins.append([])
        bins[b].append(n)
        insort(rooms, (room - lengths[n], b))
    return bins


def _balanced(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Few bins of about equal load, at most `budget`, by the longest-first rule (Graham 1969)."""
    small = sorted((n for n, length in enumerate(lengths) if length <= budget), key=lambda n: -lengths[n])
    alone = [[n] for n, length in enumerate(lengths) if length > budget]
    count = -(-sum(lengths[n] for n in small) // budget)
    while small:
        bins: list[list[int]] = [[] for _ in range(count)]
        loads = [(0, b) for b in range(count)]
        for n in small:
            load, b = heapq.heappop(loads)
            bins[b].append(n)
            heapq.heappush(loads, (load + lengths[n], b))
        if max(loads)[0] <= budget:
            return bins + alone
        count += 1
    return alone


def _units(
    order: Sequence[int], documents: Sequence[Document], budget: int
) -> Iterator[list[tuple[int, int]]]:
    """Units of one document, or of two that share a prefix and fit the budget, as (index, own tokens)."""
    units: list[list[tuple[int, int]]] = []
    for n in order:
        shared = 0
        if units and len(units[-1]) == 1:
            shared = _shared_prefix(documents[units[-1][0][0]], documents[n])
        if shared:
            units[-1].append((n, len(documents[n]) - shared))
        else:
            units.append([(n, len(documents[n]))])
    for unit in units:
        if sum(own for _, own in unit) <= budget:
            yield unit
        else:
            yield from ([(n, len(documents[n]))] for n, _ in unit)


def _spans(documents: Sequence[Document], unshared: Collection[int]) -> Iterator[Span]:
    """The spans of packed documents; a document that shares a prefix stores its own tokens only."""
    span = Span(0, 0, 0, 0)
    for n, document in enumerate(documents):
        shares = n > 0 and n not in unshared and span.shared_stop == span.shared_start
        shared = _shared_prefix(documents[n - 1], document) if shares else 0
        begin, start = span.start if shared else span.stop, span.stop
        span = Span(begin, begin + shared, start, start + len(document) - shared)
        yield span


def _shared_prefix(one: Document, other: Document) -> int:
    """The length of the prefix that two documents share, without their last tokens; 0 below MIN_SHARED."""
    length = min(len(one), len(other)) - 1
    different = np.flatnonzero(one[:length] != other[:length])
    common = int(different[0]) if len(different) else length
    return common if common >= MIN_SHARED else 0


def _layout(spans: Sequence[Span]) -> Layout:
    """The layout of documents in classes of length that differ by less than a quarter, so that little is padded."""
    shared_start, shared_stop, start = np.array([(s.shared_start, s.shared_stop, s.start) for s in spans]).T
    lengths, shared = np.array([len(span) for span in spans]), shared_stop - shared_start
    classes = np.ceil(np.log(lengths) / np.log(1.25)).astype(int)
    order_D = np.argsort(classes, kind="stable")
    shapes, index, own = [], [], []
    for value in np.unique(classes):
        members = np.flatnonzero(classes == value)
        offsets_L = np.arange(lengths[members].max())
        is_own_DL = offsets_L >= shared[members, None]
        base_DL = np.where(is_own_DL, (start - shared)[members, None], shared_start[members, None])
        inside_DL = offsets_L < lengths[members, None]
        shapes.append(inside_DL.shape)
        index.append(np.where(inside_DL, base_DL + offsets_L, 0).ravel())
        own.append((inside_DL & is_own_DL).ravel())
    index_P, own_P = np.concatenate(index), np.flatnonzero(np.concatenate(own))
    place_T = own_P[np.argsort(index_P[own_P])]
    ends_D = (start - shared + lengths - 1)[order_D]
    return Layout(tuple(shapes), *map(torch.from_numpy, (index_P, place_T, ends_D, lengths[order_D])))


def _tiles(spans: Sequence[Span], tokens: int) -> Tiles:
    sharer_of = {
        before.start: after for before, after in pairwise(spans) if after.shared_stop > after.shared_start
    }
    queries, keys = [], []
    for span in spans:
        sharer = sharer_of.get(span.start)
        extra = (sharer.start, sharer.stop, sharer.shared_stop) if sharer else (0, 0, 0)
        for first in range(span.start, span.stop, TILE):
            queries.append((first, span.stop, span.start, span.shared_start, span.shared_stop))
            keys.append((first, span.stop, *extra))
    queries.sort(key=lambda t: t[2] - t[0] - (t[4] - t[3]))
    keys.sort(key=lambda t: t[0] - t[1] - (t[3] - t[2]))
    rows = max(tokens // 32, 1 << (len(queries) - 1).bit_length())  # one shape unless documents are tiny
    return Tiles(_table(queries, rows), _table(keys, rows))


def _table(tiles: Sequence[tuple[int, ...]], rows: int) -> Tensor:
    table = np.zeros((rows, 5), np.int32)
    table[: len(tiles)] = tiles
    return torch.from_numpy(table)
