import numpy as np
import pytest

from tiebreak.judge.choose_blend import BLENDS, choose_blend
from tiebreak.judge.logits import softmax
from tiebreak.stats.blend import LogBlend, from_json
from tiebreak.stats.metrics import log_loss
from tiebreak.votes.schema import swap_answers

pytestmark = pytest.mark.slow


def world(votes: int, known: float, seed: int = 0):
    """Two models that know different parts of the truth, the second a part of size `known`."""
    random = np.random.default_rng(seed)
    one, two = random.normal(size=(2, votes, 3))
    y = np.array([random.choice(3, p=p) for p in softmax(one + known * two)])
    return np.stack([softmax(one), softmax(known * two)], axis=1), np.eye(3)[y], np.arange(votes) // 2


def test_a_better_baseline_is_blended() -> None:
    x, y, groups = world(600, known=1.0)
    joining = choose_blend(x, y, groups, "auto")
    assert joining.name == "log"  # the truth is a log blend
    np.testing.assert_allclose(joining.blend.weights_, 1, atol=0.25)
    assert joining.change.high < 0
    new, labels, _ = world(2000, known=1.0, seed=1)
    assert log_loss(joining.blend.predict_proba(new), labels) < log_loss(new[:, 0], labels) - 0.05


@pytest.mark.parametrize("seed", range(3))
def test_an_uninformative_baseline_is_left_out(seed) -> None:
    x, y, groups = world(600, known=0.0, seed=seed)
    joining = choose_blend(x, y, groups, "auto")
    assert (joining.name, joining.blend) == ("none", None)
    assert joining.change.high >= 0


def test_none_and_too_few_prompts_choose_no_blend() -> None:
    x, y, groups = world(600, known=1.0)
    assert choose_blend(x, y, groups, "none").change is None
    assert choose_blend(x[:40], y[:40], np.arange(40) // 5, "auto").blend is None


@pytest.mark.parametrize("name", BLENDS)
def test_a_named_blend_is_fitted(name) -> None:
    x, y, groups = world(200, known=0.0)
    joining = choose_blend(x, y, groups, name)
    assert joining.name == name
    expected = type(BLENDS[name])().fit(x, y).predict_proba(x)
    assert np.array_equal(joining.blend.predict_proba(x), expected)
    assert not hasattr(BLENDS[name], "weights_")


@pytest.mark.parametrize("name", BLENDS)
def test_a_blend_goes_through_json_and_stays_symmetric(name) -> None:
    x, y, _ = world(200, known=1.0)
    blend = BLENDS[name].__class__().fit(x, y)
    read = from_json(blend.to_json())
    assert type(read) is type(blend)
    assert np.array_equal(read.predict_proba(x), blend.predict_proba(x))
    assert np.array_equal(read.predict_proba(swap_answers(x)), swap_answers(read.predict_proba(x)))


@pytest.mark.parametrize(
    "state",
    [{}, {"way": "mean", "weights": [1.0]}, {"way": "log"}, {"way": "log", "weights": [[1.0]]},
     {"way": "linear", "weights": [float("nan")]}, {"way": "log", "weights": ["x"]},
     {"way": "matrix", "coef": [[[1.0]]], "intercept": [0.0]}],
)  # fmt: skip
def test_an_invalid_blend_is_refused(state) -> None:
    with pytest.raises((KeyError, ValueError, TypeError)):
        from_json(state)


def test_an_unfitted_blend_has_no_predictions() -> None:
    with pytest.raises(AttributeError):
        LogBlend().to_json()
