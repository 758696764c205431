"""The committee: each order by itself, calibrated, the baseline where one ships, and one voice where rules decide."""

from pathlib import Path

import numpy as np
import pytest
from shipped_judge import ship
from tiny_models import swapped, votes, votes_with_gaps

import tiebreak
from tiebreak.baseline import files
from tiebreak.baseline import model as baseline_model
from tiebreak.baseline.model import Baseline
from tiebreak.judge import committee, package
from tiebreak.judge.rules import Rules
from tiebreak.stats.acquisition import disagreement
from tiebreak.votes.schema import probabilities, swap_answers

pytestmark = pytest.mark.slow
VOTES = votes(12, seed=6)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge with rules and without a baseline."""
    folder = ship(tmp_path_factory.mktemp("alone") / "model", seed=0)
    rules = Rules().fit(votes_with_gaps(), np.arange(60) % 3).to_json()
    package.write(package.read(folder).model_copy(update={"rules": rules}), folder)
    return folder


def test_members_are_the_orders_as_the_judge_gives_one(alone: Path) -> None:
    judge = tiebreak.load(alone, device="cpu")
    p_NMC = committee.predictions(judge, VOTES)
    assert p_NMC.shape == (12, 2, 3)
    np.testing.assert_allclose(p_NMC[:, 0], judge.predict_table(VOTES, both=False), atol=1e-6)
    np.testing.assert_allclose(
        p_NMC[:, 1], swap_answers(judge.predict_table(swapped(VOTES), both=False)), atol=1e-6
    )
    assert disagreement(p_NMC).min() > 0


def test_a_baseline_is_a_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(baseline_model.TREES, "max_iter", 5)
    table = votes(60, seed=4)
    baseline = Baseline().fit(table, probabilities(table), np.arange(60))
    folder = ship(tmp_path / "model", seed=0)
    files.write(baseline, folder)
    blend = {"way": "log", "weights": [0.7, 0.6]}
    package.write(package.read(folder).model_copy(update={"blend": blend}), folder)
    p_NMC = committee.predictions(tiebreak.load(folder, device="cpu"), VOTES)
    np.testing.assert_allclose(p_NMC[:, 2], baseline.predict_proba(VOTES), atol=1e-6)


def test_where_rules_decide_nobody_disagrees(alone: Path) -> None:
    judge, table = tiebreak.load(alone, device="cpu"), votes_with_gaps()
    told_N = disagreement(committee.predictions(judge, table))
    ruled_N = judge.postprocessing.rules.applies(table)
    assert ruled_N.any()
    assert told_N[ruled_N] == pytest.approx(0, abs=1e-12)
    assert told_N[~ruled_N].min() > 1e-9


def test_the_next_pairs_of_a_judge(alone: Path) -> None:
    judge = tiebreak.load(alone, device="cpu")
    order = judge.next_pairs(VOTES)
    assert sorted(order) == list(range(12))
    assert judge.next_pairs(VOTES, 4) == order[:4] == judge.next_pairs(VOTES, 4, seed=0)
    assert judge.next_pairs(VOTES, seed=1) != order
    rows = [{"ask": "why", "x": "sky", "y": "red"}]
    assert judge.next_pairs(rows, columns={"prompt": "ask", "response_a": "x", "response_b": "y"}) == [0]
    assert judge.next_pairs([]) == []
    told_N = disagreement(committee.predictions(judge, VOTES))
    first = [judge.next_pairs(VOTES, 1, seed=seed)[0] for seed in range(30)]
    assert told_N[first].mean() > told_N.mean()
