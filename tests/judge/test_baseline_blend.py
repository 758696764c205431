"""A judge and a baseline in one folder: blended predictions and refused folders."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import base, swapped, votes, votes_with_gaps

import tiebreak
from tiebreak.baseline import files
from tiebreak.baseline import model as baseline_model
from tiebreak.baseline.model import Baseline
from tiebreak.errors import TiebreakError
from tiebreak.judge import package
from tiebreak.judge.choose_blend import BLENDS
from tiebreak.judge.rules import Rules
from tiebreak.model import classifier
from tiebreak.model.merge import save
from tiebreak.recipe.schema import Prompt, Tta
from tiebreak.votes.schema import probabilities, swap_answers

pytestmark = pytest.mark.slow

LOG = {"way": "log", "weights": [0.7, 0.6]}


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """A judge without a baseline."""
    folder = tmp_path_factory.mktemp("alone") / "model"
    model = classifier.load(base("llama"))
    model.model.score.weight.data.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    save(model, folder)
    rules = Rules().fit(votes_with_gaps(), np.arange(60) % 3).to_json()
    shipped = package.Package(
        prompt=Prompt(), tta=Tta(max_tokens=120), calibration={"temperature": 1.3}, rules=rules
    )
    package.write(shipped, folder)
    return folder


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    table = votes(60, seed=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(baseline_model.TREES, "max_iter", 5)
        return Baseline().fit(table, probabilities(table), np.arange(60))


@pytest.fixture
def folder(alone, baseline, tmp_path) -> Path:
    """The judge with the baseline, blended by their logarithms."""
    joined = tmp_path / "model"
    shutil.copytree(alone, joined)
    files.write(baseline, joined)
    ship(joined, LOG)
    return joined


def ship(folder: Path, blend: dict) -> None:
    shipped = package.read(folder).model_copy(update={"blend": blend})
    package.write(shipped, folder)


def fitted(name: str):
    random = np.random.default_rng(0)
    x = random.dirichlet(np.ones(3), size=(200, 2))
    return type(BLENDS[name])().fit(x, random.integers(3, size=200))


@pytest.mark.parametrize("name", BLENDS)
def test_the_blend_lies_between_calibration_and_rules(name, alone, folder, baseline) -> None:
    blend, table = fitted(name), votes_with_gaps()
    ship(folder, blend.to_json())
    shipped = package.read(alone)
    package.write(shipped.model_copy(update={"rules": None}), alone)
    predictions = tiebreak.load(alone, device="cpu").predict(table)
    package.write(shipped, alone)
    both = blend.predict_proba(np.stack([predictions, baseline.predict_proba(table)], axis=1))
    found = tiebreak.load(folder, device="cpu").predict(table)
    np.testing.assert_allclose(found, Rules.from_json(shipped.rules).apply(table, both), atol=1e-12)
    assert np.abs(found - predictions).max() > 0.05


@pytest.mark.parametrize("name", BLENDS)
def test_swapping_the_answers_swaps_the_probabilities_to_the_last_bit(name, folder) -> None:
    ship(folder, fitted(name).to_json())
    judge, table = tiebreak.load(folder, device="cpu"), votes_with_gaps()
    assert np.array_equal(judge.predict(swapped(table)), swap_answers(judge.predict(table)))


def test_without_its_file_or_with_another_one_the_judge_does_not_load(folder) -> None:
    path = folder / files.NAME
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(TiebreakError, match=f"the content of {files.NAME} is not what was written"):
        tiebreak.load(folder, device="cpu")
    path.unlink()
    with pytest.raises(TiebreakError, match=f"has no {files.NAME}"):
        tiebreak.load(folder, device="cpu")


def test_an_older_package_with_the_baselines_hash_in_the_blend_loads(folder) -> None:
    before = tiebreak.load(folder, device="cpu").predict(votes_with_gaps())
    ship(folder, LOG | {"sha256": package.read(folder).files[files.NAME]})
    assert np.array_equal(tiebreak.load(folder, device="cpu").predict(votes_with_gaps()), before)


@pytest.mark.parametrize("blend", [{"way": "log"}, {"way": "mean"}, {**LOG, "weights": 3}])
def test_an_invalid_blend_is_refused(folder, blend) -> None:
    path = folder / package.NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"blend": blend}))
    with pytest.raises(TiebreakError, match=r"damaged: blend: .* is no blend"):
        tiebreak.load(folder, device="cpu")
