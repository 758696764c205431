import json

import numpy as np
import pytest
import scipy.optimize
from scipy.special import log_softmax, softmax
from sklearn.base import clone

from tiebreak.data.logits import swap_answers
from tiebreak.evaluate.calibration import FLOOR, MatrixScaling, TemperatureScaling, VectorScaling
from tiebreak.evaluate.metrics import log_loss, targets

CALIBRATORS = [
    TemperatureScaling(),
    VectorScaling(),
    VectorScaling(symmetric=False),
    MatrixScaling(),
    MatrixScaling(symmetric=False),
]


def overconfident(n: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities distorted by an affine map of their logarithm, and labels."""
    random = np.random.default_rng(seed)
    z = random.normal(size=(n, 3))
    y = np.array([random.choice(3, p=row) for row in softmax(z, axis=1)])
    distortion = np.array([[1.9, 0.1, 0.3], [0.2, 1.7, 0.0], [0.1, 0.2, 1.2]])
    return softmax(z @ distortion.T + [0.1, -0.2, 0.6], axis=1), y


def scipy_loss(x: np.ndarray, weights: np.ndarray, bias: np.ndarray, y_NC: np.ndarray) -> float:
    return float(-(y_NC * log_softmax(x @ weights.T + bias, axis=1)).sum(axis=1).mean())


def test_temperature_equals_scipy():
    p, y = overconfident()
    best = scipy.optimize.minimize_scalar(
        lambda t: log_loss(softmax(np.log(p) / t, axis=1), y),
        bounds=(0.05, 20),
        method="bounded",
        options={"xatol": 1e-10},
    )
    assert TemperatureScaling().fit(p, y).temperature_ == pytest.approx(best.x, rel=1e-6)


@pytest.mark.parametrize("soft", [False, True])
def test_vector_equals_scipy(soft):
    p, y = overconfident()
    labels = np.random.default_rng(2).dirichlet([1, 1, 1], size=len(y)) if soft else y
    y_NC, x = targets(labels), np.log(np.maximum(p, FLOOR))
    best = scipy.optimize.minimize(
        lambda v: scipy_loss(x, np.diag(v[:3]), v[3:], y_NC), np.r_[np.ones(3), np.zeros(3)], tol=1e-12
    )
    fitted = VectorScaling(symmetric=False, ridge=0.0).fit(p, labels)
    assert log_loss(fitted.predict_proba(p), labels) == pytest.approx(best.fun, abs=1e-9)
    np.testing.assert_allclose(np.diag(fitted.coef_), best.x[:3], atol=1e-4)


def test_matrix_equals_scipy():
    p, y = overconfident()
    x, y_NC = np.log(np.maximum(p, FLOOR)), targets(y)
    best = scipy.optimize.minimize(
        lambda v: scipy_loss(x, v[:9].reshape(3, 3), v[9:], y_NC),
        np.r_[np.eye(3).ravel(), np.zeros(3)],
        tol=1e-12,
    )
    fitted = MatrixScaling(symmetric=False).fit(p, y)
    assert log_loss(fitted.predict_proba(p), y) == pytest.approx(best.fun, abs=1e-7)


@pytest.mark.parametrize("kind", [VectorScaling, MatrixScaling])
def test_symmetric_fit_is_the_fit_on_both_orders(kind):
    p, y = overconfident(800)
    both_p, both_y = np.r_[p, swap_answers(p)], np.r_[targets(y), swap_answers(targets(y))]
    symmetric, free = kind().fit(p, y), kind(symmetric=False).fit(both_p, both_y)
    np.testing.assert_allclose(symmetric.predict_proba(p), free.predict_proba(p), atol=1e-6)


@pytest.mark.parametrize("calibrator", [c for c in CALIBRATORS if getattr(c, "symmetric", True)])
def test_symmetric_to_the_last_bit(calibrator):
    p, y = overconfident(1001)
    fitted = clone(calibrator).fit(p, y)
    swapped = fitted.predict_proba(np.asfortranarray(swap_answers(p)))
    assert (swap_answers(swapped) == fitted.predict_proba(p)).all()


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_probabilities_come_out_and_improve(calibrator):
    p, y = overconfident()
    fitted = clone(calibrator).fit(p[:1500], y[:1500])
    q = fitted.predict_proba(p[1500:])
    np.testing.assert_allclose(q.sum(axis=1), 1)
    assert log_loss(q, y[1500:]) < log_loss(p[1500:], y[1500:]) - 0.02


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_state_survives_json(calibrator):
    p, y = overconfident(300)
    fitted = clone(calibrator).fit(p, y)
    reread = type(calibrator).from_json(json.loads(json.dumps(fitted.to_json())))
    assert (reread.predict_proba(p) == fitted.predict_proba(p)).all()


@pytest.mark.parametrize("calibrator", CALIBRATORS)
@pytest.mark.parametrize("right", [True, False])
def test_certain_predictions_leave_finite_probabilities(calibrator, right):
    p = np.eye(3)[np.arange(30) % 3]
    fitted = clone(calibrator).fit(p, (np.arange(30) + (0 if right else 1)) % 3)
    assert np.isfinite(fitted.predict_proba(p)).all()


def test_temperature_stays_in_its_range():
    p = np.tile([[0.6, 0.3, 0.1]], (30, 1))
    assert TemperatureScaling().fit(p, np.full(30, 2)).temperature_ == 100
    assert TemperatureScaling().fit(p, np.zeros(30)).temperature_ < 0.05
    assert TemperatureScaling().fit(np.full((5, 3), 1 / 3), [0, 1, 2, 0, 1]).temperature_ == 1


@pytest.mark.parametrize("p", [np.ones((4, 2)) / 2, np.full((4, 3), np.nan), -np.ones((4, 3))])
def test_what_is_no_probability_is_refused(p):
    with pytest.raises(ValueError, match="probabilities must"):
        TemperatureScaling().fit(p, [0, 1, 2, 0])


def test_a_rare_zero_does_not_bend_the_map():
    p, y = overconfident()
    plain = MatrixScaling().fit(p, y).coef_
    p[:3] = [[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]
    y[:3] = [0, 1, 2]
    np.testing.assert_allclose(MatrixScaling().fit(p, y).coef_, plain, atol=0.06)
