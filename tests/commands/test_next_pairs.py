"""The pairs to vote on next: which rows come, in which order, what they tell, and going on after a stop."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from json_lines import read, write
from shipped_judge import ship

import tiebreak as library
from tiebreak.commands import pieces, row_files
from tiebreak.commands.next_pairs import Choice, next_pairs
from tiebreak.commands.pieces import Files
from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.judge import committee
from tiebreak.judge.inputs import as_table
from tiebreak.stats.acquisition import disagreement

pytestmark = pytest.mark.slow


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "n": n,
            "prompt": f"Question {n}?",
            "response_a": f"yes {n}",
            "response_b": "no" * (n + 1),
            "tag": ["x"],
        }
        for n in range(count)
    ]


def told(model: Path, pairs: list[dict[str, Any]]) -> dict[int, float]:
    found = disagreement(committee.predictions(library.load(model, device="cpu"), as_table(pairs)[0]))
    return dict(zip((pair["n"] for pair in pairs), found.tolist(), strict=True))


def choose(source: Path, output: Path, *models: Path, **options: Any) -> Any:
    return next_pairs(Files([source], output), Choice(models, device="cpu", **options))


def test_rows_keep_their_columns_and_tell_how_much_is_disagreed_but_not_on_what(
    model: Path, tmp_path: Path
) -> None:
    given = rows(9)
    found = choose(write(tmp_path / "in.jsonl", given), tmp_path / "out.jsonl", model)
    assert (found.rows, found.chosen, found.voted) == (9, 9, 0)
    expected = told(model, given)
    written = read(tmp_path / "out.jsonl")
    for row in written:
        assert list(row) == [*given[0], "disagreement"]
        assert {name: row[name] for name in given[0]} == given[row["n"]]
        assert row["disagreement"] == pytest.approx(expected[row["n"]], abs=1e-6)
    assert sorted(row["n"] for row in written) == list(range(9))
    choose(tmp_path / "in.jsonl", tmp_path / "few.jsonl", model, count=3)
    assert read(tmp_path / "few.jsonl") == written[:3]
    choose(tmp_path / "in.jsonl", tmp_path / "other.jsonl", model, seed=1)
    assert [row["n"] for row in read(tmp_path / "other.jsonl")] != [row["n"] for row in written]


def test_every_kind_of_file_has_the_same_rows(model: Path, tmp_path: Path) -> None:
    given = rows(5)
    for name in ("in.jsonl", "in.csv", "in.parquet"):
        row_files.write(lambda: given, tmp_path / name)
    for name in ("in.jsonl", "in.csv", "in.parquet"):
        for output in ("out.jsonl", "out.csv", "out.parquet"):
            choose(tmp_path / name, tmp_path / output, model, count=3)
        with (tmp_path / "out.csv").open() as file:
            found = [[int(row["n"]) for row in csv.DictReader(file)]]
        found += [[int(row["n"]) for row in pq.read_table(tmp_path / "out.parquet").to_pylist()]]
        assert [int(row["n"]) for row in read(tmp_path / "out.jsonl")] == found[0] == found[1]


def test_a_pair_with_a_vote_is_left_out_whichever_answer_was_a_and_no_pair_comes_twice(
    model: Path, tmp_path: Path
) -> None:
    given = rows(6)
    source = write(tmp_path / "in.jsonl", [*given, given[4], {**given[5], "n": 55}])
    votes = [
        {"id": "u", **{k: given[1][k] for k in ("prompt", "response_a", "response_b")}, "winner": "a"},
        {"id": "v", "prompt": given[2]["prompt"], "winner": "tie"}
        | {"response_a": given[2]["response_b"], "response_b": given[2]["response_a"]},
    ]
    found = choose(source, tmp_path / "out.jsonl", model, votes=[write(tmp_path / "votes.jsonl", votes)])
    assert (found.rows, found.chosen, found.voted, found.repeated) == (8, 4, 2, 2)
    assert sorted(row["n"] for row in read(tmp_path / "out.jsonl")) == [0, 3, 4, 5]
    found = choose(source, tmp_path / "none.jsonl", model, votes=[write(tmp_path / "all.jsonl", [
        {"id": str(n), "winner": "b"} | {k: v for k, v in row.items() if k != "tag"} for n, row in enumerate(given)
    ])])  # fmt: skip
    assert (found.chosen, found.voted, found.repeated) == (0, 8, 0)
    assert (tmp_path / "none.jsonl").read_text() == ""


def test_models_disagree_with_each_other_too(model: Path, tmp_path: Path) -> None:
    given, other = rows(5), ship(tmp_path / "other", seed=7)
    choose(write(tmp_path / "in.jsonl", given), tmp_path / "out.jsonl", model, other)
    table = as_table(given)[0]
    members = [committee.predictions(library.load(each, device="cpu"), table) for each in (model, other)]
    expected = disagreement(np.concatenate(members, axis=1))
    for row in read(tmp_path / "out.jsonl"):
        assert row["disagreement"] == pytest.approx(expected[row["n"]], abs=1e-6)


def test_rows_that_are_no_pairs_are_counted_and_left_out(model: Path, tmp_path: Path) -> None:
    given = [rows(1)[0], {"n": 1, "prompt": ["x", "y"], "response_a": ["x"], "response_b": ["y"]}]
    source = write(tmp_path / "in.jsonl", given)
    found = choose(source, tmp_path / "out.jsonl", model)
    assert (found.rows, found.chosen, found.unjudged, found.reason) == (
        2,
        1,
        1,
        "row 2: turn counts differ: prompt 2, response_a 1, response_b 1",
    )
    assert [row["n"] for row in read(tmp_path / "out.jsonl")] == [0]


def test_stopped_it_goes_on_and_shards_share_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE", 2)
    source = write(tmp_path / "in.jsonl", rows(7))
    choose(source, tmp_path / "whole.jsonl", model, count=4)
    stops = iter([False, False, True])
    with pytest.raises(Interrupted):
        next_pairs(
            Files([source], tmp_path / "out.jsonl"), Choice([model], 4, device="cpu"), lambda: next(stops)
        )
    assert not (tmp_path / "out.jsonl").exists()
    choose(source, tmp_path / "out.jsonl", model, count=4)
    assert read(tmp_path / "out.jsonl") == read(tmp_path / "whole.jsonl")
    for k in range(2):
        found = next_pairs(Files([source], tmp_path / "s.jsonl", (k, 2)), Choice([model], 4, device="cpu"))
        assert found.written is (k == 1)
    assert read(tmp_path / "s.jsonl") == read(tmp_path / "whole.jsonl")


def test_standard_output_is_refused(model: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", rows(1))
    with pytest.raises(TiebreakError, match="known once all are judged"):
        choose(source, Path("-"), model)


def test_the_command(tiebreak, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(
        tmp_path / "in.jsonl", [{"q": row["prompt"], "x": "one", "y": row["response_b"]} for row in rows(4)]
    )
    mapping = ("--map", "prompt=q,response_a=x,response_b=y", "--device", "cpu")
    assert tiebreak("next", model, "in.jsonl", "-o", "out.jsonl", "-n", 2, *mapping)[:2] == (
        0, "out.jsonl: 2 of 4 pairs\n"
    )  # fmt: skip
    write(tmp_path / "again.jsonl", rows(1) * 3)
    assert tiebreak("next", model, "again.jsonl", "-o", "once.jsonl", "--device", "cpu")[:2] == (
        0, "once.jsonl: 1 of 3 pairs; 2 repeated pairs left out\n"
    )  # fmt: skip
    code, out, err = tiebreak("next", model, "in.jsonl", "-o", "in.jsonl", *mapping)
    assert (code, out) == (2, "")
    assert "would replace" in err or "in.jsonl" in err
    code, _, err = tiebreak("next", model, "in.jsonl", "-o", "o.jsonl", "--votes", "gone.jsonl", *mapping)
    assert (code, err.splitlines()[-1]) == (2, err.splitlines()[-1])
    assert "gone.jsonl" in err
    assert not list(tmp_path.glob("*unfinished*"))
