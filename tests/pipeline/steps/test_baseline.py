"""Baseline step: its files and its training votes."""

import json

import numpy as np
import pyarrow as pa
import pytest
from learnable_votes import learnable_votes

from tiebreak.baseline import files, model
from tiebreak.baseline.model import Baseline
from tiebreak.evaluate.build_metrics import labelled_votes
from tiebreak.judge.logits import of_split, read, softmax
from tiebreak.pipeline.steps import baseline
from tiebreak.runtime import Runtime
from tiebreak.stats.calibration import TemperatureScaling
from tiebreak.stats.metrics import log_loss
from tiebreak.votes import splits
from tiebreak.votes.schema import CALIBRATION, EXTRA, LOCKBOX, probabilities, read_table, weights, write_table

FOLDS = np.r_[np.arange(100) % 2, np.full(10, EXTRA), np.full(20, LOCKBOX), np.full(30, CALIBRATION)]


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch) -> None:
    monkeypatch.setitem(model.TREES, "max_iter", 5)


def run(folder, fold=FOLDS):
    votes = learnable_votes(len(fold))
    rows = votes.append_column("group", votes["id"]).append_column("fold", pa.array(fold, pa.int8()))
    write_table(rows, folder / "rows.parquet")
    output = folder / "out"
    output.mkdir()
    return (
        rows,
        output,
        baseline.run(baseline.Settings(), {"rows": (folder,)}, output, Runtime("cpu", folder)),
    )


def test_the_baseline_trains_on_all_but_lockbox_and_calibration_side(tmp_path) -> None:
    rows, output, metrics = run(tmp_path)
    training = rows.slice(0, 110)
    truth = labelled_votes(training)
    expected = Baseline().fit(training, truth.y_NC, truth.groups_N, weights(training))
    found = files.read(output)
    assert metrics["votes"] == 110
    assert metrics["out_of_fold_log_loss"] == log_loss(expected.out_of_fold_, truth.y_NC)
    assert np.array_equal(found.predict_proba(rows), expected.predict_proba(rows))


def test_logits_are_its_predictions_in_both_orders(tmp_path) -> None:
    rows, output, _ = run(tmp_path)
    scored = read([output])
    assert [logits.split for logits in scored] == ["calibration", "lockbox"]
    for split, side in (("calibration", splits.calibration(rows)), ("lockbox", splits.lockbox(rows))):
        (logits,) = of_split(scored, split)
        z = logits.z_NOC
        assert logits.ids == side["id"].to_pylist()
        assert np.array_equal(z[:, 0], z[:, 1])
        np.testing.assert_allclose(softmax(z[:, 0]), files.read(output).predict_proba(side), atol=1e-6)


def test_its_temperature_is_fitted_on_the_calibration_side(tmp_path) -> None:
    rows, output, metrics = run(tmp_path)
    aside = splits.calibration(rows)
    expected = TemperatureScaling().fit(files.read(output).predict_proba(aside), probabilities(aside))
    assert json.loads((output / "calibration.json").read_text()) == {"temperature": expected.temperature_}
    assert metrics["temperature"] == expected.temperature_


def test_without_a_calibration_side_it_is_calibrated_out_of_fold(tmp_path) -> None:
    rows, output, metrics = run(tmp_path, FOLDS[FOLDS != CALIBRATION])
    training = splits.training_votes(rows, LOCKBOX)
    labelled = labelled_votes(training)
    p_NC = Baseline().fit(training, labelled.y_NC, labelled.groups_N, weights(training)).out_of_fold_
    expected = TemperatureScaling().fit(p_NC, labelled.y_NC).temperature_
    # the blend, fitted there too, was held near the class shares
    assert metrics["temperature"] == pytest.approx(expected)
    assert expected < 1
    assert json.loads((output / "learning_curve.json").read_text()) is None
    assert set(read_table(output / "logits.parquet")["split"].to_pylist()) == {"lockbox"}


def test_its_learning_curve_is_of_the_calibration_side(tmp_path) -> None:
    fold = np.r_[np.zeros(420), np.full(20, LOCKBOX), np.full(30, CALIBRATION)]
    rows, output, _ = run(tmp_path, fold)
    found = json.loads((output / "learning_curve.json").read_text())
    aside = splits.calibration(rows)
    assert [row["votes"] for row in found["rows"]] == [420, 210, 105]
    assert found["unseen_votes"] == len(aside)
    expected = log_loss(files.read(output).predict_proba(aside), probabilities(aside))
    assert found["rows"][0]["log_loss"]["value"] == pytest.approx(expected)
    assert found["gain"]["low"] < found["gain"]["value"] < found["gain"]["high"]
