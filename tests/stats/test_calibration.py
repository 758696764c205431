import json

import numpy as np
import pytest
import scipy.optimize
from scipy.special import log_softmax, softmax
from sklearn.base import clone

from tiebreak.stats.calibration import (
    FLOOR,
    PRIOR_VOTES,
    SHAPE,
    MatrixScaling,
    TemperatureScaling,
    VectorScaling,
    is_symmetric_map,
)
from tiebreak.stats.metrics import log_loss, targets
from tiebreak.votes.schema import swap_answers

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


def log_p(p: np.ndarray, temperature: float) -> np.ndarray:
    return log_softmax(np.log(np.maximum(p, 1e-15)) / temperature, axis=1)


@pytest.mark.parametrize("prior", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("votes", [12, 3000])
def test_temperature_equals_scipy(prior, votes):
    p, y = overconfident(votes)

    def total(t):
        return -log_p(p, t)[np.arange(votes), y].sum() + prior * SHAPE * (1 / t - 1 + np.log(t))

    best = scipy.optimize.minimize_scalar(
        total, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-10}
    )
    assert TemperatureScaling(prior).fit(p, y).temperature_ == pytest.approx(best.x, rel=1e-5)


def drawn(kind, true: float, votes: int = 22, draws: int = 60) -> tuple[np.ndarray, list]:
    """Mean log losses on fresh votes after fits on few, without the prior and with it; and what came of it."""
    random = np.random.default_rng(0)
    fresh = random.normal(size=(2000, 3))
    losses, fitted = np.zeros(2), []
    for _ in range(draws):
        z = random.normal(size=(votes, 3))
        y = (random.random(votes)[:, None] > softmax(z, axis=1).cumsum(axis=1)[:, :2]).sum(axis=1)
        pair = [kind(prior=prior).fit(softmax(true * z, axis=1), y) for prior in (0.0, 1.0)]
        predictions = [calibrator.predict_proba(softmax(true * fresh, axis=1)) for calibrator in pair]
        losses += [log_loss(p, softmax(fresh, axis=1)) / draws for p in predictions]
        fitted.append(pair[1])
    return losses, fitted


@pytest.mark.parametrize(("true", "gain"), [(0.7, 0.005), (1.0, 0.01), (1.5, 0.005)])
def test_few_votes_leave_the_temperature_near_1(true, gain):
    losses, fitted = drawn(TemperatureScaling, true)
    assert losses[1] < losses[0] - gain
    temperatures = [calibrator.temperature_ for calibrator in fitted]
    assert 0.4 < min(temperatures) < max(temperatures) < 3


@pytest.mark.parametrize("kind", [VectorScaling, MatrixScaling])
def test_few_votes_leave_what_a_temperature_says(kind):
    losses, _ = drawn(kind, 1.5, draws=10)
    assert losses[1] < drawn(TemperatureScaling, 1.5, draws=10)[0][1] + 0.01
    assert losses[1] < losses[0] - 0.05


def test_votes_that_follow_a_model_exactly_leave_it_some_doubt():
    p = np.tile([[0.6, 0.3, 0.1]], (22, 1))
    certain = TemperatureScaling(prior=0.0).fit(p, np.zeros(22)).predict_proba(p)[0, 0]
    doubtful = TemperatureScaling().fit(p, np.zeros(22)).predict_proba(p)[0, 0]
    assert certain > 0.999
    assert 0.6 < doubtful < 0.95


@pytest.mark.parametrize("soft", [False, True])
def test_vector_equals_scipy(soft):
    p, y = overconfident()
    labels = np.random.default_rng(2).dirichlet([1, 1, 1], size=len(y)) if soft else y
    y_NC, x = targets(labels), np.log(np.maximum(p, FLOOR))
    best = scipy.optimize.minimize(
        lambda v: scipy_loss(x, np.diag(v[:3]), v[3:], y_NC), np.r_[np.ones(3), np.zeros(3)], tol=1e-12
    )
    fitted = VectorScaling(symmetric=False, prior=0.0).fit(p, labels)
    assert log_loss(fitted.predict_proba(p), labels) == pytest.approx(best.fun, abs=1e-9)
    np.testing.assert_allclose(np.diag(fitted.coef_), best.x[:3], atol=1e-4)


@pytest.mark.parametrize("votes", [30, 3000])
def test_matrix_equals_scipy(votes):
    """The prior is that many more votes, as the model with its temperature predicts them."""
    p, y = overconfident(votes)
    x, y_NC = np.log(np.maximum(p, FLOOR)), targets(y)
    expected_NC = np.exp(log_p(p, TemperatureScaling().fit(p, y).temperature_))

    def total(v):
        weights, bias = v[:9].reshape(3, 3), v[9:]
        more = PRIOR_VOTES * scipy_loss(x, weights, bias, expected_NC)
        return votes * scipy_loss(x, weights, bias, y_NC) + more

    best = scipy.optimize.minimize(total, np.r_[np.eye(3).ravel(), np.zeros(3)], tol=1e-9)
    fitted = MatrixScaling(symmetric=False).fit(p, y)
    found = total(np.r_[fitted.coef_.ravel(), fitted.intercept_])
    assert found == pytest.approx(best.fun, abs=1e-3)


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_many_votes_outweigh_the_prior(calibrator):
    p, y = overconfident(12_000)
    plain = clone(calibrator).set_params(prior=0.0)
    with_it, without = (c.fit(p, y).predict_proba(p) for c in (clone(calibrator), plain))
    assert 0 < np.abs(with_it - without).max() < 0.01
    assert log_loss(with_it, y) == pytest.approx(log_loss(without, y), abs=5e-5)


@pytest.mark.parametrize("kind", [VectorScaling, MatrixScaling])
def test_symmetric_fit_is_the_fit_on_both_orders(kind):
    p, y = overconfident(800)
    both_p, both_y = np.r_[p, swap_answers(p)], np.r_[targets(y), swap_answers(targets(y))]
    symmetric, free = kind().fit(p, y), kind(symmetric=False, prior=2.0).fit(both_p, both_y)
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
    plain = TemperatureScaling(prior=0.0)
    assert plain.fit(p, np.full(30, 2)).temperature_ == pytest.approx(100)
    assert plain.fit(p, np.zeros(30)).temperature_ < 0.05
    uniform = np.full((5, 3), 1 / 3)
    assert TemperatureScaling().fit(uniform, [0, 1, 2, 0, 1]).temperature_ == pytest.approx(1)


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


def test_what_is_fitted_is_a_symmetric_map_and_its_half_is_not() -> None:
    rng = np.random.default_rng(0)
    p_NC, y_N = rng.dirichlet([1, 1, 1], 200), rng.integers(0, 3, 200)
    state = MatrixScaling().fit(p_NC, y_N).to_json()
    assert is_symmetric_map(state["coef"], state["intercept"])
    state = MatrixScaling(symmetric=False).fit(p_NC, y_N).to_json()
    assert not is_symmetric_map(state["coef"], state["intercept"])
