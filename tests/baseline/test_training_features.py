import shutil

import numpy as np
import pytest
from learnable_votes import learnable_votes
from safetensors.numpy import load_file, save_file
from scipy.spatial.distance import mahalanobis

from tiebreak.baseline import training_features
from tiebreak.baseline.inputs import Inputs
from tiebreak.baseline.model import even_and_sizes
from tiebreak.baseline.training_features import QUANTILES, TrainingFeatures
from tiebreak.errors import TiebreakError
from tiebreak.votes.schema import table_of


@pytest.fixture(scope="module")
def features(votes) -> TrainingFeatures:
    return TrainingFeatures.fit(Inputs.of(votes), np.arange(len(votes)))


@pytest.fixture
def folder(features, tmp_path):
    training_features.write(features, tmp_path)
    return tmp_path


def test_votes_of_the_same_kind_rank_evenly(features):
    ranks = training_features.ranks_of(features, learnable_votes(400, seed=9))
    assert ranks.mean() == pytest.approx(0.5, abs=0.05)
    assert (ranks > 0.95).mean() < 0.08


def test_votes_of_another_kind_rank_high(features):
    code = "```python\nprint('x')\n```\n# Heading\n- item\n1. number **bold** https://example.org"
    other = table_of(
        {
            "id": str(n),
            "prompt": ["Δώσε μου 3 λίστες?"],
            "response_a": [code * (n + 2)],
            "response_b": ["Όχι!"],
        }
        for n in range(20)
    )
    assert (training_features.ranks_of(features, other) > 0.95).all()


def test_ranks_are_by_mahalanobis_distance(features, votes):
    inputs = Inputs.of(votes.slice(0, 30))
    scaled = (even_and_sizes(inputs) - features.centre_H) / features.scale_H
    inverse = np.linalg.inv(features.correlation_HH)
    distance = [mahalanobis(row, np.zeros(len(row)), inverse) for row in scaled]
    expected = np.interp(distance, features.distance_Q, np.linspace(0, 1, QUANTILES))
    assert features.ranks(inputs) == pytest.approx(expected, abs=1e-6)


def test_exchanging_the_answers_changes_nothing(features, votes):
    swapped = votes.rename_columns(
        [
            {"response_a": "response_b", "response_b": "response_a"}.get(name, name)
            for name in votes.column_names
        ]
    ).select(votes.column_names)
    ranks, others = (training_features.ranks_of(features, table) for table in (votes, swapped))
    assert others == pytest.approx(ranks, abs=1e-9)


def test_what_is_read_is_what_was_written(features, folder, votes):
    read = training_features.read(folder)
    assert np.array_equal(
        training_features.ranks_of(read, votes), training_features.ranks_of(features, votes)
    )
    assert (folder / training_features.NAME).stat().st_size < 300_000


def test_a_folder_without_one_has_none(tmp_path):
    assert training_features.read(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("format", lambda array: array + 1),
        ("scale_H", lambda array: array[:-1]),
        ("distance_Q", lambda array: array * np.nan),
        ("correlation_HH", lambda array: -array),
        ("centre_H", None),
        ("new", lambda _: np.zeros(2)),
    ],
)
def test_tampered_arrays_are_an_error(folder, name, change):
    path = folder / training_features.NAME
    arrays = load_file(path)
    array = arrays.pop(name, None)
    if change:
        arrays[name] = np.ascontiguousarray(change(array))
    save_file(arrays, path)
    with pytest.raises(TiebreakError, match=r"damaged: .*; copy it again"):
        training_features.read(folder)


def test_a_file_cut_short_is_an_error(folder):
    path = folder / training_features.NAME
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TiebreakError, match="damaged"):
        training_features.read(folder)
    shutil.rmtree(folder)
