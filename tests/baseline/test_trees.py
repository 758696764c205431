from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from tiebreak.baseline.trees import Trees


@pytest.fixture(scope="module")
def world():
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 5))
    x[:, 4] = random.integers(3, size=400)
    y = np.clip(np.round(x[:, 0] * x[:, 1] + 0.3 * x[:, 4] + random.normal(size=400) / 2), 0, 2).astype(
        np.int64
    )
    return x, y, random.uniform(0.5, 2, size=400)


SETTINGS = {"learning_rate": 0.1, "max_iter": 20, "max_leaf_nodes": 7}


@pytest.fixture(scope="module")
def trees(world):
    return Trees.fit(*world, **SETTINGS)


def test_probabilities_are_those_of_scikit_learn(world, trees) -> None:
    x, y, weights = world
    reference = HistGradientBoostingClassifier(early_stopping=False, random_state=0, **SETTINGS)
    reference.fit(x, y, sample_weight=weights)
    new = np.random.default_rng(1).normal(scale=3, size=(5000, 5))
    for rows in (x, new):
        np.testing.assert_allclose(trees.predict_proba(rows), reference.predict_proba(rows), atol=1e-12)


def test_a_prediction_does_not_depend_on_other_rows(world, trees) -> None:
    x = world[0]
    alone = np.concatenate([trees.predict_proba(x[n : n + 1]) for n in range(20)])
    assert np.array_equal(alone, trees.predict_proba(x)[:20])


def test_arrays_make_the_same_trees(world, trees) -> None:
    assert np.array_equal(Trees(**trees.arrays()).predict_proba(world[0]), trees.predict_proba(world[0]))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("left_K", lambda array: np.where(np.arange(len(array)) == 1, 0, array)),
        ("right_K", lambda array: array + 10**6),
        ("left_K", lambda array: array.astype(float)),
        ("root_T", lambda array: array[:-1]),
        ("root_T", lambda array: array - 1),
        ("feature_K", lambda array: array - 1),
        ("value_K", lambda array: array[:-1]),
        ("prior_C", lambda array: array[:2]),
    ],
)
def test_what_is_no_tree_is_refused(trees, name, change) -> None:
    with pytest.raises(ValueError, match=r"tree|shape|whole"):
        replace(trees, **{name: change(getattr(trees, name))})
