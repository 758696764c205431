"""Postprocessing of logits, and a judge that shows only uncertain pairs in both orders."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from tiny_models import base, swapped, votes, votes_with_gaps

from tiebreak.judge import package, telling
from tiebreak.judge.judge import Judge, load_judge
from tiebreak.judge.logits import mean_over_orders, softmax
from tiebreak.judge.postprocessing import Postprocessing
from tiebreak.judge.rules import Rules, kinds
from tiebreak.judge.tta import first_order
from tiebreak.model import classifier
from tiebreak.model.merge import save
from tiebreak.recipe.schema import Prompt, Tta
from tiebreak.runtime import Event
from tiebreak.stats.calibration import TemperatureScaling
from tiebreak.votes.schema import swap_answers

pytestmark = pytest.mark.slow

TTA = Tta(max_tokens=120, share=0.5)


@pytest.fixture
def table() -> pa.Table:
    return votes_with_gaps()


@pytest.fixture
def z() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(60, 2, 3))


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    folder = tmp_path_factory.mktemp("shipped") / "model"
    model = classifier.load(base("gemma2"))
    model.model.score.weight.data.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    save(model, folder)
    learned = Rules().fit(votes(4), [0, 1, 1, 2])
    learned.counts_[1:] = [[1, 9, 2], [9, 1, 2], [1, 1, 4], [2, 2, 30]]
    shipped = package.Package(
        prompt=Prompt(),
        tta=TTA,
        calibration={"temperature": 1.3},
        certain_from=0.75,
        rules=learned.to_json(),
    )
    package.write(shipped, folder)
    return load_judge(folder, "cpu")


def uncertain(judge: Judge, table: pa.Table, z: np.ndarray) -> np.ndarray:
    first, differ = first_order(table)
    return (softmax(z[np.arange(len(z)), first]).max(axis=1) < judge.package.certain_from) | ~differ


def test_calibration_comes_before_rules(table, z) -> None:
    temperature = TemperatureScaling.from_json({"temperature": 2.0})
    rules = Rules(strength=3.0).fit(table, np.arange(60) % 3)
    p = temperature.predict_proba(mean_over_orders(z))
    found = Postprocessing(Tta(), None, temperature, rules).to_probabilities(table, z)
    np.testing.assert_array_equal(found, rules.apply(table, p))
    assert not np.array_equal(found, p)
    np.testing.assert_array_equal(
        Postprocessing(Tta(), None, temperature, None).to_probabilities(table, z), p
    )


def test_a_judge_predicts_its_postprocessed_logits(judge, table) -> None:
    z = judge.logits(table, both=True)
    found = judge.predict(table)
    # in batches of other rows a tiny model's logits differ in the last bits
    np.testing.assert_allclose(found, judge.postprocessing.to_probabilities(table, z), atol=1e-6)
    assert 10 < uncertain(judge, table, z).sum() < 50
    assert not np.allclose(found, judge.predict(table, both=True), atol=1e-4)


def test_swapping_the_answers_swaps_the_probabilities_to_the_last_bit(judge, table) -> None:
    assert np.array_equal(judge.predict(swapped(table)), swap_answers(judge.predict(table)))


def test_a_prediction_does_not_depend_on_other_rows(judge, table) -> None:
    alone = np.concatenate([judge.predict(table.slice(n, 1)) for n in range(8)])
    np.testing.assert_allclose(alone, judge.predict(table)[:8], atol=1e-6)


def test_certain_pairs_are_scored_once(judge, table) -> None:
    scored = []
    judge.predict(table, progress=lambda event: scored.append((event.ended, event.tasks)))
    z = judge.logits(table, both=True)
    assert {total for _, total in scored} == {60, int(uncertain(judge, table, z).sum())}


def test_a_prediction_tells_of_its_progress(judge, table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each pass the end, and nothing that goes back; of what comes too often not every line."""
    events: list[Event] = []
    monkeypatch.setattr(judge, "score_tokens", 64)
    monkeypatch.setattr(telling, "EVERY", 0.0)
    p_NC = judge.predict(table, both=True, progress=events.append)
    done = [event.ended for event in events]
    assert len(done) > 3
    assert done == sorted(done)
    rows = done[-1]
    assert {event.tasks for event in events} == {rows}
    assert str(events[-1]) == f"[{rows}/{rows}] scoring: {rows} of {rows} rows"
    monkeypatch.setattr(telling, "EVERY", 1e9)
    few: list[Event] = []
    assert np.array_equal(judge.predict(table, both=True, progress=few.append), p_NC)
    assert [event.ended for event in few] == [done[0], rows]


def test_rules_are_shipped_and_applied(judge, table) -> None:
    without = Judge(judge.classifier, judge.package.model_copy(update={"rules": None}), Path())
    found, plain = judge.predict(table), without.predict(table)
    ruled = kinds(table) != 0
    assert ruled.sum() == 9
    np.testing.assert_array_equal(found[~ruled], plain[~ruled])
    expected = (np.array([1, 9, 2]) + 10 * plain[3]) / 22
    np.testing.assert_allclose(found[3], expected)


def test_a_package_without_rules_or_share_is_read(tmp_path: Path) -> None:
    old = {"prompt": {}, "tta": {}, "calibration": {"temperature": 1.5}}
    (tmp_path / package.NAME).write_text(json.dumps(old))
    verdict = Postprocessing.from_package(package.read(tmp_path), tmp_path)
    assert (verdict.rules, verdict.certain_from) == (None, None)
