import numpy as np
import pytest
from scipy.sparse import csr_array, hstack, vstack
from sklearn.linear_model import LogisticRegression

from tiebreak.baseline.linear import SymmetricLogistic
from tiebreak.judge.logits import softmax
from tiebreak.votes.schema import swap_answers


@pytest.fixture
def world():
    random = np.random.default_rng(0)
    odd, even = random.normal(size=(300, 4)), random.normal(size=(300, 3))
    u, v = odd @ [1.0, -0.5, 0.0, 0.3], even @ [0.5, 0.0, -1.0] + 0.4
    y = np.array([random.choice(3, p=p) for p in softmax(np.stack([u, -u, v], axis=1))])
    return csr_array(odd), csr_array(even), y


def reference(odd, even, y, weights, penalty):
    """A reference: scikit-learn on every vote in both orders, all coefficients free."""
    x = vstack([hstack([odd, even]), hstack([-odd, even])]).tocsr()
    labels, both = np.concatenate([y, np.array([1, 0, 2])[y]]), np.concatenate([weights, weights])
    model = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000).fit(x, labels, sample_weight=both)
    return model.predict_proba(x)[: len(y)]


def test_it_is_multinomial_regression_on_both_orders(world) -> None:
    odd, even, y = world
    weights = np.random.default_rng(1).uniform(0.1, 2, size=len(y))
    # without a penalty the two minimise the same loss; with one they differ in what a coefficient costs
    model = SymmetricLogistic(penalty=1e-8).fit(odd, even, np.eye(3)[y], weights)
    expected = reference(odd, even, y, weights, 1e-8)
    np.testing.assert_allclose(model.predict_proba(odd, even), expected, atol=2e-4)


def test_the_penalty_is_that_of_the_objective(world) -> None:
    """At the minimum the gradient of the loss is minus the penalty times the coefficients."""
    odd, even, y = world
    model = SymmetricLogistic(penalty=5.0).fit(odd, even, np.eye(3)[y], np.ones(len(y)))
    slope = model.predict_proba(odd, even) - np.eye(3)[y]
    np.testing.assert_allclose(odd.T @ (slope[:, 0] - slope[:, 1]), -5 * model.odd_, atol=0.02)
    np.testing.assert_allclose(even.T @ slope[:, 2], -5 * model.even_, atol=0.02)
    assert abs(slope[:, 2].sum()) < 0.02


def test_soft_labels_are_votes_by_their_share(world) -> None:
    odd, even, y = world
    soft = np.eye(3)[y] * 0.7 + 0.1
    split = SymmetricLogistic().fit(
        csr_array(vstack([odd] * 3)), csr_array(vstack([even] * 3)), np.repeat(np.eye(3), 300, axis=0),
        soft.T.ravel(),
    )  # fmt: skip
    whole = SymmetricLogistic().fit(odd, even, soft, np.ones(300))
    np.testing.assert_allclose(whole.predict_proba(odd, even), split.predict_proba(odd, even), atol=1e-3)


def test_exchange_is_exact(world) -> None:
    odd, even, y = world
    model = SymmetricLogistic().fit(odd, even, np.eye(3)[y], np.ones(len(y)))
    assert np.array_equal(model.predict_proba(-odd, even), swap_answers(model.predict_proba(odd, even)))
