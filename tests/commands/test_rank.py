"""Ranking of files of prompts with several responses: what stays, what is added, and going on after a kill."""

import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import pytest
from forked import Forked
from shipped_judge import ship

import tiebreak as library
from tiebreak.commands import pieces, row_files
from tiebreak.commands.pieces import STANDARD, Files
from tiebreak.commands.predict import Request, predict
from tiebreak.commands.rank import Judging, rank
from tiebreak.errors import Interrupted, TiebreakError

pytestmark = pytest.mark.slow

RANKED = ["ranking", "scores", "p_best"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ship(tmp_path_factory.mktemp("shipped") / "model", seed=0)


def rows(count: int) -> list[dict[str, Any]]:
    """Prompts with two to five responses, and columns of their own on all sides."""
    return [
        {
            "n": n,
            "prompt": f"Question {n}?",
            "responses": [f"Answer {n} {m}" * (m + 1) for m in range(2 + n % 4)],
            "meta": {"deep": [n]},
        }
        for n in range(count)
    ]


def write(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_all_rows_and_columns_stay_and_the_ranking_comes_behind(model: Path, tmp_path: Path) -> None:
    given = rows(9)
    source = write(tmp_path / "in.jsonl", given)
    found = rank(Files([source], tmp_path / "out.jsonl"), Judging(model, device="cpu"))
    assert (found.rows, found.unjudged, found.finished) == (9, 0, True)
    judge = library.load(model, device="cpu")
    for row, own in zip(read(tmp_path / "out.jsonl"), given, strict=True):
        assert list(row) == [*own, *RANKED]
        assert {name: row[name] for name in own} == own
        expected = judge.rank(own["prompt"], own["responses"])
        assert row["ranking"] == expected.order
        np.testing.assert_allclose(row["scores"], expected.scores, atol=1e-5)
        np.testing.assert_allclose(row["p_best"], expected.p_best, atol=1e-5)
    assert not list(tmp_path.glob("*unfinished*"))


def test_of_two_responses_the_scores_are_the_odds_of_the_judge(model: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [{"prompt": "Q?", "responses": ["one", "another one"]}])
    rank(Files([source], tmp_path / "out.jsonl"), Judging(model, device="cpu"))
    pair = {"prompt": "Q?", "response_a": "one", "response_b": "another one"}
    p_a, p_b, _ = library.load(model, device="cpu").predict([pair])[0]
    (row,) = read(tmp_path / "out.jsonl")
    assert row["scores"][0] - row["scores"][1] == pytest.approx(np.log(p_a / p_b), abs=0.01)


@pytest.mark.parametrize("column", ["responses", "completions", "outputs", "candidates"])
def test_responses_of_every_kind(model: Path, tmp_path: Path, column: str) -> None:
    texts = ["one", "another one", "more than that"]
    kinds: list[list[Any]] = [
        texts,
        [[{"role": "assistant", "content": text}] for text in texts],
        *([{key: text, "model": "m"} for text in texts] for key in ("response", "content", "text")),
    ]
    prompts: list[Any] = ["Q?", ["Q?"], [{"role": "user", "content": "Q?"}]]
    given = [{"prompt": prompt, column: kind} for prompt in prompts for kind in kinds]
    source = write(tmp_path / "in.jsonl", given)
    cells = [{name: x if x == "Q?" else json.dumps(x) for name, x in row.items()} for row in given]
    row_files.write(lambda: cells, tmp_path / "in.csv")
    for name in (source, tmp_path / "in.csv"):
        found = rank(Files([name], tmp_path / "out.jsonl"), Judging(model, device="cpu"))
        assert (found.rows, found.unjudged) == (15, 0), found.reason
        scores = [row["scores"] for row in read(tmp_path / "out.jsonl")]
        np.testing.assert_allclose(scores, [scores[0]] * len(scores), atol=1e-5)


def test_columns_of_other_names(
    model: Path, tmp_path: Path, tiebreak: Callable[..., tuple[int, str, str]]
) -> None:
    given = [
        {"ask": f"Q{n}?", "about": f"Text {n}.", "texts": {"all": ["one", "another one"]}} for n in range(3)
    ]
    source, output = write(tmp_path / "in.jsonl", given), tmp_path / "out.jsonl"
    columns = "prompt=ask,context=about,responses=texts.all"
    assert tiebreak("rank", model, source, "-o", output, "--map", columns)[0] == 0
    judge = library.load(model, device="cpu")
    for row, own in zip(read(output), given, strict=True):
        assert {name: row[name] for name in own} == own
        expected = judge.rank(f"{own['about']}\n\n{own['ask']}", ["one", "another one"])
        np.testing.assert_allclose(row["scores"], expected.scores, atol=1e-5)
    code, _, err = tiebreak("rank", model, source, "-o", output, "--map", "prompt=ask,responses=text")
    assert code == 2
    assert "no column 'text' in" in err
    assert "did you mean 'texts'" in err


def test_turns_before_are_kept(model: Path, tmp_path: Path) -> None:
    prompt = [
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "Why?"},
    ]
    source = write(tmp_path / "in.jsonl", [{"prompt": prompt, "responses": ["Because.", "No."]}])
    assert rank(Files([source], tmp_path / "out.jsonl"), Judging(model, device="cpu")).unjudged == 0


def test_a_row_that_cannot_be_ranked_has_nulls_and_says_why(model: Path, tmp_path: Path) -> None:
    given = rows(6)
    given[1]["responses"] = []
    given[2]["responses"] = ["x"] * 65
    given[3]["responses"] = [1, 2]
    given[4] = {"n": 4, "prompt": "Q?"}
    given[5]["responses"] = ["only"]
    source = write(tmp_path / "in.jsonl", given)
    with source.open("a") as file:
        file.write("{broken\n")
    for ending in ("jsonl", "csv", "parquet"):
        found = rank(Files([source], tmp_path / f"out.{ending}"), Judging(model, device="cpu"))
        assert (found.rows, found.unjudged) == (7, 5)
        assert found.reason == "row 2: not 1 to 64 responses: 0"
    written = read(tmp_path / "out.jsonl")
    assert [row["ranking"] is None for row in written] == [False, True, True, True, True, False, True]
    assert [row["error"] is None for row in written] == [True, False, False, False, False, True, False]
    assert written[5]["p_best"] == [1.0]
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names[-4:] == [*RANKED, "error"]
    assert table["ranking"].to_pylist() == [row["ranking"] for row in written]
    with pytest.raises(TiebreakError, match="a row cannot be judged, row 2"):
        rank(Files([source], tmp_path / "strict.jsonl", strict=True), Judging(model, device="cpu"))


def test_it_goes_on_where_it_stopped(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 8)
    source = write(tmp_path / "in.jsonl", rows(12))
    rank(Files([source], tmp_path / "whole.jsonl"), Judging(model, device="cpu"))
    answers = iter([False, False, True])
    with pytest.raises(Interrupted):
        rank(Files([source], tmp_path / "out.jsonl"), Judging(model, device="cpu"), lambda: next(answers))
    with pytest.raises(TiebreakError, match="the pairs of a prompt differ"):
        rank(Files([source], tmp_path / "out.jsonl"), Judging(model, pairs=3, device="cpu"))
    assert len(list((tmp_path / "out.jsonl.unfinished").glob("0-*"))) == 2
    rank(Files([source], tmp_path / "out.jsonl"), Judging(model, device="cpu"))
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def rank_in_small_pieces(model: Path, source: Path, output: Path) -> None:
    with mock.patch.object(pieces, "PIECE", 64):
        rank(Files([source], output), Judging(model, device="cpu"))


def test_killed_it_goes_on_and_writes_the_same(model: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", rows(120))
    whole, output = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    process = Forked(rank_in_small_pieces, model, source, output)
    while process.poll() is None and not list(tmp_path.glob("out.parquet.unfinished/0-*")):
        time.sleep(0.001)
    process.kill()
    process.communicate(60)
    assert process.returncode == -signal.SIGKILL
    assert 0 < len(list(tmp_path.glob("out.parquet.unfinished/0-*"))) < 9
    assert not output.exists()
    rank_in_small_pieces(model, source, output)
    rank_in_small_pieces(model, source, whole)
    assert output.read_bytes() == whole.read_bytes()


def test_standard_input_and_output(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in rows(5)).encode()
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(lines)))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=out))
    assert rank(Files([STANDARD], STANDARD), Judging(model, device="cpu")).rows == 5
    rank(Files([write(tmp_path / "in.jsonl", rows(5))], tmp_path / "out.jsonl"), Judging(model, device="cpu"))
    piped = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [row["ranking"] for row in piped] == [row["ranking"] for row in read(tmp_path / "out.jsonl")]


def test_predict_says_which_command_ranks(model: Path, tmp_path: Path) -> None:
    for given in (rows(1), [{"instruction": "Q?", "completions": [{"response": "a"}, {"response": "b"}]}]):
        source = write(tmp_path / "in.jsonl", given)
        with pytest.raises(TiebreakError, match="tiebreak rank MODEL FILE -o OUT"):
            predict(Request([model], [source], tmp_path / "out.jsonl", device="cpu"))
    assert os.listdir(tmp_path) == ["in.jsonl"]


def test_a_file_of_pairs_is_not_ranked(model: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [{"prompt": "Q?", "response_a": "a", "response_b": "b"}])
    with pytest.raises(
        TiebreakError, match=r"has the columns prompt, response_a, response_b\. Needed are prompt and"
    ):
        rank(Files([source], tmp_path / "out.jsonl"), Judging(model, device="cpu"))
    assert os.listdir(tmp_path) == ["in.jsonl"]


def test_the_command(model: Path, tmp_path: Path, tiebreak: Callable[..., tuple[int, str, str]]) -> None:
    source = write(tmp_path / "in.jsonl", [*rows(2), {"prompt": "Q?", "responses": []}])
    code, out, err = tiebreak("rank", model, source, "-o", tmp_path / "out.csv", "--pairs", 2)
    assert (code, out) == (0, f"{tmp_path / 'out.csv'}: 3 rows\n")
    assert "1 row could not be ranked, the first because: row 3: not 1 to 64 responses: 0" in err
    code, _, err = tiebreak("rank", model, model, source, "-o", tmp_path / "out.csv")
    assert code == 2
    assert "is a second model" in err
    code, _, err = tiebreak("rank", model, source, "-o", "-")
    assert (code, err.splitlines()[0]) == (0, "standard output: 3 rows")
