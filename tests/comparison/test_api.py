"""tiebreak.compare and tiebreak.leaderboard, as a caller in Python has them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from json_lines import write
from made_up_votes import all_pairs, drawn, probabilities
from shipped_judge import ship

import tiebreak
from tiebreak.errors import TiebreakError
from tiebreak.judge.judge import Judge


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    return tiebreak.load(ship(tmp_path_factory.mktemp("shipped") / "model", seed=0), device="cpu")


def outputs(prompts: int = 24) -> list[dict[str, Any]]:
    return [
        {"instruction": f"Question {q}?", "output": f"{m} says {q * n}.", "generator": m}
        for q in range(prompts)
        for n, m in enumerate(("ada", "bob", "cyd"), 1)
    ]


def test_all_pairs_are_judged_in_both_orders(judge: Judge) -> None:
    found = tiebreak.compare(judge, outputs())
    assert [pair.rates[0].comparisons for pair in found.pairs] == [24, 24, 24]
    pairs = [
        {"prompt": f"Question {q}?", "response_a": f"ada says {q}.", "response_b": f"bob says {q * 2}."}
        for q in range(24)
    ]
    mean = judge.predict(pairs, both=True).mean(axis=0)
    pair = next(pair for pair in found.pairs if {pair.model, pair.other} == {"ada", "bob"})
    win, loss, tie = mean if pair.model == "ada" else mean[[1, 0, 2]]
    assert [getattr(pair.rates[0], name).value for name in ("win", "loss", "tie")] == pytest.approx(
        [win, loss, tie]
    )


def test_files_a_baseline_and_a_budget(judge: Judge, tmp_path: Path) -> None:
    rows = outputs()
    named = [
        write(tmp_path / f"{m}.jsonl", [{k: v for k, v in row.items() if k != "generator"} for row in rows if row["generator"] == m])
        for m in ("ada", "bob", "cyd")
    ]  # fmt: skip
    found = tiebreak.compare(judge, named, baseline="cyd")
    assert {frozenset((p.model, p.other)) for p in found.pairs} == {
        frozenset(("ada", "cyd")),
        frozenset(("bob", "cyd")),
    }
    spread = tiebreak.compare(judge, rows, budget=30)
    assert [pair.rates[0].comparisons for pair in spread.pairs] == [10, 10, 10]
    with pytest.raises(
        TiebreakError, match="no outputs of the baseline 'zoe'; there are those of ada, bob, cyd"
    ):
        tiebreak.compare(judge, rows, baseline="zoe")


def test_votes_are_on_the_same_texts(judge: Judge) -> None:
    votes = [
        {
            "prompt": f"Question {q}?",
            "response_a": f"bob says {q * 2}.\n",
            "response_b": f" ada says {q}.",
            "winner": "a",
        }
        for q in range(20)
    ]
    found = tiebreak.compare(judge, outputs(), votes)
    pair = next(pair for pair in found.pairs if {pair.model, pair.other} == {"ada", "bob"})
    assert (pair.model, pair.votes) == ("bob", 20)
    assert pair.rates[1].win_rate.value == 1
    mapped = [{"left" if k == "response_a" else k: v for k, v in vote.items()} for vote in votes]
    again = tiebreak.compare(judge, outputs(), mapped, columns={"response_a": "left"})
    assert repr(again.leaderboard) == repr(found.leaderboard), "figures that are NaN too"
    few = tiebreak.compare(judge, outputs(), votes[:4], budget=6)
    assert {pair.votes for pair in few.pairs if {pair.model, pair.other} == {"ada", "bob"}} == {4}
    with pytest.raises(TiebreakError, match="none of the 1 votes is on one of the comparisons"):
        tiebreak.compare(judge, outputs(), [votes[0] | {"response_a": "else"}])


def test_a_leaderboard_of_votes_with_and_without_texts(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    sides, gap, prompts = all_pairs(random, np.array([0.8, 0.0, -0.8]), 60)
    names, labels = np.array(["ada", "bob", "cyd"]), np.array(["a", "b", "tie"])
    winners = labels[drawn(random, probabilities(gap)).argmax(axis=1)]
    rows = [
        {"model_a": str(names[a]), "model_b": str(names[b]), "winner": str(winner), "prompt": f"Q{prompt}?"}
        for (a, b), winner, prompt in zip(sides.tolist(), winners, prompts.tolist(), strict=True)
    ]
    found = tiebreak.leaderboard(rows)
    assert [standing.model for standing in found.standings] == ["ada", "bob", "cyd"]
    assert (found.comparisons, found.prompts, found.source) == (180, 60, "votes")
    apart = tiebreak.leaderboard([{k: v for k, v in row.items() if k != "prompt"} for row in rows])
    assert apart.prompts == 180
    assert [s.elo.value for s in apart.standings] == pytest.approx([s.elo.value for s in found.standings])
    assert tiebreak.leaderboard(write(tmp_path / "votes.jsonl", rows)) == found
    pytest.importorskip("pandas")
    assert "best_rank" in found.to_frame().columns


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        ([], "no votes"),
        ([{"model_a": "x", "model_b": "x", "winner": "a"}], "between x and itself"),
        (
            [{"model_a": "x", "model_b": "y", "winner": "z"}],
            "1 cannot be read, the first is what was given, row 1",
        ),
        (3, "votes are a file, a table or a list of dicts, not 3"),
        (["no.csv"], "no file at no.csv"),
    ],
)
def test_votes_that_are_none(votes: Any, message: str) -> None:
    with pytest.raises(TiebreakError, match=message):
        tiebreak.leaderboard(votes)


def test_votes_that_cannot_be_read_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    votes = [{"model_a": "x", "model_b": "y", "winner": w} for w in ("a", "nobody knows", "b", "a")]
    found = tiebreak.leaderboard(votes)
    assert found.comparisons == 3
    assert "1 vote could not be read, the first: what was given, row 2" in caplog.text


def test_a_number_on_another_scale_refuses_the_votes() -> None:
    """Its other numbers may mean something else too."""
    votes = [
        {"instruction": "q", "output_1": "x", "output_2": "y", "generator_1": "m", "generator_2": "n"}
        | {"preference": preference}
        for preference in (1, 2, 4)
    ]
    with pytest.raises(TiebreakError, match=r"what was given, row 3: .*say what all values mean"):
        tiebreak.leaderboard(votes)
