import csv
import gzip
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tiebreak.errors import TiebreakError
from tiebreak.pipeline.steps import ingest
from tiebreak.runtime import Runtime

pytestmark = pytest.mark.slow

KAGGLE = ("id", "model_a", "model_b", "prompt", "response_a", "response_b")
LABELS = ("winner_model_a", "winner_model_b", "winner_tie")


def kaggle_row(name, p=(1, 0, 0)):
    texts = [json.dumps([f"{what} {name}", f'a "quoted"\nline of {name}']) for what in ("q", "a", "b")]
    return [name, "gpt", "llama", *texts, *p]


def write_csv(path, rows, header=KAGGLE + LABELS):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def run(output, *files, role="votes", allowed=0.0, **choices):
    output.mkdir(exist_ok=True)
    settings = ingest.Settings(role=role, max_rejected_share=allowed, **choices)
    metrics = ingest.run(settings, {"files": files}, output, Runtime("cpu", output))
    return (
        metrics,
        pq.read_table(output / "votes.parquet").to_pylist(),
        pq.read_table(output / "rejects.parquet"),
    )


def test_kaggle_rows_become_votes(tmp_path):
    rows = [kaggle_row("1"), kaggle_row("2", (0, 0, 1)), kaggle_row("3", (0.2, 0.5, 0.3))]
    path = write_csv(tmp_path / "train.csv", rows)
    metrics, votes, rejects = run(tmp_path / "out", path)
    assert metrics == {"records": 3, "votes": 3, "rejects": 0}
    assert rejects.num_rows == 0
    assert [vote["id"] for vote in votes] == ["1", "2", "3"]
    assert votes[0]["prompt"] == ["q 1", 'a "quoted"\nline of 1']
    assert votes[0]["model_b"] == "llama"
    p = [tuple(vote[name] for name in ("p_a", "p_b", "p_tie")) for vote in votes]
    assert p[:2] == [(1, 0, 0), (0, 0, 1)]
    assert p[2] == pytest.approx((0.2, 0.5, 0.3))


def test_test_rows_need_no_label_and_ignore_one(tmp_path):
    without = write_csv(tmp_path / "test.csv", [kaggle_row("1", ())], KAGGLE)
    labelled = write_csv(tmp_path / "solved.csv", [kaggle_row("2")])
    _, votes, _ = run(tmp_path / "out", without, labelled, role="test")
    assert [(vote["id"], vote["p_a"]) for vote in votes] == [("1", None), ("2", None)]


def test_bad_rows_are_set_aside_with_file_row_and_reason(tmp_path):
    rows = [
        kaggle_row("1"),
        kaggle_row("2", (1, 1, 0)),
        kaggle_row("3")[:-1],
        kaggle_row("4"),
        kaggle_row("4"),
    ]
    rows[3][4] = '["not closed"'
    path = write_csv(tmp_path / "train.csv", rows)
    metrics, votes, rejects = run(tmp_path / "out", path, allowed=1.0)
    assert metrics["records"] == metrics["votes"] + metrics["rejects"] == 5
    assert [vote["id"] for vote in votes] == ["1", "4"]
    assert rejects["file"].to_pylist() == [str(path)] * 3
    assert rejects["row"].to_pylist() == [2, 3, 4]
    reasons = rejects["reason"].to_pylist()
    assert reasons[0] == "label is no distribution: 1, 1, 0 sum to 2, not to 1"
    assert reasons[1] == "wrong number of columns: 8 instead of 9"
    assert reasons[2].startswith("response_a is not JSON: ")


def test_lone_surrogates_are_replaced_and_nulls_kept(tmp_path):
    row = kaggle_row("1")
    row[4], row[5] = r'["half \ud83d", null]', r'["whole \ud83d\ude00 \u0000", ""]'
    _, votes, _ = run(tmp_path / "out", write_csv(tmp_path / "train.csv", [row]))
    assert votes[0]["response_a"] == ["half \ufffd", None]
    assert votes[0]["response_b"] == ["whole \U0001f600 \ufffd", ""]


def test_gzip_and_names_that_lie(tmp_path):
    plain = write_csv(tmp_path / "train.csv", [kaggle_row("1"), kaggle_row("2")])
    packed = tmp_path / "votes.parquet"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    _, votes, _ = run(tmp_path / "out", packed)
    assert [vote["id"] for vote in votes] == ["1", "2"]


def test_a_truncated_file_is_an_error_unless_allowed(tmp_path):
    path = tmp_path / "votes.json"
    votes = [dict(zip(KAGGLE + LABELS, kaggle_row(str(n)), strict=True)) for n in range(3)]
    path.write_text(json.dumps(votes)[:-1])
    with pytest.raises(
        TiebreakError, match=r"votes.json cannot be read from here on: .* record 4.*incomplete"
    ):
        run(tmp_path / "out", path, allowed=1.0)
    assert list((tmp_path / "out").iterdir()) == []
    metrics, _, _ = run(tmp_path / "out", path, allowed=1.0, incomplete_files=True)
    assert metrics["votes"] == 3
    assert metrics["rejects"] == 1


def test_of_scored_answers_some_pairs_may_be_taken(tmp_path):
    answers = [{"model": f"m{n}", "response": f"r{n}", "overall_score": n} for n in range(4)]
    path = tmp_path / "feedback.jsonl"
    path.write_text(json.dumps({"instruction": "why?", "completions": answers}))
    assert run(tmp_path / "all", path, role="preferences")[0]["votes"] == 6
    assert run(tmp_path / "two", path, role="preferences", pairs_per_prompt=2)[0]["votes"] == 2


def test_too_many_rejects_say_which_and_leave_nothing(tmp_path):
    path = write_csv(tmp_path / "train.csv", [kaggle_row("1"), kaggle_row("2", (0.4, 0.4, 0.4))])
    with pytest.raises(TiebreakError, match=r"1 of 2 rows .*50\.0%.*1 label is no distribution"):
        run(tmp_path / "out", path, allowed=0.4)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no file at"),
        ("", "no rows in"),
        ("id,prompt,response_a,response_b,winner\n", "no rows in"),
        ("id,text\n1,hello\n", "has the columns id, text"),
        ("id,prompt,response_a,response_b\n1,p,a,b\n", "winner_model_a"),
    ],
)
def test_unusable_files_are_refused(tmp_path, content, message):
    path = tmp_path / "votes.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TiebreakError, match=message):
        run(tmp_path / "out", path)


def test_real_files_give_the_rows_they_are_said_to_have(tmp_path, shared_data):
    counts = {
        "lmsys/train.csv": 999,
        "pairs/hh_rlhf_test.parquet": 8503,
        "pairs/llmeval2_human.parquet": 2549,
        "pairs/autoj_human.parquet": 1383,
        "pairs/tulu_human_eval.parquet": 1040,
        "pairs/pandalm_human.parquet": 900,
        "pairs/llmbar.parquet": 419,
    }
    for name, rows in counts.items():
        metrics, votes, _ = run(tmp_path / Path(name).stem, shared_data / name)
        assert metrics == {"records": rows, "votes": rows, "rejects": 0}, name
        assert len({vote["id"] for vote in votes}) == rows


def test_votes_that_all_have_the_weight_0_are_refused(tmp_path: Path) -> None:
    pair = {"prompt": "p", "response_a": "a", "response_b": "b", "winner": "tie"}
    file = tmp_path / "votes.jsonl"
    file.write_text("".join(json.dumps(pair | {"id": n, "weight": 0}) + "\n" for n in range(3)))
    with pytest.raises(TiebreakError, match=r"every row in .* has the weight 0"):
        run(tmp_path / "out", file)
    assert run(tmp_path / "test", file, role="test")[0]["votes"] == 3, "of those nothing is learned"
    file.write_text(file.read_text().replace('"weight": 0', '"weight": 1', 1))
    assert run(tmp_path / "out", file)[0]["votes"] == 3
