"""Tests of the baseline's learning curve."""

import numpy as np
import pytest

from tiebreak.baseline import curve, model
from tiebreak.baseline.inputs import Inputs
from tiebreak.baseline.model import BLEND_PRIOR, Parts
from tiebreak.stats.blend import LogBlend
from tiebreak.stats.metrics import row_log_loss
from tiebreak.votes.schema import probabilities

GROUPS = np.arange(240) // 2


@pytest.fixture(autouse=True)
def _few(monkeypatch) -> None:
    monkeypatch.setitem(model.TREES, "max_iter", 5)
    monkeypatch.setattr(curve, "FEWEST", 50)


def found(baseline, votes) -> list[curve.Point]:
    """The points of the curve on 40 of the votes, in place of unseen ones."""
    seen, y = Inputs.of(votes), probabilities(votes)
    unseen = np.arange(40)
    return curve.points(baseline, seen, y, GROUPS, np.ones(len(y)), seen[unseen], y[unseen])


def test_shares_are_nested_and_share_no_prompt() -> None:
    halves, quarters = (list(curve._draws(GROUPS, one_in)) for one_in in (2, 4))
    for half, quarter in zip(halves, quarters, strict=True):
        assert set(quarter) < set(half)
        assert (len(quarter), len(half)) == (60, 120)
    for first, second in (halves, quarters):
        assert not set(GROUPS[first]) & set(GROUPS[second])


def test_a_share_is_fitted_by_itself_and_blended_on_the_other(baseline, votes) -> None:
    seen, y = Inputs.of(votes), probabilities(votes)
    points = found(baseline, votes)
    assert [(point.votes, len(point.losses_DU)) for point in points] == [(240, 1), (120, 2), (60, 2)]
    assert np.array_equal(points[0].losses_DU[0], row_log_loss(baseline.predict_proba(votes), y)[:40])
    one, other = curve._draws(GROUPS, 2)
    parts = Parts.fit(seen[one], y[one], np.ones(120))
    blend = LogBlend(BLEND_PRIOR).fit(parts.predict(seen[other]), y[other])
    expected = row_log_loss(blend.predict_proba(parts.predict(seen)), y)[:40]
    assert np.array_equal(points[1].losses_DU[0], expected)


def test_shares_with_too_few_votes_are_left_out(baseline, votes, monkeypatch) -> None:
    monkeypatch.setattr(curve, "FEWEST", 61)
    assert [point.votes for point in found(baseline, votes)] == [240, 120]
    monkeypatch.setattr(curve, "FEWEST", 121)
    assert [point.votes for point in found(baseline, votes)] == [240]
