"""Files of the baseline: arrays in safetensors, so that reading one runs no code."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tiebreak.baseline.inputs import BUCKETS, Inputs
from tiebreak.baseline.linear import SymmetricLogistic
from tiebreak.baseline.model import PARTS, Baseline, Parts
from tiebreak.baseline.trees import Trees
from tiebreak.errors import TiebreakError
from tiebreak.output import replacing
from tiebreak.stats.blend import LogBlend
from tiebreak.votes.schema import table_of

NAME = "baseline.safetensors"

FORMAT = 1
"""The version of the inputs; files of another version are refused."""


def write(baseline: Baseline, folder: Path) -> None:
    """Write baseline.safetensors into a folder."""
    parts = baseline.parts_
    arrays = {
        "format": np.array([FORMAT]),
        "prior": parts.prior_C,
        "centre_even": parts.centre_H,
        "scale_odd": parts.scale_F,
        "scale_even": parts.scale_H,
        "words_odd": parts.words.odd_,
        "words_even": parts.words.even_,
        "words_intercept": np.array([parts.words.intercept_]),
        "blend": baseline.blend_.weights_,
    }
    arrays |= {f"trees_{name}": array for name, array in parts.trees.arrays().items()}
    with replacing(folder / NAME) as file:
        file.write(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def read(folder: Path) -> Baseline:
    """Read the baseline of a folder. Raises TiebreakError where there is none, or it is damaged."""
    path = folder / NAME
    try:
        arrays = load(path.read_bytes())
        trees = {name.removeprefix("trees_"): arrays[name] for name in arrays if name.startswith("trees_")}
        words = SymmetricLogistic()
        words.odd_, words.even_ = arrays["words_odd"], arrays["words_even"]
        words.intercept_ = float(arrays["words_intercept"].item())
        parts = Parts(
            arrays["prior"],
            arrays["centre_even"],
            arrays["scale_odd"],
            arrays["scale_even"],
            words,
            Trees(**trees),
        )
        baseline = Baseline()
        baseline.parts_, baseline.blend_ = parts, LogBlend()
        baseline.blend_.weights_ = arrays["blend"]
        _check(baseline, int(arrays["format"].item()))
    except FileNotFoundError:
        raise TiebreakError(
            f"{folder} has no {NAME}; copy the whole folder that `tiebreak run` made"
        ) from None
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise TiebreakError(
            f"{path} is damaged: {error}; copy it again, or run step baseline again"
        ) from None
    return baseline


def _check(baseline: Baseline, written: int) -> None:
    """Raise ValueError for arrays that do not fit the inputs, or hold values that are not finite."""
    parts, empty_vote = baseline.parts_, Inputs.of(table_of([{}]))
    odd, even = empty_vote.odd_NF.shape[1], empty_vote.even_NG.shape[1]
    shapes = {
        "prior": (parts.prior_C, 3),
        "centre_even": (parts.centre_H, even + odd),
        "scale_odd": (parts.scale_F, odd),
        "scale_even": (parts.scale_H, even + odd),
        "words_odd": (parts.words.odd_, BUCKETS + odd),
        "words_even": (parts.words.even_, 2 * BUCKETS + even + odd),
        "blend": (baseline.blend_.weights_, len(PARTS)),
    }
    if written != FORMAT:
        raise ValueError(f"it is in format {written}, and this version reads {FORMAT}")
    for name, (array, length) in shapes.items():
        if array.shape != (length,) or not np.isfinite(array).all():
            raise ValueError(f"{name} is not {length} finite numbers")
    numbers = (parts.trees.value_K, parts.trees.prior_C, np.array(parts.words.intercept_))
    if (
        not all(np.isfinite(array).all() for array in numbers)
        or parts.trees.feature_K.max(initial=0) >= odd + even
    ):
        raise ValueError("trees name features that there are not, or values that are no numbers")
