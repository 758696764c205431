"""Estimability of the parameters of a multinomial logit: separated outcomes, and identified functions.

Where one side of a comparison always wins, the likelihood has no maximum: it grows along a direction of
recession. In the limit the outcomes that this direction rules out have probability 0, and the rest is estimated
from what remains (Geyer, Electronic Journal of Statistics 3, 2009). What remains may not identify some
parameters, such as the strengths of models that were never compared.

Dimension letters: P pairs of models, C outcomes (a, b, tie), F parameters, R of them estimable, K contrasts of an
observed outcome with another one of its pair.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

_TOLERANCE = 1e-8


def estimable(
    index_P4: Ints, features_C4: Floats, observed_PC: Flags, parameters: int
) -> tuple[Flags, Floats]:
    """The outcomes (P, C) with a probability above 0 in the limit, and a basis (F, R) of the estimable functions.

    index_P4: the parameters of a pair. features_C4: their coefficients in an outcome's logit. observed_PC: the
    observed outcomes of a pair. A function c @ theta of the parameters is estimable if c is in the span of the basis.
    """
    pair_K, observed_K, other_K = np.nonzero(observed_PC[:, :, None] & ~np.eye(3, dtype=bool))
    contrast_KF = scatter(features_C4[observed_K] - features_C4[other_K], index_P4[pair_K], parameters)
    separated_K = _separated(contrast_KF, observed_PC[pair_K, other_K])
    allowed_PC = np.ones_like(observed_PC)
    allowed_PC[pair_K[separated_K], other_K[separated_K]] = False
    return allowed_PC, _spaces(contrast_KF[~separated_K])[0]


def scatter(values_K4: Floats, index_K4: Ints, parameters: int) -> Any:
    """A sparse matrix (K, F) with as many values per row, in the columns index_K4."""
    rows_K4 = np.arange(len(values_K4))[:, None].repeat(values_K4.shape[1], axis=1)
    coordinates = (rows_K4.ravel(), index_K4.ravel())
    return sparse.csr_array((values_K4.ravel(), coordinates), shape=(len(values_K4), parameters))


def _separated(contrast_KF: Any, both_observed_K: Flags) -> Flags:
    """The separated contrasts: those that some direction raises while it lowers none, by one linear program.

    Directions keep the contrasts of two outcomes that were both observed; a contrast is raised by any amount, and
    counted up to 1 (Konis, thesis, Oxford 2007).
    """
    kept_KF, parameters = contrast_KF[both_observed_K], contrast_KF.shape[1]
    free_K = np.abs(contrast_KF @ _spaces(kept_KF)[1]).max(axis=1, initial=0.0) > _TOLERANCE
    separated_K = np.zeros(len(both_observed_K), dtype=bool)
    if free := int(free_K.sum()):
        solution = linprog(
            np.r_[np.zeros(parameters), -np.ones(free)],
            A_ub=sparse.hstack([-contrast_KF[free_K], sparse.eye_array(free)]),
            b_ub=np.zeros(free),
            A_eq=sparse.hstack([kept_KF, sparse.csr_array((kept_KF.shape[0], free))]),
            b_eq=np.zeros(kept_KF.shape[0]),
            bounds=[(None, None)] * parameters + [(0, 1)] * free,
        )
        separated_K[free_K] = solution.x[parameters:] > 0.5
    return separated_K


def _spaces(matrix_KF: Any) -> tuple[Floats, Floats]:
    """Orthonormal bases of a matrix's row space (F, R) and of its null space (F, F - R)."""
    values_F, vectors_FF = np.linalg.eigh((matrix_KF.T @ matrix_KF).toarray())
    zero_F = values_F <= _TOLERANCE * max(values_F.max(initial=0.0), 1.0)
    return vectors_FF[:, ~zero_F], vectors_FF[:, zero_F]
