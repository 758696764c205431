import numpy as np
import pytest
import scipy.optimize
from scipy.special import softmax

from tiebreak.stats.blend import EqualBlend, LinearBlend, LogBlend, MatrixBlend, from_json, shares
from tiebreak.stats.calibration import PRIOR_VOTES, MatrixScaling, TemperatureScaling
from tiebreak.stats.metrics import log_loss, targets
from tiebreak.votes.schema import swap_answers


@pytest.fixture(scope="module")
def three_models() -> tuple[np.ndarray, np.ndarray]:
    """A good model, a worse one, and an uninformative one."""
    random = np.random.default_rng(0)
    z = random.normal(size=(1500, 3))
    y = np.array([random.choice(3, p=p) for p in softmax(1.5 * z, axis=1)])
    noise = random.normal(size=(1500, 3, 3)) * np.array([0.5, 1.5, 1.0])[:, None]
    signal = np.array([1.5, 1.5, 0.0])[:, None] * z[:, None]
    return softmax(signal + noise, axis=2), y


def test_equal_is_the_mean(three_models):
    x, y = three_models
    np.testing.assert_allclose(EqualBlend().fit(x, y).predict_proba(x), x.mean(axis=1))


def test_linear_equals_scipy(three_models):
    x, y = three_models
    found = scipy.optimize.minimize(
        lambda w: log_loss(np.einsum("m,nmc->nc", w, x), y),
        np.full(3, 1 / 3),
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-12},
    )
    blend = LinearBlend().fit(x, y)
    assert blend.weights_.sum() == pytest.approx(1)
    assert log_loss(blend.predict_proba(x), y) == pytest.approx(found.fun, abs=1e-6)
    np.testing.assert_allclose(blend.weights_, found.x, atol=2e-3)


@pytest.mark.parametrize("votes", [30, 1500])
def test_log_equals_scipy(three_models, votes):
    """The prior is that many more votes, as the first model with its temperature predicts them."""
    x, y = three_models[0][:votes], three_models[1][:votes]
    log_x, expected = np.log(x), TemperatureScaling().fit(x[:, 0], y).predict_proba(x[:, 0])

    def total(w):
        p = softmax(np.einsum("m,nmc->nc", w, log_x), axis=1)
        return votes * log_loss(p, targets(y)) + PRIOR_VOTES * log_loss(p, expected)

    found = scipy.optimize.minimize(total, np.full(3, 1 / 3), tol=1e-8)
    np.testing.assert_allclose(LogBlend().fit(x, y).weights_, found.x, atol=1e-4)


@pytest.mark.parametrize(("kind", "least"), [(LogBlend, 0.005), (MatrixBlend, 0.05)])
def test_many_votes_outweigh_the_prior_and_few_do_not(three_models, kind, least):
    x, y = three_models
    gains = {}
    for votes, starts in ((30, range(0, 1500, 100)), (1500, (0,))):
        parts = [slice(start, start + votes) for start in starts]
        losses = [
            [log_loss(kind(prior).fit(x[part], y[part]).predict_proba(x), y) for part in parts]
            for prior in (0.0, 1.0)
        ]
        gains[votes] = np.mean(losses[0]) - np.mean(losses[1])
    assert gains[30] > least
    assert -5e-4 < gains[1500] <= 0


def test_an_uninformative_model_has_a_small_weight(three_models):
    x, y = three_models
    assert LinearBlend().fit(x, y).weights_[2] < 0.06
    assert abs(LogBlend().fit(x, y).weights_[2]) < 0.05


def test_matrix_of_one_model_is_matrix_scaling(three_models):
    x, y = three_models
    blended = MatrixBlend().fit(x[:, :1], y).predict_proba(x[:, :1])
    np.testing.assert_allclose(blended, MatrixScaling().fit(x[:, 0], y).predict_proba(x[:, 0]), atol=1e-5)


def test_matrix_fits_no_worse_than_what_it_contains(three_models):
    x, y = three_models
    stacked, simple = (log_loss(b.fit(x, y).predict_proba(x), y) for b in (MatrixBlend(), LogBlend()))
    assert stacked <= simple + 1e-6


@pytest.mark.parametrize("blend", [EqualBlend(), LinearBlend(), LogBlend(), MatrixBlend()])
def test_symmetric_to_the_last_bit(blend, three_models):
    x, y = three_models
    fitted = blend.fit(x, y)
    assert (swap_answers(fitted.predict_proba(swap_answers(x))) == fitted.predict_proba(x)).all()


def test_one_sure_and_wrong_model_does_not_make_the_blend_infinite():
    for votes, most in ((10, 1.2), (1000, 1.0)):
        x = np.tile([[[1.0, 0.0, 0.0], [0.3, 0.4, 0.3]]], (votes, 1, 1))
        for blend in (LinearBlend(), LogBlend(), MatrixBlend()):
            assert log_loss(blend.fit(x, np.ones(votes)).predict_proba(x), np.ones(votes)) < most


def test_a_matrix_blend_that_is_not_symmetric_is_refused() -> None:
    one_sided = [[[1.0, 0, 0], [0, 2.0, 0], [0, 0, 1.0]]]
    with pytest.raises(ValueError, match="symmetric in the answers"):
        from_json({"way": "matrix", "coef": one_sided, "intercept": [0, 0, 0]})


@pytest.mark.parametrize("weights", [(1e308, 1e308), (5e-324, 5e-324), (3.0, 3.0)])
def test_shares_sum_to_one_however_large_the_weights(weights: tuple[float, float]) -> None:
    assert shares(weights, 2).tolist() == [0.5, 0.5]
