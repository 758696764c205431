"""Decisions of a shipped judge: a, b, tie or none, symmetric, and why there may be none at all."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_models import judge_folder, swapped, votes

import tiebreak
from tiebreak.errors import TiebreakError
from tiebreak.judge import package

pytestmark = pytest.mark.slow

OTHER = {"a": "b", "b": "a", "tie": "tie", None: None}


def test_what_is_certain_enough_is_decided() -> None:
    judge = tiebreak.load(judge_folder(guarantees=True), device="cpu")
    table = votes(60, seed=7)
    p_NC, found = judge.predict(table), judge.decide(table, max_error=0.2)
    expected = [("a", "b", "tie")[p_C.argmax()] if p_C.max() >= found.certain_from else None for p_C in p_NC]
    assert found.labels == expected
    assert found.share == np.mean([label is not None for label in expected]) > 0.5
    assert judge.decide(swapped(table), max_error=0.2).labels == [OTHER[label] for label in found.labels]
    stricter = judge.decide(table, max_error=0.12)
    assert stricter.certain_from >= found.certain_from
    assert judge.decide([], max_error=0.2).labels == []


def test_prediction_sets_hold_the_likeliest() -> None:
    judge = tiebreak.load(judge_folder(guarantees=True), device="cpu")
    table = votes(20, seed=7)
    for p_C, small, large in zip(
        judge.predict(table),
        judge.prediction_sets(table, 0.5),
        judge.prediction_sets(table, 0.99),
        strict=True,
    ):
        assert ("a", "b", "tie")[p_C.argmax()] in small
        assert small <= large


def test_a_bound_that_the_votes_do_not_show_names_the_one_they_do() -> None:
    judge = tiebreak.load(judge_folder(guarantees=True), device="cpu")
    with pytest.raises(
        TiebreakError, match=r"below 0.01 is not shown by the 400 .* they show 0\.\d+ at the least"
    ) as refused:
        judge.decide(votes(2), max_error=0.01)
    smallest = float(str(refused.value).partition("they show ")[2].split()[0])
    judge.decide(votes(2), max_error=smallest)
    for wrong in (0, 1, 20):
        with pytest.raises(TiebreakError, match="between 0 and 1"):
            judge.decide(votes(2), max_error=wrong)
        with pytest.raises(TiebreakError, match="between 0 and 1"):
            judge.prediction_sets(votes(2), coverage=wrong)


def test_an_older_model_says_how_to_get_its_counts() -> None:
    judge = tiebreak.load(judge_folder(), device="cpu")
    for ask in (judge.decide, judge.prediction_sets):
        with pytest.raises(TiebreakError, match=r"holds no counts of unseen votes.* tiebreak run RECIPE"):
            ask(votes(2))


def test_damaged_counts_are_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(judge_folder(guarantees=True), tmp_path / "model"))
    kept = json.loads((folder / package.NAME).read_text())
    kept["guarantees"]["wrong"][0] = 10**6
    (folder / package.NAME).write_text(json.dumps(kept))
    with pytest.raises(TiebreakError, match="damaged: guarantees"):
        tiebreak.load(folder, device="cpu")
