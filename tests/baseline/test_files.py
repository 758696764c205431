import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tiebreak.baseline import files
from tiebreak.errors import TiebreakError


@pytest.fixture(scope="module")
def folder(baseline, tmp_path_factory):
    path = tmp_path_factory.mktemp("baseline")
    files.write(baseline, path)
    return path


@pytest.fixture
def copied(folder, tmp_path):
    shutil.copy(folder / files.NAME, tmp_path)
    return tmp_path


def test_what_is_read_predicts_the_same_to_the_last_bit(baseline, folder, votes, odd_votes) -> None:
    read = files.read(folder)
    for table in (votes, odd_votes):
        assert np.array_equal(read.predict_proba(table), baseline.predict_proba(table))


def test_the_same_model_is_the_same_file(baseline, folder, tmp_path) -> None:
    files.write(baseline, tmp_path)
    assert (tmp_path / files.NAME).read_bytes() == (folder / files.NAME).read_bytes()


def test_a_missing_file_is_an_error(tmp_path) -> None:
    with pytest.raises(TiebreakError, match=r"has no baseline.safetensors; copy the whole folder"):
        files.read(tmp_path)


@pytest.mark.parametrize("size", [0, 7, 5000])
def test_a_file_cut_short_is_an_error(copied, size) -> None:
    path = copied / files.NAME
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(TiebreakError, match="damaged"):
        files.read(copied)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("format", lambda array: array + 1),
        ("words_odd", lambda array: array[:-1]),
        ("words_even", lambda array: array * np.nan),
        ("words_intercept", lambda array: np.zeros(2)),
        ("prior", lambda array: array[None]),
        ("blend", lambda array: array[:2]),
        ("trees_left_K", lambda array: array - 1),
        ("trees_feature_K", lambda array: array + 1000),
        ("trees_value_K", lambda array: array * np.inf),
        ("trees_root_T", lambda array: array.astype(np.float32)),
        ("trees_prior_C", None),
        ("scale_odd", None),
    ],
)
def test_tampered_arrays_are_an_error(copied, name, change) -> None:
    arrays = load_file(copied / files.NAME)
    array = arrays.pop(name)
    if change:
        with np.errstate(invalid="ignore"):
            arrays[name] = np.ascontiguousarray(change(array))
    save_file(arrays, copied / files.NAME)
    with pytest.raises(TiebreakError, match=r"damaged: .*; copy it again"):
        files.read(copied)
