"""Gradient-boosted trees as plain arrays, fitted by scikit-learn and evaluated by numpy.

Dimension letters: N rows, F features, T trees (three per round: a, b, tie), K nodes of all trees, C classes.
"""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from tiebreak.stats.calibration import softmax

Array = NDArray[np.float64]
Index = NDArray[np.int64]

ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class Trees:
    """The nodes of all trees in one array: an inner node passes a row with x[feature] <= threshold to its left child,
    others to its right one; a leaf, its own child, adds its value to its tree's class. Children come after parents.

    root (T,), prior (3,), and of each node: feature, threshold, left, right, value (K,). Raises ValueError for
    arrays that are no trees.
    """

    root_T: Index
    prior_C: Array
    feature_K: Index
    threshold_K: Array
    left_K: Index
    right_K: Index
    value_K: Array

    def __post_init__(self) -> None:
        nodes = np.arange(len(self.feature_K))
        for name in ("threshold_K", "left_K", "right_K", "value_K"):
            if getattr(self, name).shape != nodes.shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, not {nodes.shape}")
        if any(index.dtype.kind != "i" for index in (self.root_T, self.feature_K, self.left_K, self.right_K)):
            raise ValueError("nodes are not numbered in whole numbers")
        leaf_K = (self.left_K == nodes) & (self.right_K == nodes)
        inner_K = (self.left_K > nodes) & (self.right_K > nodes)
        references = np.concatenate([self.left_K, self.right_K, self.root_T])
        if not (leaf_K | inner_K).all() or (references >= len(nodes)).any() or (self.root_T < 0).any():
            raise ValueError("nodes do not form trees")
        if len(self.root_T) % 3 or self.prior_C.shape != (3,) or (self.feature_K < 0).any():
            raise ValueError("there are no three trees a round, or features out of range")

    @classmethod
    def fit(cls, x_NF: Array, y_N: Index, weights_N: Array | None, **settings: float) -> Self:
        """Fit a HistGradientBoostingClassifier on class numbers (n,), of which all three occur, and take its trees."""
        booster = HistGradientBoostingClassifier(early_stopping=False, random_state=0, **settings)
        booster.fit(x_NF, y_N, sample_weight=weights_N)
        nodes = [tree.nodes for trees in booster._predictors for tree in trees]
        starts = np.cumsum([0, *map(len, nodes)])
        all_nodes, node_K = np.concatenate(nodes), np.arange(starts[-1])
        offset_K = np.repeat(starts[:-1], list(map(len, nodes)))
        is_leaf = all_nodes["is_leaf"].astype(bool)
        return cls(
            root_T=starts[:-1],
            prior_C=booster._baseline_prediction.ravel().astype(np.float64),
            feature_K=np.where(is_leaf, 0, all_nodes["feature_idx"]).astype(np.int64),
            threshold_K=np.where(is_leaf, 0.0, all_nodes["num_threshold"]),
            left_K=np.where(is_leaf, node_K, all_nodes["left"] + offset_K),
            right_K=np.where(is_leaf, node_K, all_nodes["right"] + offset_K),
            value_K=np.where(is_leaf, all_nodes["value"], 0.0),
        )

    def predict_proba(self, x_NF: Array) -> Array:
        """Probabilities (n, 3); those of a row do not depend on the others."""
        parts = range(0, max(len(x_NF), 1), ROWS_AT_ONCE)
        return np.concatenate([self._part(x_NF[start : start + ROWS_AT_ONCE]) for start in parts])

    def _part(self, x_NF: Array) -> Array:
        node_NT = np.tile(self.root_T, (len(x_NF), 1))
        while True:
            goes_left = np.take_along_axis(x_NF, self.feature_K[node_NT], axis=1) <= self.threshold_K[node_NT]
            below_NT = np.where(goes_left, self.left_K[node_NT], self.right_K[node_NT])
            if np.array_equal(below_NT, node_NT):
                break
            node_NT = below_NT
        value_NRC = self.value_K[node_NT].reshape(len(x_NF), -1, 3)
        z_NC = np.tile(self.prior_C, (len(x_NF), 1))
        for r in range(value_NRC.shape[1]):  # one by one, because a sum over an axis has no fixed order
            z_NC += value_NRC[:, r]
        return softmax(z_NC)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The arrays by name, for `Trees(**arrays)`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
