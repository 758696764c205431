import numpy as np
import torch

from tiebreak.data.packing import by_budget, pack


def test_documents_lie_end_to_end() -> None:
    packed = pack([np.array([5, 6, 7], np.int32), np.array([8], np.int32), np.array([9, 10], np.int32)])
    assert packed.ids_T.tolist() == [5, 6, 7, 8, 9, 10]
    assert packed.positions_T.tolist() == [0, 1, 2, 0, 0, 1]
    assert packed.ends_D.tolist() == [2, 3, 5]
    assert packed.layout.lengths == (3, 1, 2)


def test_groups_cover_every_token_once_with_little_padding() -> None:
    lengths = np.random.default_rng(0).integers(1, 900, 200)
    packed = pack([np.zeros(n, np.int32) for n in lengths])
    covered = torch.cat([index[valid] for index, valid in packed.layout.groups])
    assert torch.equal(covered.sort().values, torch.arange(int(lengths.sum())))
    assert sum(index.numel() for index, _ in packed.layout.groups) < 1.25 * lengths.sum()
    for index, valid in packed.layout.groups:
        for row, mask in zip(index, valid, strict=True):
            tokens = row[mask]
            assert torch.equal(packed.positions_T[tokens], torch.arange(len(tokens)))


def test_runs_keep_to_the_budget_and_to_the_order() -> None:
    lengths = np.random.default_rng(1).integers(1, 50, 300).tolist()
    runs = list(by_budget(lengths, 100))
    assert [n for run in runs for n in run] == list(range(300))
    assert all(sum(lengths[n] for n in run) <= 100 for run in runs)
    assert list(by_budget([500, 10], 100)) == [range(0, 1), range(1, 2)]
    assert list(by_budget([], 100)) == []
