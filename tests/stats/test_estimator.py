"""Estimators beside scikit-learn's base class."""

import pytest
from sklearn.base import BaseEstimator, clone

from tiebreak.stats.calibration import MatrixScaling, TemperatureScaling
from tiebreak.stats.estimator import Estimator


class Ours(Estimator):
    def __init__(self, width: int = 3, prior: float = 1.0) -> None:
        self.width = width
        self.prior = prior


class Theirs(BaseEstimator):
    def __init__(self, width: int = 3, prior: float = 1.0) -> None:
        self.width = width
        self.prior = prior


def test_parameters_are_those_of_scikit_learn():
    ours, theirs = Ours(prior=0.5), Theirs(prior=0.5)
    assert ours.get_params() == theirs.get_params() == {"width": 3, "prior": 0.5}
    assert ours.set_params(width=4).get_params() == theirs.set_params(width=4).get_params()


def test_an_unknown_parameter_is_an_error_as_in_scikit_learn():
    for estimator in (Ours(), Theirs()):
        with pytest.raises(ValueError, match="depth"):
            estimator.set_params(depth=1)


@pytest.mark.parametrize("estimator", [Ours(width=5), TemperatureScaling(0.5), MatrixScaling(False, 2.0)])
def test_scikit_learn_clones_them(estimator):
    copy = clone(estimator)
    assert type(copy) is type(estimator)
    assert copy is not estimator
    assert copy.get_params() == estimator.get_params()
    assert repr(copy) == repr(estimator)


def test_no_constructor_is_no_parameter():
    class Bare(Estimator):
        pass

    assert Bare().get_params() == {}
    assert repr(clone(Bare())) == "Bare()"
