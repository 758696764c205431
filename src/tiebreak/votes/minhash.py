"""MinHash search for pairs of similar texts among up to a million.

Similarity is the Jaccard index of the sets of 5-character shingles. One-permutation MinHash (Li, Owen and
Zhang 2012, arXiv:1208.1259) hashes each shingle once and keeps the least hash of each bin; empty bins borrow
from others in an order that is the same for all texts (optimal densification, Shrivastava 2017,
arXiv:1703.04664). Locality-sensitive hashing over bands of bins proposes pairs, and each proposed pair is
then verified on its shingles, so there are no false positives. Recall depends on the bands: a pair at
similarity s agrees in one with a probability of 1 - (1 - s^6)^21, 0.998 at s = 0.8. The estimate before the
verification misses as many again, which leaves a recall of 0.996 for such pairs. Long texts, whose shingles take
long to compare, are estimated a second time from finer bins, which miss one pair in a million.

Not all pairs of a bucket of more than ten texts are proposed. Its texts are hashed again into buckets of single
bins, which finds most pairs: of those at 0.83 to 0.85 among 3,000 texts that share 500 of 580 characters, all 400
where the rest is random letters, 0.95 to 0.98 where it is English words; among 8,000 texts at 0.83, 0.995 and 0.88.

Dimension letters: D texts, C some of them, S shingles (of all texts), K bins, P pairs.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

SHINGLE = 5
LONGEST = 1 << 20
"""Characters of a text that are compared; the rest is ignored."""

_BIN_BITS = 7
_BINS = 1 << _BIN_BITS
_BAND = 6
_NEIGHBOURS = 8
_EMPTY = np.uint32(0xFFFFFFFF)
_CHUNK_CHARS = 1 << 20
_COMPARED_BINS = 1 << 23
_PENDING_PAIRS = 1 << 22  # 32 MiB of candidates, sorted together: sorting is most of the search
_KEPT_SHINGLES = 1 << 24  # 128 MiB
_SLACK = 0.09  # 2.5 standard deviations of the estimate from 128 bins, near 0.8
_LONG = 1 << 11
"""Characters from which a text has a fine sketch. In bytes it is no longer than such a text."""
_FINE_BITS = 11
_FINE_SLACK = 0.045  # 5 standard deviations of the estimate from 2,048 bins, near 0.8

Ints = NDArray[np.int64]
Sketches = NDArray[np.uint32]
Hashes = NDArray[np.uint64]
Number = TypeVar("Number", np.int64, np.uint64)


def similar_pairs(texts: Sequence[str], sketch_DK: Sketches, threshold: float) -> Ints:
    """Pairs (P, 2) of different texts, the earlier one first, whose similarity is at least `threshold`."""
    candidates = _candidate_pairs(sketch_DK)
    estimate = _estimates(sketch_DK, candidates)
    likely = candidates[estimate >= threshold - _SLACK]
    likely = likely[_fine_estimates(texts, likely) >= threshold - _FINE_SLACK]
    shingles_of = _ShingleSets(texts)
    similar_P = np.zeros(len(likely), dtype=bool)
    for p in np.lexsort(likely.T).tolist():  # a text's are close to those of the last, so few sets are kept
        a, b = likely[p].tolist()
        similar_P[p] = _jaccard(shingles_of[a], shingles_of[b]) >= threshold
    pairs: Ints = likely[similar_P]
    return pairs


def similarity(one: str, other: str) -> float:
    """The Jaccard index of the shingles of two texts."""
    return _jaccard(_shingle_set(one), _shingle_set(other))


class _ShingleSets:
    """Shingle sets of texts by their index. In a crowd a text meets a hundred others, so those last met are kept."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._sets: OrderedDict[int, Hashes] = OrderedDict()
        self._kept = 0

    def __getitem__(self, index: int) -> Hashes:
        if index in self._sets:
            self._sets.move_to_end(index)
            return self._sets[index]
        shingles = self._sets[index] = _shingle_set(self._texts[index])
        self._kept += len(shingles)
        while self._kept > _KEPT_SHINGLES and len(self._sets) > 1:
            self._kept -= len(self._sets.popitem(last=False)[1])
        return shingles


def _shingle_set(text: str) -> Hashes:
    """The hashes of a text's shingles, sorted and distinct."""
    shingles = _shingles([text])[0]
    shingles.sort()
    return _distinct(shingles)


def _jaccard(one: Hashes, other: Hashes) -> float:
    """The Jaccard index of two sorted sets."""
    merged = np.concatenate((one, other))
    merged.sort(kind="stable")  # merges the two in linear time
    common = np.count_nonzero(merged[1:] == merged[:-1])
    return float(common / (len(merged) - common))


def sketches(texts: Sequence[str]) -> Sketches:
    """MinHash sketches (D, 128) of texts."""
    parts = [_sketch(chunk) for chunk in _chunks(texts)]
    return np.concatenate(parts) if parts else np.empty((0, _BINS), np.uint32)


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    chars = 0
    for text in texts:
        chunk.append(text)
        chars += min(len(text), LONGEST)
        if chars >= _CHUNK_CHARS:
            yield chunk
            chunk, chars = [], 0
    if chunk:
        yield chunk


def _shingles(texts: Sequence[str]) -> tuple[Hashes, Ints]:
    """Hashes of all shingles (S,) and the number of each one's text (S,). A short text is one shingle."""
    padded = [text[:LONGEST].ljust(SHINGLE, "\0") for text in texts]
    count_D = np.fromiter(map(len, padded), np.int64, len(padded)) - (SHINGLE - 1)
    letters = np.frombuffer("".join(padded).encode("utf-32-le", "replace"), np.uint32)
    text_S = np.repeat(np.arange(len(padded)), count_D)
    start_S = np.arange(len(text_S)) + (SHINGLE - 1) * text_S
    hash_S = np.zeros(len(text_S), np.uint64)
    for offset in range(SHINGLE):
        hash_S *= np.uint64(0x9E3779B97F4A7C15)
        hash_S += letters[start_S + offset]
    return _mix(hash_S), text_S


def _mix(x: Hashes) -> Hashes:
    """The finaliser of SplitMix64, in place."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)
    x ^= x >> np.uint64(31)
    return x


def _sketch(texts: Sequence[str]) -> Sketches:
    return _densify(_least_hashes(texts, _BIN_BITS))


def _least_hashes(texts: Sequence[str], bits: int) -> Sketches:
    """The least hash of each of 2^bits bins (D, 2^bits), _EMPTY where a bin has none."""
    hash_S, text_S = _shingles(texts)
    least_DK = np.full((len(texts), 1 << bits), _EMPTY)
    bin_S = (hash_S >> np.uint64(64 - bits)).astype(np.int64)
    np.minimum.at(least_DK.reshape(-1), (text_S << bits) + bin_S, hash_S.astype(np.uint32))
    return least_DK


def _densify(sketch_DK: Sketches) -> Sketches:
    """Fill each empty bin from the first filled one of a fixed random order of its own."""
    order_KK = np.random.default_rng(0).permuted(np.tile(np.arange(_BINS), (_BINS, 1)), axis=1)
    text, empty = np.nonzero(sketch_DK == _EMPTY)
    filled_DK = sketch_DK.copy()
    for attempt in range(_BINS):
        borrowed = sketch_DK[text, order_KK[empty, attempt]]
        filled_DK[text, empty] = borrowed
        still = borrowed == _EMPTY
        text, empty = text[still], empty[still]
    return filled_DK


def _candidate_pairs(sketch_DK: Sketches) -> Ints:
    """Candidate pairs (P, 2): texts that agree in a band, and in crowded buckets those that agree in a bin.

    Texts of one template agree in most bins; the bins that differ hash the rest of the text.
    """
    texts = len(sketch_DK)
    pairs, crowded_D = _bucket_candidates(sketch_DK, np.arange(texts), _BAND)
    more, _ = _bucket_candidates(sketch_DK, np.flatnonzero(crowded_D), 1)
    return np.stack(np.divmod(_unique([pairs, more]), max(texts, 1)), axis=1)


def _bucket_candidates(sketch_DK: Sketches, text_C: Ints, band: int) -> tuple[Ints, NDArray[np.bool_]]:
    """Candidate pairs (as first * D + second) of some texts: each with the first and the next few of its bucket.

    Also a mask (D,) of the texts in a bucket that has more pairs than these.
    """
    pairs: list[Ints] = []
    crowded_D = np.zeros(len(sketch_DK), dtype=bool)
    for start in range(0, _BINS - band + 1, band):
        key_C = np.zeros(len(text_C), np.uint64)
        for k in range(start, start + band):
            key_C = _mix(key_C + sketch_DK[text_C, k] + np.uint64(1))
        order_C = np.argsort(key_C, kind="stable")
        bucket_C = np.cumsum(np.diff(key_C[order_C], prepend=key_C[order_C[:1]]) != 0)
        text_of_C = text_C[order_C]
        crowded_D[text_of_C[np.bincount(bucket_C)[bucket_C] > _NEIGHBOURS + 2]] = True
        pairs += [first * len(sketch_DK) + second for first, second in _bucket_pairs(text_of_C, bucket_C)]
        if sum(map(len, pairs[1:])) > _PENDING_PAIRS:
            pairs = [_unique(pairs)]
    return _unique(pairs), crowded_D


def _unique(parts: Sequence[Ints]) -> Ints:
    return _distinct(np.sort(np.concatenate(parts)))


def _distinct(ordered: NDArray[Number]) -> NDArray[Number]:
    """The different ones of ordered numbers, which np.unique would hash and order again."""
    is_new = np.ones(len(ordered), bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_new]


def _bucket_pairs(order_D: Ints, bucket_D: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Pairs of texts in the same bucket, given texts ordered by bucket and index."""
    first_D = order_D[np.searchsorted(bucket_D, bucket_D)]
    is_other = first_D != order_D
    yield first_D[is_other], order_D[is_other]
    for step in range(1, _NEIGHBOURS + 1):
        same = bucket_D[step:] == bucket_D[:-step]
        yield order_D[:-step][same], order_D[step:][same]


def _estimates(sketch_DK: NDArray[np.unsignedinteger], pair_P2: Ints) -> NDArray[np.float64]:
    """The estimated similarity of each pair: the share of bins in which its texts agree, of those that either fills."""
    empty = np.iinfo(sketch_DK.dtype).max
    parts = []
    for chunk in np.array_split(pair_P2, len(pair_P2) * sketch_DK.shape[1] // _COMPARED_BINS + 1):
        one_PK, other_PK = sketch_DK[chunk.T]
        agree_PK = one_PK == other_PK
        empty_P = np.count_nonzero(agree_PK & (one_PK == empty), axis=1)
        parts.append((np.count_nonzero(agree_PK, axis=1) - empty_P) / (sketch_DK.shape[1] - empty_P))
    return np.concatenate(parts)


def _fine_estimates(texts: Sequence[str], pair_P2: Ints) -> NDArray[np.float64]:
    """The similarity of each pair of long texts, estimated from their fine sketches; 1 for others.

    Seven bits agree by chance in one bin of 128, so it is too high rather than too low.
    """
    estimate_P = np.ones(len(pair_P2))
    is_long_D = np.fromiter((len(text) >= _LONG for text in texts), bool, len(texts))
    long_P = is_long_D[pair_P2].all(axis=1)
    if long_P.any():
        text_C, pair_of_C = np.unique(pair_P2[long_P], return_inverse=True)
        chunks = _chunks([texts[text] for text in text_C.tolist()])
        fine_CK = np.concatenate([_fine_sketch(chunk) for chunk in chunks])
        estimate_P[long_P] = _estimates(fine_CK, pair_of_C.reshape(-1, 2))
    return estimate_P


def _fine_sketch(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Seven bits of the least hash of each of 2,048 bins (D, 2048), 255 where a bin has none."""
    least_DK = _least_hashes(texts, _FINE_BITS)
    return np.where(least_DK == _EMPTY, 0xFF, least_DK & 0x7F).astype(np.uint8)
