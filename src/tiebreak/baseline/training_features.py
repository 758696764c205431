"""Training features: a summary of how the votes looked that a judge was trained on, to tell votes that do not look like them.

Mean and covariance of the baseline's plain features, and the distances at which training votes lie from the others. No texts. It is
kept in safetensors beside the model.

Dimension letters: N votes, H features (even ones and the sizes of odd ones), Q quantiles.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save
from scipy.linalg import cho_factor, cho_solve
from sklearn.covariance import ledoit_wolf

from tiebreak.baseline.inputs import Inputs
from tiebreak.baseline.model import even_and_sizes
from tiebreak.errors import TiebreakError
from tiebreak.output import replacing
from tiebreak.stats.nested_cv import splits

Array = NDArray[np.float64]

NAME = "training_features.safetensors"
FORMAT = 1
FOLDS = 3
QUANTILES = 201
LEAST_SCALE = 1e-2
"""The least standard deviation that a feature is divided by: one that hardly varied says little by a small change."""


@dataclass(frozen=True)
class TrainingFeatures:
    """centre_H and scale_H: mean and standard deviation. correlation_HH: of the scaled features, shrunk (Ledoit and Wolf,
    Journal of Multivariate Analysis 88, 2004). distance_Q: quantiles of held-out training votes' distances.
    """

    centre_H: Array
    scale_H: Array
    correlation_HH: Array
    distance_Q: Array

    @classmethod
    def fit(cls, inputs: Inputs, groups_N: NDArray[np.integer]) -> Self:
        """Summarise votes on two prompts or more. A distance is measured from the votes of other folds of prompts (n,), as it
        will be for new votes: those that a covariance is estimated from lie closer.
        """
        x_NH = even_and_sizes(inputs)
        distance_N = np.empty(len(x_NH))
        for fit, held_out in splits(groups_N, min(FOLDS, len(np.unique(groups_N)))):
            distance_N[held_out] = _distances(x_NH[held_out], *_moments(x_NH[fit]))
        return cls(*_moments(x_NH), np.quantile(distance_N, np.linspace(0, 1, QUANTILES)))

    def ranks(self, inputs: Inputs) -> Array:
        """For each vote (n,) the share of training votes that look more usual: about uniform for votes like those.

        By Mahalanobis distance.
        """
        distance_N = _distances(even_and_sizes(inputs), self.centre_H, self.scale_H, self.correlation_HH)
        ranks_N: Array = np.interp(distance_N, self.distance_Q, np.linspace(0, 1, QUANTILES))
        return ranks_N


def ranks_of(features: TrainingFeatures, pairs: pa.Table) -> Array:
    """`ranks` of pairs in votes.schema.SCHEMA, one or more."""
    return features.ranks(Inputs.of(pairs))


def write(features: TrainingFeatures, folder: Path) -> None:
    """Write training_features.safetensors into a folder."""
    arrays = {"format": np.array([FORMAT]), **vars(features)}
    with replacing(folder / NAME) as file:
        file.write(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def read(folder: Path) -> TrainingFeatures | None:
    """The summary in a folder; None where there is none. Raises TiebreakError where it is damaged or of another version."""
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        arrays = load(path.read_bytes())
        written = int(arrays.pop("format").item())
        found = TrainingFeatures(**arrays)
        size = len(found.centre_H)
        shapes = {"scale_H": (size,), "correlation_HH": (size, size), "distance_Q": (QUANTILES,)}
        if written != FORMAT:
            raise ValueError(f"it is in format {written}, and this version reads {FORMAT}")
        for name, shape in shapes.items():
            array = getattr(found, name)
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"{name} is not {shape} finite numbers")
        cho_factor(found.correlation_HH)
    except (ValueError, KeyError, TypeError, np.linalg.LinAlgError, SafetensorError) as error:
        raise TiebreakError(f"{path} is damaged: {error}; copy it again") from None
    return found


def _moments(x_NH: Array) -> tuple[Array, Array, Array]:
    centre_H, scale_H = x_NH.mean(axis=0), np.maximum(x_NH.std(axis=0), LEAST_SCALE)
    correlation_HH, _ = ledoit_wolf((x_NH - centre_H) / scale_H, assume_centered=True)
    return centre_H, scale_H, correlation_HH


def _distances(x_NH: Array, centre_H: Array, scale_H: Array, correlation_HH: Array) -> Array:
    scaled_NH = (x_NH - centre_H) / scale_H
    solved_HN = cho_solve(cho_factor(correlation_HH), scaled_NH.T)
    distance_N: Array = np.sqrt(np.maximum((scaled_NH * solved_HN.T).sum(axis=1), 0))
    return distance_N
