import numpy as np
import pytest
from scipy.special import softmax

from tiebreak.stats import nested_cv
from tiebreak.stats.calibration import MatrixScaling, TemperatureScaling, VectorScaling
from tiebreak.stats.metrics import log_loss

GROUPS = np.repeat(np.arange(150), 2)


class Unchanged(TemperatureScaling):
    def predict_proba(self, probabilities):
        return np.asarray(probabilities)


class Cheat(TemperatureScaling):
    """An estimator that memorises the labels that it was fitted on."""

    def fit(self, x, labels):
        self.seen_ = {row.tobytes(): label for row, label in zip(x, labels, strict=True)}
        return self

    def predict_proba(self, x):
        unknown = np.array([0.05, 0.05, 0.9])
        return np.array([self.seen_.get(row.tobytes(), unknown) for row in x])


@pytest.fixture(scope="module")
def overconfident() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    z = random.normal(size=(300, 3))
    return softmax(2.5 * z, axis=1), np.array([random.choice(3, p=p) for p in softmax(z, axis=1)])


def test_a_group_is_never_on_both_sides():
    groups = np.random.default_rng(0).integers(20, size=100)
    folds = nested_cv.splits(groups, 4)
    assert sorted(np.concatenate([score for _, score in folds])) == list(range(100))
    for fit, score in folds:
        assert not set(groups[fit]) & set(groups[score])


def test_out_of_fold_equals_fitting_fold_by_fold(overconfident):
    p, y = overconfident
    folds = nested_cv.splits(GROUPS, 3)
    found = nested_cv.out_of_fold(TemperatureScaling(), p, y, folds)
    fit, score = folds[1]
    np.testing.assert_array_equal(
        found[score], TemperatureScaling().fit(p[fit], y[fit]).predict_proba(p[score])
    )


def test_an_estimator_that_memorises_is_not_chosen(overconfident):
    p, y = overconfident
    assert log_loss(Cheat().fit(p, np.eye(3)[y]).predict_proba(p), y) == 0
    candidates = {"cheat": Cheat(), "none": Unchanged(), "temperature": TemperatureScaling()}
    assert nested_cv.best_candidate(candidates, p, y, GROUPS) == "temperature"


def test_nested_prediction_of_a_row_does_not_depend_on_its_label(overconfident):
    p, y = overconfident
    candidates = {"temperature": TemperatureScaling(), "vector": VectorScaling(), "matrix": MatrixScaling()}
    first = nested_cv.nested(candidates, p, y, GROUPS)
    changed = np.where(GROUPS[7] == GROUPS, (y + 1) % 3, y)
    second = nested_cv.nested(candidates, p, changed, GROUPS)
    np.testing.assert_array_equal(first.predictions[7], second.predictions[7])
    assert (first.predictions != second.predictions).any()
    assert len(first.chosen) == 5
    assert set(first.chosen) <= set(candidates)
