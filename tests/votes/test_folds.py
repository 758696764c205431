import numpy as np
import pytest

from tiebreak.votes.folds import fold_of, imbalance
from tiebreak.votes.schema import CALIBRATION, LOCKBOX


def test_folds_and_lockbox_get_their_shares():
    places = np.array([fold_of(f"group {n}", 4, 0.2, seed=0) for n in range(20_000)])
    for place, share in ((LOCKBOX, 0.2), *((fold, 0.2) for fold in range(4))):
        # four standard deviations of a binomial draw
        assert abs((places == place).mean() - share) < 4 * (share * (1 - share) / 20_000) ** 0.5


def test_no_lockbox_and_nothing_but_lockbox():
    assert all(fold_of(str(n), 3, 0.0, 0) != LOCKBOX for n in range(500))
    assert all(fold_of(str(n), 3, 1.0, 0) == LOCKBOX for n in range(500))


def test_a_calibration_side_takes_its_share_from_the_folds_alone():
    without = [fold_of(str(n), 3, 0.1, 0) for n in range(5000)]
    with_side = [fold_of(str(n), 3, 0.1, 0, calibration_share=0.2) for n in range(5000)]
    moved = {(a, b) for a, b in zip(without, with_side, strict=True) if a != b}
    assert moved == {(fold, CALIBRATION) for fold in range(3)}
    assert abs(with_side.count(CALIBRATION) / 5000 - 0.2) < 4 * (0.16 / 5000) ** 0.5


def test_all_twenty_folds_are_drawn():
    assert {fold_of(str(n), 20, 0.0, 0) for n in range(2000)} == set(range(20))


def test_imbalance_of_a_worked_case():
    # 10 and 30 votes about a mean of 20; label a has 0.5 and 0.1 of them against 0.2 of all
    size, label = imbalance(np.array([[5.0, 5.0, 0.0], [3.0, 15.0, 12.0]]))
    assert size == pytest.approx(0.5)
    assert label == pytest.approx(0.3)
    assert imbalance(np.full((5, 3), 7.0)) == (0, 0)
