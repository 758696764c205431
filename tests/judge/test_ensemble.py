"""Ensemble of shipped folders, in Python and from the command line."""

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny_models import base, swapped, votes

import tiebreak
from tiebreak.commands import outputs
from tiebreak.commands.predict import Request, predict
from tiebreak.errors import TiebreakError
from tiebreak.evaluate.compare_predictions import compare_predictions
from tiebreak.judge import package
from tiebreak.judge.ensemble import Ensemble
from tiebreak.model import classifier
from tiebreak.model.merge import save
from tiebreak.recipe.schema import Prompt, Tta
from tiebreak.stats.metrics import Bootstrap, log_loss
from tiebreak.votes.schema import LABELS, swap_answers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    made = []
    for n, family in enumerate(("llama", "gemma2")):
        folder = tmp_path_factory.mktemp("shipped") / "model"
        model = classifier.load(base(family))
        model.model.score.weight.data.normal_(std=0.5, generator=torch.Generator().manual_seed(n))
        save(model, folder)
        tta = Tta(max_tokens=120)
        package.write(package.Package(prompt=Prompt(), tta=tta, calibration={"temperature": 1.0 + n}), folder)
        made.append(folder)
    return made


@pytest.fixture(scope="module")
def votes_and_predictions(folders: list[Path]) -> tuple[pa.Table, np.ndarray]:
    """Votes labelled by the second model, and each model's predictions (n, 2, 3)."""
    table = votes(60)
    x = np.stack([tiebreak.load(folder, device="cpu").predict(table) for folder in folders], axis=1)
    hard = np.eye(3, dtype=np.float32)[x[:, 1].argmax(axis=1)]
    for c, label in enumerate(LABELS):
        column = table.schema.get_field_index(f"p_{label}")
        table = table.set_column(column, f"p_{label}", pa.array(hard[:, c]))
    return table, x


def test_the_weighted_mean_of_calibrated_probabilities(folders, votes_and_predictions) -> None:
    table, x = votes_and_predictions
    np.testing.assert_allclose(Ensemble(folders, device="cpu").predict(table), x.mean(axis=1), rtol=1e-12)
    weighted = Ensemble(folders, weights=[3, 1], device="cpu").predict(table)
    np.testing.assert_allclose(weighted, (3 * x[:, 0] + x[:, 1]) / 4, rtol=1e-12)
    assert np.array_equal(Ensemble(folders[:1], device="cpu").predict(table), x[:, 0])


def test_swapping_the_answers_swaps_the_probabilities_to_the_last_bit(folders, votes_and_predictions) -> None:
    table, _ = votes_and_predictions
    ensemble = Ensemble(folders, weights=[0.3, 0.7], device="cpu")
    assert np.array_equal(ensemble.predict(swapped(table)), swap_answers(ensemble.predict(table)))


def test_weights_are_fitted_on_votes(folders, votes_and_predictions) -> None:
    table, x = votes_and_predictions
    ensemble = Ensemble(folders, device="cpu").fit(table)
    assert ensemble.weights_[1] > 0.9
    labels = x[:, 1].argmax(axis=1)
    assert log_loss(ensemble.predict(table), labels) < log_loss(x.mean(axis=1), labels)
    with pytest.raises(TiebreakError, match="at least 10 prompts, and these have 5"):
        ensemble.fit(table.slice(0, 5))
    with pytest.raises(TiebreakError, match="60 of 60 votes have no label"):
        ensemble.fit(table.set_column(6, "p_a", pa.nulls(60, pa.float32())))


def test_a_file_of_predictions_of_several_models(folders, votes_and_predictions, tmp_path: Path) -> None:
    table, x = votes_and_predictions
    pq.write_table(table, tmp_path / "votes.parquet")
    output = tmp_path / "out.parquet"
    found = predict(Request(folders, [tmp_path / "votes.parquet"], output, (1, 3), device="cpu"))
    assert (found.rows, found.weights) == (60, [0.25, 0.75])
    written = pq.read_table(output)
    p = np.stack([written[f"p_{label}"].to_numpy() for label in LABELS], axis=1)
    np.testing.assert_allclose(p, (x[:, 0] + 3 * x[:, 1]) / 4, rtol=1e-12)
    votes = tmp_path / "votes.parquet"
    found = predict(Request(folders, [votes], output, fit=votes, device="cpu"))
    assert found.weights[1] > 0.9


def test_models_are_scored_as_their_predictions_are(folders, votes_and_predictions, tmp_path: Path) -> None:
    table, _ = votes_and_predictions
    labels = tmp_path / "votes.parquet"
    pq.write_table(table, labels)
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for folder, file in zip(folders, files, strict=True):
        predict(Request([folder], [labels], file, device="cpu"))
    of_models = partial(outputs.predict_table, device="cpu", precision="auto")
    of_files = compare_predictions(files, labels, Bootstrap(40))
    for predictions in (folders, [folders[0], files[1]]):
        found = compare_predictions(predictions, labels, Bootstrap(40), predict=of_models)
        assert [(s.metrics, s.weights) for s in found] == [(s.metrics, s.weights) for s in of_files]
    with pytest.raises(TiebreakError, match=r"has no tiebreak\.json"):
        compare_predictions([folders[0], tmp_path], labels, Bootstrap(40), predict=of_models)


def test_a_missing_folder_is_an_error_before_scoring(folders, tmp_path: Path) -> None:
    with pytest.raises(TiebreakError, match="no model folder at"):
        Ensemble([folders[0], tmp_path / "gone"])


def test_models_may_be_held_in_fewer_bits(folders, votes_and_predictions) -> None:
    table, x = votes_and_predictions
    rounded = Ensemble(folders[1:], device="cpu", precision="fp8").predict(table)
    assert 0 < np.abs(rounded - x[:, 1]).max() < 0.2
    with pytest.raises(
        TiebreakError, match=r"unknown precision 'b16': did you mean 'bf16'.* Valid: auto, bf16"
    ):
        Ensemble(folders[:1], device="cpu", precision="b16").predict(table)


@pytest.mark.parametrize(
    ("folders", "told"),
    [("model", r"folders takes Sequence\[str | Path\]"), ([], "takes a list of model folders")],
)
def test_what_is_no_list_of_folders_is_refused(folders: str | list[str], told: str) -> None:
    with pytest.raises(TiebreakError, match=told):
        Ensemble(folders)
