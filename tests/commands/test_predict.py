"""Prediction of files of pairs: what stays, what is added, and going on where it stopped."""

import csv
import io
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from json_lines import read, write
from shipped_judge import ship
from tiny_models import judge_folder

import tiebreak as library
from tiebreak.commands import pieces
from tiebreak.commands.label import Rules, label
from tiebreak.commands.pieces import STANDARD, Files
from tiebreak.commands.predict import Request, predict
from tiebreak.commands.rank import Judging, rank
from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.evaluate import submission
from tiebreak.judge.ensemble import Ensemble
from tiebreak.judge.judge import Judge
from tiebreak.votes.formats import readers
from tiebreak.votes.formats.mapping import parse

pytestmark = pytest.mark.slow

P = ("p_a", "p_b", "p_tie")
CHOSEN = ("p_chosen", "p_rejected", "p_tie")


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 4)


def rows(count: int) -> list[dict[str, Any]]:
    """Pairs with columns of their own on all sides."""
    return [
        {
            "tags": ["a", n],
            "prompt": f"Question {n}?",
            "response_a": "yes " * (n % 5 + 1),
            "meta": {"n": n, "deep": [{"x": None}]},
            "response_b": f"No, {n}.",
            "ok": n % 2 == 0,
        }
        for n in range(count)
    ]


def preferences(count: int) -> list[dict[str, Any]]:
    return [
        {"prompt": f"Question {n}?", "chosen": f"Answer {n * 7}", "rejected": f"None {n * 3}"}
        for n in range(count)
    ]


def probabilities(records: Sequence[dict[str, Any]], names: Sequence[str] = P) -> np.ndarray:
    return np.array([[record[name] for name in names] for record in records])


def test_all_rows_and_columns_stay_in_their_order(model: Path, tmp_path: Path) -> None:
    given = rows(11)
    found = predict(
        Request([model], [write(tmp_path / "in.jsonl", given)], tmp_path / "out.jsonl", device="cpu")
    )
    assert (found.rows, found.unjudged, found.finished) == (11, 0, True)
    written = read(tmp_path / "out.jsonl")
    assert [list(row) for row in written] == [[*row, *P] for row in given]
    assert [{name: row[name] for name in given[0]} for row in written] == given
    np.testing.assert_allclose(
        probabilities(written), library.load(model, device="cpu").predict(given), atol=1e-6
    )
    assert not list(tmp_path.glob("*unfinished*"))


def test_numbers_and_names_do_not_depend_on_the_ending(model: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", rows(6))
    for ending in ("jsonl", "csv", "parquet"):
        predict(Request([model], [source], tmp_path / f"out.{ending}", device="cpu"))
    expected = read(tmp_path / "out.jsonl")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names == list(expected[0])
    np.testing.assert_array_equal(probabilities(table.to_pylist()), probabilities(expected))
    assert table["ok"].to_pylist() == [row["ok"] for row in expected]
    assert [json.loads(cell) for cell in table["tags"].to_pylist()] == [row["tags"] for row in expected], (
        "text and numbers in one list have no type of Parquet"
    )
    cells = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert list(cells[0]) == list(expected[0])
    assert [[float(row[name]) for name in P] for row in cells] == probabilities(expected).tolist()
    assert [json.loads(row["meta"]) for row in cells] == [row["meta"] for row in expected]


def test_parquet_keeps_its_types(model: Path, tmp_path: Path) -> None:
    own = pa.table(
        {
            "when": pa.array([datetime(2026, 11, 30, 1), None], pa.timestamp("us")),
            "price": pa.array([Decimal("1.10"), Decimal("2.25")], pa.decimal128(9, 2)),
            "prompt": ["A?", "B?"],
            "response_a": ["a", "b"],
            "response_b": ["b", "c"],
            "p_a": pa.array([1.0, 0.0], pa.float32()),
            "small": pa.array([1, 2], pa.int8()),
        }
    )
    pq.write_table(own, tmp_path / "in.parquet")
    predict(Request([model], [tmp_path / "in.parquet"], tmp_path / "out.parquet", device="cpu"))
    written = pq.read_table(tmp_path / "out.parquet")
    names = ["given_p_a" if name == "p_a" else name for name in own.column_names]
    assert written.column_names == [*names, *P]
    assert written.select(names).rename_columns(own.column_names).equals(own)
    assert written.schema.field("p_a").type == pa.float64()
    predict(Request([model], [tmp_path / "in.parquet"], tmp_path / "out.jsonl", device="cpu"))
    assert read(tmp_path / "out.jsonl")[0]["price"] == "1.10"


def test_the_probability_of_chosen_is_that_of_chosen(model: Path, tmp_path: Path) -> None:
    """Whichever side it was shown on: 25 rows, of which about half are shown the other way round."""
    given = preferences(25)
    predict(Request([model], [write(tmp_path / "in.jsonl", given)], tmp_path / "out.jsonl", device="cpu"))
    written = read(tmp_path / "out.jsonl")
    assert list(written[0]) == ["prompt", "chosen", "rejected", *CHOSEN]
    pairs = [
        {"prompt": row["prompt"], "response_a": row["chosen"], "response_b": row["rejected"]} for row in given
    ]
    expected = library.load(model, device="cpu").predict(pairs)
    np.testing.assert_allclose(probabilities(written, CHOSEN), expected, atol=1e-6)
    for judge in (library.load(model, device="cpu"), Ensemble([model], device="cpu")):
        np.testing.assert_allclose(judge.predict(tmp_path / "in.jsonl"), expected, atol=1e-6)
    with pytest.raises(TiebreakError, match="leave out --format kaggle"):
        predict(Request([model], [tmp_path / "in.jsonl"], tmp_path / "k.csv", device="cpu", kaggle=True))
    assert len({n for n, row in enumerate(written) if row["p_chosen"] > row["p_rejected"]}) not in (0, 25)


def test_no_column_takes_the_place_of_another(model: Path, tmp_path: Path) -> None:
    given = [rows(1)[0] | {"given_p_a": 1, "p_a": 2, "error": 3}]
    predict(Request([model], [write(tmp_path / "in.jsonl", given)], tmp_path / "out.jsonl", device="cpu"))
    (row,) = read(tmp_path / "out.jsonl")
    assert (row["given_p_a"], row["given_given_p_a"], row["given_error"]) == (1, 2, 3)


def test_preferences_and_pairs_are_not_mixed(model: Path, tmp_path: Path) -> None:
    one, other = (
        write(tmp_path / "one.jsonl", rows(2)),
        write(tmp_path / "other.jsonl", preferences(2)),
    )
    with pytest.raises(TiebreakError, match=r"other.jsonl has the columns chosen and rejected, .*one.jsonl"):
        predict(Request([model], [one, other], tmp_path / "out.jsonl", device="cpu"))
    assert not (tmp_path / "out.jsonl.unfinished").exists(), "nothing is lost with it"


def test_a_row_without_a_pair_stays_and_says_why(model: Path, tmp_path: Path) -> None:
    given = rows(7)
    del given[2]["response_b"]
    given[5]["prompt"] = None
    source = write(tmp_path / "in.jsonl", given)
    with source.open("a") as file:
        file.write("{broken\n" + json.dumps(rows(1)[0]) + "\n")
    found = predict(Request([model], [source], tmp_path / "out.jsonl", device="cpu"))
    assert (found.rows, found.unjudged, found.reason) == (9, 3, "row 3: missing columns: response_b")
    written = read(tmp_path / "out.jsonl")
    assert [row["error"] is None for row in written] == [n not in (2, 5, 7) for n in range(9)]
    assert written[7] == {"unreadable": "{broken"} | dict.fromkeys(P) | {"error": written[7]["error"]}
    assert written[5]["meta"] == given[5]["meta"]
    assert [row["p_a"] is None for row in written] == [n in (2, 5, 7) for n in range(9)]
    for ending in ("csv", "parquet"):
        predict(Request([model], [source], tmp_path / f"out.{ending}", device="cpu"))
    table = pq.read_table(tmp_path / "out.parquet")
    assert (table["p_a"].null_count, table.column_names[-4:]) == (3, [*P, "error"])
    with pytest.raises(TiebreakError, match="a row cannot be judged, row 3: missing columns: response_b"):
        predict(Request([model], [source], tmp_path / "strict.jsonl", device="cpu", strict=True))
    assert not (tmp_path / "strict.jsonl").exists()


class Count:
    """A stop after so many pieces, and how many pairs the judge has seen since."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pairs, self.stop_after = 0, 10**9
        whole = Judge.predict_table

        def counted(judge: Judge, table: pa.Table, *others: Any, **more: Any) -> np.ndarray:
            self.pairs += len(table)
            return whole(judge, table, *others, **more)

        monkeypatch.setattr(Judge, "predict_table", counted)

    def __call__(self) -> bool:
        return self.pairs >= self.stop_after


@pytest.mark.parametrize(
    ("change", "differs"), [("inputs", "the inputs"), ("model", "the models"), ("precision", "the precision")]
)
def test_it_does_not_go_on_with_others(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, differs: str
) -> None:
    source = write(tmp_path / "in.jsonl", rows(9))
    request = Request([model], [source], tmp_path / "out.jsonl", device="cpu")
    count = Count(monkeypatch)
    count.stop_after = 4
    with pytest.raises(Interrupted):
        predict(request, count)
    if change == "inputs":
        write(source, rows(8))
    other = ship(tmp_path / "other", seed=1) if change == "model" else model
    precision = "fp32" if change == "precision" else "auto"
    with pytest.raises(TiebreakError, match=f"holds a part of other predictions: {differs} differ"):
        predict(Request([other], [source], tmp_path / "out.jsonl", device="cpu", precision=precision))


def test_a_damaged_piece_is_made_again(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request([model], [write(tmp_path / "in.jsonl", rows(9))], tmp_path / "out.jsonl", device="cpu")
    count = Count(monkeypatch)
    count.stop_after = 8
    with pytest.raises(Interrupted):
        predict(request, count)
    piece = min((tmp_path / "out.jsonl.unfinished").glob("0-*.piece"))
    piece.write_bytes(piece.read_bytes()[:50])
    with pytest.raises(TiebreakError, match="was damaged and is gone; run the same command again"):
        predict(request)
    assert predict(request).finished


def test_several_models_and_several_files(model: Path, tmp_path: Path) -> None:
    other = ship(tmp_path / "other", seed=1)
    files = [write(tmp_path / f"{n}.jsonl", rows(5)[n:]) for n in range(2)]
    found = predict(Request([model, other], files, tmp_path / "out.jsonl", (1, 3), device="cpu"))
    assert (found.rows, found.weights) == (9, [0.25, 0.75])
    one, two = (
        library.load(folder, device="cpu").predict([*rows(5), *rows(5)[1:]]) for folder in (model, other)
    )
    np.testing.assert_allclose(probabilities(read(tmp_path / "out.jsonl")), (one + 3 * two) / 4, atol=1e-6)


def test_a_submission_has_its_columns_alone(model: Path, tmp_path: Path) -> None:
    given = [{"id": 7 + n} | row for n, row in enumerate(rows(3))]
    source = write(tmp_path / "in.jsonl", given)
    predict(Request([model], [source], tmp_path / "out.csv", device="cpu", kaggle=True))
    ids, p_NC = submission.read(tmp_path / "out.csv")
    assert ids == ["7", "8", "9"]
    assert (tmp_path / "out.csv").read_text().startswith("id,winner_model_a,winner_model_b,winner_tie\n")
    np.testing.assert_allclose(p_NC, library.load(model, device="cpu").predict(given), atol=1e-6)


def test_a_row_of_a_submission_that_cannot_be_judged_keeps_its_id(model: Path, tmp_path: Path) -> None:
    given = [{"key": f"row {n}"} | row for n, row in enumerate(rows(3))]
    given[1]["response_a"] = 3
    request = Request(
        [model],
        [write(tmp_path / "in.jsonl", given)],
        tmp_path / "out.jsonl",
        device="cpu",
        kaggle=True,
        mapping=parse(["id=key"], []),
    )
    assert predict(request).unjudged == 1
    found = read(tmp_path / "out.jsonl")
    assert [row["id"] for row in found] == ["row 0", "row 1", "row 2"]
    assert found[1]["winner_tie"] is None


@pytest.mark.parametrize("made", [rows, preferences])
def test_predictions_without_ids_are_found_by_their_texts(
    model: Path, tmp_path: Path, made: Callable[[int], list[dict[str, Any]]]
) -> None:
    """As `evaluate` reads them: in the sides and with the ids of the votes."""
    source = write(tmp_path / "in.jsonl", [*made(6), made(1)[0]])
    predict(Request([model], [source], tmp_path / "out.jsonl", device="cpu"))
    ids, p_NC = submission.read(tmp_path / "out.jsonl")
    votes = readers.read_whole(source, "test")
    assert ids == votes["id"].to_pylist()
    np.testing.assert_allclose(p_NC, library.load(model, device="cpu").predict_table(votes), atol=1e-6)


def test_a_pipe_answers_each_pair_as_it_comes(
    model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second pair is only sent once the first is answered."""
    (to_us, from_them), (to_them, from_us) = os.pipe(), os.pipe()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=os.fdopen(to_us, "rb")))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=os.fdopen(from_us, "wb")))
    answers: list[dict[str, Any]] = []

    def converse() -> None:
        with os.fdopen(from_them, "wb") as out, os.fdopen(to_them, "rb") as answered:
            for row in rows(3):
                out.write(json.dumps(row).encode() + b"\n")
                out.flush()
                answers.append(json.loads(answered.readline()))

    thread = threading.Thread(target=converse)
    thread.start()
    found = predict(Request([model], [STANDARD], STANDARD, device="cpu"))
    thread.join()
    assert found.rows == 3
    expected = library.load(model, device="cpu").predict(rows(3))
    np.testing.assert_allclose(probabilities(answers), expected, atol=1e-6)


def test_standard_input_into_a_file(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in rows(9)).encode()
    count = Count(monkeypatch)
    count.stop_after = 4
    request = Request([model], [STANDARD], tmp_path / "out.jsonl", device="cpu")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(lines)))
    with pytest.raises(Interrupted):
        predict(request, count)
    count.stop_after = 10**9
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(lines)))
    assert predict(request, count).rows == 9
    assert count.pairs == 9


def test_a_pipe_that_breaks_off_is_no_bad_row(
    model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = (json.dumps(rows(1)[0]) + '\n{"prompt": "Wh').encode()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(lines)))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=io.BytesIO()))
    with pytest.raises(TiebreakError, match="the last line does not end"):
        predict(Request([model], [STANDARD], STANDARD, device="cpu"))


def test_a_table_on_standard_input_is_said_to_be_none(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = b"prompt,response_a,response_b\np,x,y\n"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(table)))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=io.BytesIO()))
    with pytest.raises(
        TiebreakError, match=r"takes JSON Lines.* begins with prompt,response_a,response_b; write CSV"
    ):
        predict(Request([model], [STANDARD], STANDARD, device="cpu"))


def test_columns_of_other_names_stay_and_are_judged_alike(
    tiebreak: Callable[..., tuple[int, str, str]], model: Path, tmp_path: Path
) -> None:
    plain = write(tmp_path / "in.jsonl", [row | {"winner": "tie"} for row in rows(5)])
    names = {"prompt": "ask", "response_a": "left", "response_b": "right", "winner": "vote"}
    renamed = [{names.get(name, name): value for name, value in row.items()} for row in rows(5)]
    other = write(tmp_path / "other.jsonl", [row | {"vote": "draw"} for row in renamed])
    mapping = (
        "--map",
        ",".join(f"{field}={column}" for field, column in names.items()),
        "--values",
        "draw=tie",
    )
    assert predict(Request([model], [plain], tmp_path / "p.jsonl", device="cpu")).rows == 5
    for said in ("5 rows", "5 rows, in place of the file that was there"):
        code, out, err = tiebreak("predict", model, other, "-o", tmp_path / "q.jsonl", *mapping)
        assert code == 0, err
        assert out.strip().endswith(f"q.jsonl: {said}")
    found = read(tmp_path / "q.jsonl")
    assert [{name: row[name] for name in ("left", "right", "vote")} for row in found] == [
        {"left": row["left"], "right": row["right"], "vote": "draw"} for row in renamed
    ]
    np.testing.assert_allclose(probabilities(found), probabilities(read(tmp_path / "p.jsonl")), atol=1e-6)
    scores = []
    for arguments in ((tmp_path / "q.jsonl", other, *mapping), (tmp_path / "p.jsonl", plain)):
        code, out, err = tiebreak("evaluate", *arguments, "--json")
        assert code == 0, err
        scores.append(
            {row["metric"]: row["value"] for row in json.loads(out)["rows"] if "jsonl" in row["predictions"]}
        )
    assert scores[0] == pytest.approx(scores[1])
    code, _, err = tiebreak("predict", model, other, "-o", tmp_path / "r.jsonl", "--map", "prompt=asked")
    assert code == 2
    assert "no column 'asked' in" in err
    assert "did you mean 'ask'?" in err


@pytest.mark.parametrize(
    ("inputs", "output", "why"),
    [
        ([STANDARD, Path("more.jsonl")], "out.jsonl", "standard input .-. comes alone"),
        ([Path("in.jsonl")], "out.txt", "Valid: .csv, .jsonl, .parquet"),
        ([Path("in.jsonl")], "out.jsonl.gz", "compressed; name a file that ends in .jsonl, .csv, .parquet"),
        ([Path("nowhere.jsonl")], "out.jsonl", "no file at nowhere.jsonl"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inputs: list[Path], output: str, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.jsonl", rows(1))
    with pytest.raises(TiebreakError, match=why):
        predict(Request([model], inputs, Path(output), device="cpu"))
    assert sorted(os.listdir(tmp_path)) == ["in.jsonl"]


def test_several_answers_in_a_row_are_no_pair(model: Path, tmp_path: Path) -> None:
    completions = [{"response": "a"}, {"response": "b"}]
    source = write(tmp_path / "in.jsonl", [{"instruction": "Q?", "completions": completions}])
    with pytest.raises(TiebreakError, match="several answers in a row, and a row here is one pair"):
        predict(Request([model], [source], tmp_path / "out.jsonl", device="cpu"))
    write(source, rows(1))
    assert predict(Request([model], [source], tmp_path / "out.jsonl", device="cpu")).finished


@pytest.mark.parametrize("made", [rows, preferences])
@pytest.mark.parametrize("output", ["out.jsonl", "out.csv"])
def test_decisions_stand_behind_the_probabilities(
    tmp_path: Path, made: Callable[[int], list[dict[str, Any]]], output: str
) -> None:
    model = judge_folder(guarantees=True)
    source = write(tmp_path / "in.jsonl", made(25))
    found = predict(Request([model], [source], tmp_path / output, device="cpu", max_error=0.2))
    names, labels = (P, ("a", "b", "tie")) if made is rows else (CHOSEN, ("chosen", "rejected", "tie"))
    text = (tmp_path / output).read_text()
    written = read(tmp_path / output) if output == "out.jsonl" else list(csv.DictReader(io.StringIO(text)))
    assert list(written[0])[-4:] == [*names, "decision"]
    decided = library.load(model, device="cpu").decide(source, max_error=0.2)
    expected = [None if label is None else labels["a b tie".split().index(label)] for label in decided.labels]
    assert [row["decision"] or None for row in written] == expected
    assert found.decided == sum(label is not None for label in expected)


def test_a_row_without_a_pair_has_no_decision(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "in.jsonl", [rows(1)[0] | {"decision": "own"}, {"prompt": "x"}])
    request = Request([judge_folder(guarantees=True)], [source], STANDARD, device="cpu", max_error=0.5)
    predict(request)
    first, second = map(json.loads, capfd.readouterr().out.splitlines())
    assert (first["given_decision"], "decision" in first) == ("own", True)
    assert (second["decision"], second["p_a"]) == (None, None)


@pytest.mark.parametrize("kaggle", [True, False])
def test_a_bound_is_for_one_model_and_all_columns(tmp_path: Path, kaggle: bool) -> None:
    models = [judge_folder(guarantees=True)] * (1 if kaggle else 2)
    source = write(tmp_path / "in.jsonl", rows(2))
    with pytest.raises(TiebreakError, match="--max-error takes one model and all columns"):
        predict(Request(models, [source], tmp_path / "o.csv", device="cpu", kaggle=kaggle, max_error=0.2))
    assert os.listdir(tmp_path) == ["in.jsonl"]


def test_an_output_within_what_is_read_is_refused(model: Path, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", rows(2))
    for output in (tmp_path / "out.jsonl", tmp_path / "new" / "out.jsonl"):
        with pytest.raises(TiebreakError, match="would lie in the folder"):
            predict(Request([model], [tmp_path], output, device="cpu"))
    assert os.listdir(tmp_path) == ["in.jsonl"]


def test_commands_do_not_go_on_with_pieces_of_others(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [{"prompt": "Q?", "responses": ["a", "b"]} for _ in range(9)]
    source, count = write(tmp_path / "in.jsonl", given), Count(monkeypatch)
    count.stop_after = 4
    judging = Judging(model, device="cpu")
    with pytest.raises(Interrupted):
        label(Files([source], tmp_path / "out.jsonl"), judging, Rules(), count)
    with pytest.raises(TiebreakError, match="holds a part of other predictions: the command differ"):
        rank(Files([source], tmp_path / "out.jsonl"), judging)


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_numbers_that_json_lacks_are_null_however_deep(model: Path, tmp_path: Path, form: str) -> None:
    deep = "[" * 190 + "NaN, Infinity, 1e400" + "]" * 190
    text = json.dumps(rows(1)[0])[:-1] + f', "extra": {deep}}}'
    (tmp_path / "in.jsonl").write_text(text + "\n")
    predict(Request([model], [tmp_path / "in.jsonl"], tmp_path / f"out.{form}", device="cpu"))
    if form == "jsonl":
        assert json.dumps(read(tmp_path / "out.jsonl")[0]["extra"]).strip("[]") == "null, null, null"
