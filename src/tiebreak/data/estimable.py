"""The part of a multinomial logit that votes can tell: finite estimates, and parameters that can be told apart.

Where one side of a comparison always wins, the likelihood has no maximum: it grows along a direction of
recession. In the limit the outcomes that this direction rules out have probability 0, and the rest is estimated
from what remains (Geyer, Electronic Journal of Statistics 3, 2009). What remains may say nothing of some
parameters, as of the strengths of models that never met.

Dimension letters: P pairs of models, C outcomes (a, b, tie), F parameters, R of them that can be told, K
contrasts of an outcome that was seen with another one of its pair.
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


def estimable(index_P4: Ints, features_C4: Floats, seen_PC: Flags, parameters: int) -> tuple[Flags, Floats]:
    """Outcomes (P, C) whose probability is above 0 in the limit, and a basis (F, R) of what can be told.

    index_P4: the parameters of a pair. features_C4: what an outcome's logit has of each of them. seen_PC:
    outcomes that a pair had. A function c @ theta of the parameters can be told if c is in the basis' span.
    """
    pair_K, seen_K, other_K = np.nonzero(seen_PC[:, :, None] & ~np.eye(3, dtype=bool))
    contrast_KF = scatter(features_C4[seen_K] - features_C4[other_K], index_P4[pair_K], parameters)
    ruled_out_K = _separated(contrast_KF, seen_PC[pair_K, other_K])
    allowed_PC = np.ones_like(seen_PC)
    allowed_PC[pair_K[ruled_out_K], other_K[ruled_out_K]] = False
    return allowed_PC, _spaces(contrast_KF[~ruled_out_K])[0]


def scatter(values_K4: Floats, index_K4: Ints, parameters: int) -> Any:
    """The sparse matrix (K, F) with four values a row in the columns that index_K4 names."""
    rows_K4 = np.arange(len(values_K4))[:, None].repeat(4, axis=1)
    places = (rows_K4.ravel(), index_K4.ravel())
    return sparse.csr_array((values_K4.ravel(), places), shape=(len(values_K4), parameters))


def _separated(contrast_KF: Any, both_seen_K: Flags) -> Flags:
    """Contrasts that some direction raises while it lowers none: a linear program finds all of them at once.

    Directions keep the contrasts of two outcomes that were both seen; a contrast is raised by any amount, and
    counted up to 1 (Konis, thesis, Oxford 2007).
    """
    kept_KF, parameters = contrast_KF[both_seen_K], contrast_KF.shape[1]
    moved_K = np.abs(contrast_KF @ _spaces(kept_KF)[1]).max(axis=1, initial=0.0) > _TOLERANCE
    found_K = np.zeros(len(both_seen_K), dtype=bool)
    if moved := int(moved_K.sum()):
        raised = linprog(
            np.r_[np.zeros(parameters), -np.ones(moved)],
            A_ub=sparse.hstack([-contrast_KF[moved_K], sparse.eye_array(moved)]),
            b_ub=np.zeros(moved),
            A_eq=sparse.hstack([kept_KF, sparse.csr_array((kept_KF.shape[0], moved))]),
            b_eq=np.zeros(kept_KF.shape[0]),
            bounds=[(None, None)] * parameters + [(0, 1)] * moved,
        )
        found_K[moved_K] = raised.x[parameters:] > 0.5
    return found_K


def _spaces(matrix_KF: Any) -> tuple[Floats, Floats]:
    """Orthonormal bases of a matrix' row space (F, R) and of its null space (F, F - R)."""
    values_F, vectors_FF = np.linalg.eigh((matrix_KF.T @ matrix_KF).toarray())
    zero_F = values_F <= _TOLERANCE * max(values_F.max(initial=0.0), 1.0)
    return vectors_FF[:, ~zero_F], vectors_FF[:, zero_F]
