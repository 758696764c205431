"""Rows of different lengths in one row of tokens, without padding: documents lie end to end.

Dimension letters: T tokens of the packed row, D documents, L length of the longest document of a group.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Where documents lie in a packed row; what attention needs to keep them apart.

    groups: documents of similar length, each group as (index_DL, valid_DL): the positions of the documents'
    tokens, right-padded with position 0, and which of them are real.
    """

    lengths: tuple[int, ...]
    groups: tuple[tuple[Tensor, Tensor], ...]


@dataclass(frozen=True)
class Packed:
    """One forward: documents end to end. positions_T restart at 0; ends_D point at each last token."""

    ids_T: Tensor
    positions_T: Tensor
    ends_D: Tensor
    layout: Layout

    def to(self, device: str) -> "Packed":
        groups = tuple((index.to(device), valid.to(device)) for index, valid in self.layout.groups)
        return Packed(
            self.ids_T.to(device),
            self.positions_T.to(device),
            self.ends_D.to(device),
            Layout(self.layout.lengths, groups),
        )


def pack(documents: Sequence[NDArray[np.int32]]) -> Packed:
    """Lay token arrays end to end."""
    lengths = np.array([len(d) for d in documents])
    ends = np.cumsum(lengths)
    starts = ends - lengths
    return Packed(
        ids_T=torch.from_numpy(np.concatenate(documents).astype(np.int64)),
        positions_T=torch.from_numpy(np.arange(ends[-1]) - np.repeat(starts, lengths)),
        ends_D=torch.from_numpy(ends - 1),
        layout=Layout(tuple(lengths.tolist()), tuple(_groups(starts, lengths))),
    )


def _groups(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor]]:
    """Documents in classes of length that differ by less than a quarter, so that little is padded."""
    classes = np.ceil(np.log(lengths) / np.log(1.25)).astype(int)
    for value in np.unique(classes):
        members = np.flatnonzero(classes == value)
        offsets_L = np.arange(lengths[members].max())
        valid_DL = offsets_L < lengths[members, None]
        index_DL = np.where(valid_DL, starts[members, None] + offsets_L, 0)
        yield torch.from_numpy(index_DL), torch.from_numpy(valid_DL)


def by_budget(lengths: Sequence[int], budget: int) -> Iterator[range]:
    """Cut a sequence of documents into runs of at most `budget` tokens; a longer document runs alone."""
    start, tokens = 0, 0
    for n, length in enumerate(lengths):
        if tokens + length > budget and n > start:
            yield range(start, n)
            start, tokens = n, 0
        tokens += length
    if start < len(lengths):
        yield range(start, len(lengths))
