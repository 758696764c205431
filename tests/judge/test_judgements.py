"""Judgements: the probabilities of `predict`, with the orders shown, who decided and what was cut."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shipped_judge import ship

import tiebreak
from tiebreak.judge import package
from tiebreak.judge.inputs import as_table
from tiebreak.judge.judge import Judge
from tiebreak.judge.rules import KINDS
from tiebreak.recipe.schema import Prompt, Tta

PAIRS = [
    {"prompt": "Is it raining?", "response_a": "Yes, since noon.", "response_b": "Maybe."},
    {"prompt": "Is it raining?", "response_a": "", "response_b": "Maybe."},
    {"prompt": "Why? " * 60, "response_a": "Because. " * 40, "response_b": "I do not know."},
    {"prompt": "Is it raining?", "response_a": "No.", "response_b": "No."},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ship(tmp_path_factory.mktemp("judgements") / "model", seed=3)


def load(folder: Path, copy: Path, **changes: Any) -> Judge:
    """The judge of a folder, with changes to its package."""
    shutil.copytree(folder, copy)
    changes = {"prompt": Prompt(prompt_tokens=40), **changes}
    package.write(package.read(copy).model_copy(update=changes), copy)
    return tiebreak.load(copy, device="cpu")


def test_both_orders_tokens_and_cuts(folder: Path, tmp_path: Path) -> None:
    judge = load(folder, tmp_path / "model")
    found = judge.judgements(as_table(PAIRS)[0])
    np.testing.assert_array_equal(found.p_NC, judge.predict(PAIRS))
    np.testing.assert_allclose(found.p_NOC.sum(axis=2), 1)
    assert found.truncated.tolist() == [False, False, True, False]
    rows = found.kept_N3.sum(axis=1) + found.frame_tokens
    assert rows[2] == 120
    assert found.tokens == 2 * rows.sum()
    assert found[1:3].tokens == 2 * rows[1:3].sum()
    assert found.decided_by == ["model"] * 4


def test_a_certain_pair_is_shown_in_one_order(folder: Path, tmp_path: Path) -> None:
    tta = Tta(max_tokens=120, share=0.5)
    certain = load(folder, tmp_path / "certain", tta=tta, certain_from=0.0).judgements(as_table(PAIRS)[0])
    one = (certain.p_NOC == 0).all(axis=2).any(axis=1)
    assert one.tolist() == [True, True, True, False], "equal answers are shown in both"
    assert certain.tokens == ((2 - one) * (certain.kept_N3.sum(axis=1) + certain.frame_tokens)).sum()
    both = load(folder, tmp_path / "both").judgements(as_table(PAIRS)[0])
    np.testing.assert_allclose(np.where(certain.p_NOC == 0, both.p_NOC, certain.p_NOC), both.p_NOC, atol=1e-6)


def test_rules_decide_on_the_kinds_that_they_know(folder: Path, tmp_path: Path) -> None:
    counts = {kind: [0.0, 0.0, 0.0] for kind in KINDS[1:]} | {"identical": [0.0, 0.0, 5.0]}
    judge = load(folder, tmp_path / "model", rules={"strength": 10.0, "counts": counts})
    assert judge.judgements(as_table(PAIRS)[0]).decided_by == ["model", "model", "model", "rule"]
