from itertools import pairwise

import numpy as np
import pytest
import torch

from tiebreak.tokens.packing import (
    TILE,
    Layout,
    Packed,
    Tiles,
    _units,
    batches,
    by_budget,
    fixed_length,
    pack,
)


def random_documents(lengths: list[int], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 1000, n).astype(np.int32) for n in lengths]


def pairs(count: int, seed: int = 0) -> list[np.ndarray]:
    """Pairs of documents with a common prefix, as the two orders of a vote."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        common = rng.integers(1, 500, rng.integers(8, 150))
        length = rng.integers(2, 300)
        found += [
            np.concatenate([common, rng.integers(low, low + 500, length)]).astype(np.int32)
            for low in (500, 1000)
        ]
    return found


def test_documents_are_concatenated() -> None:
    packed = pack([np.array([5, 6, 7], np.int32), np.array([8], np.int32), np.array([9, 10], np.int32)])
    assert packed.ids_T.tolist() == [5, 6, 7, 8, 9, 10]
    assert packed.positions_T.tolist() == [0, 1, 2, 0, 0, 1]
    assert packed.ends_D.tolist() == [2, 3, 5]
    assert [len(span) for span in packed.spans] == [3, 1, 2]


def test_a_long_common_prefix_is_stored_once() -> None:
    first, second = np.arange(1, 30, dtype=np.int32), np.arange(1, 25, dtype=np.int32)
    second[20:] += 100
    packed = pack([first, second, second])
    assert packed.ids_T.tolist() == [*range(1, 30), *range(121, 125), *second.tolist()]
    assert packed.positions_T.tolist() == [*range(29), *range(20, 24), *range(24)]
    assert packed.ends_D.tolist() == [28, 32, 56]
    assert [document.tolist() for document in packed.documents()] == [
        d.tolist() for d in (first, second, second)
    ]


def test_equal_documents_keep_a_last_token_of_their_own() -> None:
    document = np.arange(50, dtype=np.int32)
    packed = pack([document, document])
    assert len(packed.ids_T) == 51
    assert packed.ends_D.tolist() == [49, 50]


@pytest.mark.parametrize("shared", [False, True])
def test_groups_place_every_token_once_with_little_padding(shared: bool) -> None:
    lengths = np.random.default_rng(0).integers(1, 900, 200).tolist()
    packed = pack(pairs(100) if shared else random_documents(lengths))
    layout = packed.layout
    assert isinstance(layout, Layout)
    assert torch.equal(layout.index_P[layout.place_T], torch.arange(len(packed.ids_T)))
    if not shared:
        assert len(layout.index_P) < 1.25 * sum(lengths)
    parts = layout.index_P.split([documents * length for documents, length in layout.shapes])
    padded = [
        row for part, (_, length) in zip(parts, layout.shapes, strict=True) for row in part.split(length)
    ]
    rows = [row[:length] for row, length in zip(padded, layout.length_D.tolist(), strict=True)]
    assert layout.ends_D.tolist() == [row[-1] for row in rows]
    assert sorted(layout.ends_D.tolist()) == sorted(packed.ends_D.tolist())
    seen = sorted(packed.ids_T[row].tolist() for row in rows)
    assert seen == sorted(document.tolist() for document in packed.documents())


def visible_by_tiles(packed: Packed, tokens: int) -> np.ndarray:
    """Visibility masks (T, T) of keys by queries, computed from the query tiles and from the key tiles."""
    assert isinstance(packed.layout, Tiles)
    by_query, by_key = (np.zeros((tokens, tokens), int) for _ in range(2))
    for first, stop, own, shared, shared_stop in packed.layout.queries_N5.tolist():
        for q in range(first, min(first + TILE, stop)):
            by_query[q, shared:shared_stop] += 1
            by_query[q, own : q + 1] += 1
    for first, stop, extra, extra_stop, shared_stop in packed.layout.keys_N5.tolist():
        for k in range(first, min(first + TILE, stop)):
            by_key[k:stop, k] += 1
            by_key[extra : extra_stop if k < shared_stop else extra, k] += 1
    assert np.array_equal(by_query, by_key)
    return by_query


def test_tiles_show_each_token_its_own_document_and_nothing_else() -> None:
    documents = pairs(3) + random_documents([1, 128, 300])
    tokens = fixed_length(sum(map(len, documents)), 8192)
    packed = pack(documents, tokens)
    assert len(packed.ids_T) == len(packed.positions_T) == tokens
    visible = visible_by_tiles(packed, tokens)
    expected = np.zeros_like(visible)
    for span in packed.spans:
        where = np.r_[span.shared_start : span.shared_stop, span.start : span.stop]
        for n, q in enumerate(where):
            expected[q, where[: n + 1]] = 1
    end = packed.spans[-1].stop
    assert np.array_equal(visible[:end], expected[:end])
    assert visible[end:].diagonal(end).all(), (
        "a filling token sees at least itself, so that nothing is undefined"
    )


@pytest.mark.parametrize(("rows", "share"), [(64, 15 / 16), (400, 0.99)])
def test_fixed_batches_are_full_and_of_few_shapes(rows: int, share: float) -> None:
    """A few forwards, as of an optimizer step, have about equal loads; of many all but the last are full."""
    documents = random_documents(np.random.default_rng(2).integers(40, 1024, rows).tolist())
    found = list(batches(documents, 8192, fixed=True))
    assert sorted(n for members, _ in found for n in members) == list(range(rows))
    for members, packed in found:
        assert [d.tolist() for d in packed.documents()] == [documents[n].tolist() for n in members]
    filled, lengths = zip(*[(p.spans[-1].stop, len(p.ids_T)) for _, p in found], strict=True)
    assert sum(filled) > share * sum(lengths)
    if rows == 64:
        assert max(filled) < 1.03 * min(filled)
    assert len(set(lengths)) <= 2
    assert all(length == 8192 for length in lengths[:-1]) or rows == 64
    assert len({packed.layout.queries_N5.shape for _, packed in found}) == len(set(lengths))


@pytest.mark.parametrize("fixed", [False, True])
def test_the_two_orders_of_a_vote_stay_together(fixed: bool) -> None:
    documents = pairs(40)
    found = list(batches(documents, 1024, fixed))
    assert sorted(n for members, _ in found for n in members) == list(range(80))
    for members, packed in found:
        assert packed.spans[-1].stop <= max(1024, max(len(documents[n]) for n in members))
        assert all((n ^ 1) in members for n in members)
        assert [d.tolist() for d in packed.documents()] == [documents[n].tolist() for n in members]
        for (n, _), (m, span) in pairwise(zip(members, packed.spans, strict=True)):
            common = int(np.argmin(documents[n][: len(documents[m])] == documents[m][: len(documents[n])]))
            if n == m ^ 1 and n % 2 == 0:
                assert span.shared_stop - span.shared_start == common


def test_a_document_longer_than_the_budget_gets_a_power_of_two() -> None:
    documents = random_documents([5000, 30])
    found = {tuple(members): packed for members, packed in batches(documents, 2048, fixed=True)}
    assert len(found[(0,)].ids_T) == 8192
    assert len(found[(1,)].ids_T) == 128


def test_pairs_with_a_shared_prefix_are_split_where_they_exceed_the_budget() -> None:
    """A row within the budget must never take a longer forward, which the dry run does not test."""
    long, *rest = random_documents([3050, 1800, 1800])
    other = np.concatenate([long[:100], long[:99:-1]])
    rest[1][:900] = rest[0][:900]
    found = list(batches([long, other, *rest], 4096, fixed=True))
    assert sorted(members for members, _ in found) == [[0], [1], [2, 3]]
    assert max(len(packed.ids_T) for _, packed in found) <= 4096
    assert sorted(packed.spans[-1].stop for _, packed in found) == [2700, 3050, 3050]


@pytest.mark.parametrize("openings", [1, 3])
@pytest.mark.parametrize("fixed", [False, True])
def test_with_common_prefixes_no_forward_exceeds_its_shape(fixed: bool, openings: int) -> None:
    """Some rows come without their other order; all begin with one of a few chat templates."""
    rng = np.random.default_rng(0)
    rows = [(n // 2 % openings, row) for n, row in enumerate(pairs(200)) if n % 2 == 0 or rng.random() < 0.7]
    documents = [np.r_[np.full(12, opening, np.int32), row] for opening, row in rows]
    by_length = sorted(range(len(documents)), key=lambda n: -len(documents[n]))
    costs = {n: own for unit in _units(by_length, documents, 2048) for n, own in unit}
    found = list(batches(documents, 2048, fixed))
    assert sorted(n for members, _ in found for n in members) == list(range(len(documents)))
    for members, packed in found:
        assert [s.stop - s.start for s in packed.spans] == [costs[n] for n in members], "shared as costed"
        end = packed.spans[-1].stop
        assert end <= len(packed.ids_T) == (fixed_length(end, 2048) if fixed else end) <= 2048
        assert [d.tolist() for d in packed.documents()] == [documents[n].tolist() for n in members]


def test_runs_keep_to_the_budget_and_to_the_order() -> None:
    lengths = np.random.default_rng(1).integers(1, 50, 300).tolist()
    runs = list(by_budget(lengths, 100))
    assert [n for run in runs for n in run] == list(range(300))
    assert all(sum(lengths[n] for n in run) <= 100 for run in runs)
    assert list(by_budget([500, 10], 100)) == [range(0, 1), range(1, 2)]
    assert list(by_budget([], 100)) == []
