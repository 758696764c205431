import numpy as np
import pytest

from tiebreak.evaluate.decomposition import brier_parts
from tiebreak.stats.metrics import brier


def test_parts_add_up():
    random = np.random.default_rng(0)
    p, y = random.dirichlet([1, 1, 1], size=300), random.integers(3, size=300)
    parts = brier_parts(p, y)
    assert parts.miscalibration - parts.discrimination + parts.uncertainty == pytest.approx(brier(p, y))
    shares = np.bincount(y) / 300
    assert parts.uncertainty == pytest.approx(1 - (shares**2).sum())
    assert parts.miscalibration > 0
    assert parts.discrimination >= 0


def test_equals_murphys_parts_where_forecasts_are_few_and_in_order():
    forecasts = np.array([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4], [0.7, 0.1, 0.2]])
    counts = np.array([[2, 6, 12], [6, 8, 6], [13, 4, 3]])  # shares rise with the forecasts of each class
    p = np.repeat(forecasts, 20, axis=0)
    y = np.concatenate([np.repeat([0, 1, 2], row) for row in counts])
    shares, base = counts / 20, counts.sum(axis=0) / 60
    parts = brier_parts(p, y)
    assert parts.miscalibration == pytest.approx(((forecasts - shares) ** 2).sum() / 3)
    assert parts.discrimination == pytest.approx(((shares - base) ** 2).sum() / 3)


def test_class_shares_have_no_miscalibration_and_no_discrimination():
    y = np.array([0, 0, 1, 2])
    parts = brier_parts(np.tile([0.5, 0.25, 0.25], (4, 1)), y)
    assert parts.miscalibration == pytest.approx(0)
    assert parts.discrimination == pytest.approx(0)
