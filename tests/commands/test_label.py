"""Preference data made by judges whose answers are known: the right side, what is dropped, and every format."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from json_lines import read, write

import tiebreak as library
from tiebreak import __version__
from tiebreak.commands.label import Labelled, Rules, label, provenance_of
from tiebreak.commands.pieces import STANDARD, Files
from tiebreak.commands.preference_formats import FORMATS
from tiebreak.commands.rank import Judging
from tiebreak.errors import TiebreakError
from tiebreak.hashes import file_digest
from tiebreak.judge import package
from tiebreak.judge.judge import Judge
from tiebreak.stats.davidson import Strengths
from tiebreak.votes.formats.mapping import parse

pytestmark = pytest.mark.slow


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that reads its strengths from the answers: "good 1.5" has one of 1.5."""

    def predict_table(_: Judge, table: pa.Table, *__: Any, **___: Any) -> np.ndarray:
        sides = [table[f"response_{side}"].to_pylist() for side in "ab"]
        strengths = [float(turns[-1].split()[-1]) for side in sides for turns in side]
        pairs = np.column_stack([np.arange(len(table)), np.arange(len(table)) + len(table)])
        return Strengths(np.array(strengths), 0.0, np.eye(1)).probabilities(pairs)

    monkeypatch.setattr(Judge, "predict_table", predict_table)


def labelled(model: Path, source: Path, output: Path, rules: Rules, pairs: int | None = None) -> Labelled:
    return label(Files([source], output), Judging(model, pairs, device="cpu"), rules)


GAPS = np.random.default_rng(0).normal(0, 2, 40)
PAIRS = [
    {"prompt": f"Q{n}?", "response_a": f"a {gap / 2}", "response_b": f"b {-gap / 2}"}
    for n, gap in enumerate(GAPS)
]
PREFERENCES = [
    {"prompt": f"Q{n}?", "chosen": f"a {gap / 2}", "rejected": f"b {-gap / 2}"} for n, gap in enumerate(GAPS)
]
CANDIDATES = [
    {"prompt": f"Q{n}?", "responses": [f"a {gap / 2}", f"b {-gap / 2}"]} for n, gap in enumerate(GAPS)
]


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("given", [PAIRS, PREFERENCES, CANDIDATES])
def test_chosen_is_the_better_whichever_side_it_was_on(model: Path, tmp_path: Path, given: list[Any]) -> None:
    """Preferences are shown on sides by hash: about half of them with `rejected` as answer A."""
    source = write(tmp_path / "in.jsonl", given)
    found = labelled(model, source, tmp_path / "out.jsonl", Rules(keep_ties=True))
    assert found.counts == {"kept": 40}
    for row, gap in zip(read(tmp_path / "out.jsonl"), GAPS, strict=True):
        better, worse = ("a", "b") if gap > 0 else ("b", "a")
        assert (row["chosen"][0], row["rejected"][0]) == (better, worse)
        assert row["margin"] == pytest.approx(abs(gap), rel=0.03, abs=0.01)


@pytest.mark.usefixtures("known")
def test_columns_of_other_names(model: Path, tmp_path: Path) -> None:
    def made(given: list[dict[str, Any]], columns: str) -> list[dict[str, Any]]:
        judging = Judging(model, device="cpu", mapping=parse([columns] if columns else [], []))
        output = tmp_path / "out.jsonl"
        label(Files([write(tmp_path / "in.jsonl", given)], output), judging, Rules())
        return read(output)

    pairs = [{"q": row["prompt"], "one": row["response_a"], "two": row["response_b"]} for row in PAIRS]
    several = [{"q": row["prompt"], "of": {"all": row["responses"]}} for row in CANDIDATES]
    assert made(pairs, "prompt=q,response_a=one,response_b=two") == made(PAIRS, "")
    assert made(several, "prompt=q,responses=of.all") == made(CANDIDATES, "")


@pytest.mark.usefixtures("known")
def test_what_is_dropped_is_counted(model: Path, tmp_path: Path) -> None:
    """With v = 1, the logit of P(chosen) has to be above 0 that of the tie: a gap of 0 is one, any other is not."""
    gaps = [0.0, 0.5, 1.0, 3.0, -3.0]
    given = [{"prompt": "Q?", "response_a": f"a {gap}", "response_b": "b 0"} for gap in gaps]
    source = write(tmp_path / "in.jsonl", [*given, {"prompt": "Q?", "response_a": "a 1"}])
    p = [np.exp([gap, 0, gap / 2]) / np.exp([gap, 0, gap / 2]).sum() for gap in gaps]
    margins = [abs(p_a - p_b) for p_a, p_b, _ in p]
    found = labelled(model, source, tmp_path / "out.jsonl", Rules(min_margin=margins[2] - 1e-9))
    assert found.counts == {"kept": 3, "tie": 1, "below": 1, "not judged": 1}
    assert (found.rows, found.unjudged) == (6, 1)
    assert len(read(tmp_path / "out.jsonl")) == 3
    found = labelled(model, source, tmp_path / "all.jsonl", Rules(keep_ties=True))
    assert found.counts == {"kept": 4, "tie": 1, "not judged": 1}, "nobody is preferred in an even pair"


@pytest.mark.parametrize(
    ("p", "fate"),
    [
        ((0.4, 0.1, 0.5), "tie"),
        ((0.5, 0.1, 0.4), "kept"),
        ((0.5, 0.45, 0.05), "below"),
        ((0.3, 0.3, 0.4), "tie"),
        ((0.5, 0.5, 0.0), "tie"),
    ],
)
def test_a_tie_is_what_a_tie_is_most_probable_of(p: tuple[float, ...], fate: str) -> None:
    assert Rules(min_margin=0.2).fate(p) == fate


@pytest.mark.usefixtures("known")
def test_the_best_is_chosen_and_the_worst_rejected(model: Path, tmp_path: Path) -> None:
    given = [
        {"prompt": "Q?", "responses": ["r 1", "r 4", "r 0", "r 2"]},
        {"prompt": "One?", "responses": ["r 1"]},
        {"prompt": "Same?", "responses": ["r 1", "r 1"]},
    ]
    source = write(tmp_path / "in.jsonl", given)
    found = labelled(model, source, tmp_path / "out.jsonl", Rules(pairs_per_prompt=2))
    assert found.counts == {"kept": 2, "single": 1, "tie": 1}
    rows = read(tmp_path / "out.jsonl")
    assert [(row["chosen"], row["rejected"]) for row in rows] == [("r 4", "r 0"), ("r 4", "r 1")]
    assert [row["margin"] for row in rows] == pytest.approx([4, 3], rel=0.02)


SINGLE = {"prompt": "Q?", "response_a": "a 1", "response_b": "b 0"}
SEVERAL = {"prompt": ["Q?", "And?"], "response_a": ["same", "a 1"], "response_b": ["same", "b 0"]}
APART = {"prompt": ["Q?", "And?"], "response_a": ["one", "a 1"], "response_b": ["other", "b 0"]}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.mark.usefixtures("known")
def test_trl_has_texts_or_messages(model: Path, tmp_path: Path) -> None:
    labelled(model, write(tmp_path / "one.jsonl", [SINGLE]), tmp_path / "texts.jsonl", Rules("trl"))
    assert read(tmp_path / "texts.jsonl") == [
        {"prompt": "Q?", "chosen": "a 1", "rejected": "b 0", "margin": pytest.approx(1)}
    ]
    source = write(tmp_path / "all.jsonl", [SINGLE, SEVERAL, APART])
    labelled(model, source, tmp_path / "out.jsonl", Rules("trl"))
    one, several, apart = read(tmp_path / "out.jsonl")
    assert (one["prompt"], one["chosen"]) == ([user("Q?")], [answer("a 1")])
    assert several["prompt"] == [user("Q?"), answer("same"), user("And?")]
    assert (several["chosen"], several["rejected"]) == ([answer("a 1")], [answer("b 0")])
    assert apart["prompt"] == [user("Q?")]
    assert apart["rejected"] == [answer("other"), user("And?"), answer("b 0")]


@pytest.mark.usefixtures("known")
def test_the_other_formats(model: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [SINGLE])
    rows = {}
    for name in FORMATS:
        labelled(model, source, tmp_path / f"{name}.jsonl", Rules(name))
        rows[name] = read(tmp_path / f"{name}.jsonl")
    margin = pytest.approx(1)
    chosen, rejected = [user("Q?"), answer("a 1")], [user("Q?"), answer("b 0")]
    assert (
        rows["messages"] == rows["openrlhf"] == [{"chosen": chosen, "rejected": rejected, "margin": margin}]
    )
    assert rows["unpaired"] == [
        {"prompt": "Q?", "completion": "a 1", "label": True},
        {"prompt": "Q?", "completion": "b 0", "label": False},
    ]
    (row,) = rows["ultrafeedback"]
    assert (row["prompt"], row["chosen"], row["rejected"], row["messages"]) == (
        "Q?",
        chosen,
        rejected,
        chosen,
    )
    assert row["score_chosen"] - row["score_rejected"] == row["margin"] == margin


@pytest.mark.parametrize("name", FORMATS)
def test_datasets_reads_every_format(model: Path, tmp_path: Path, name: str) -> None:
    datasets = pytest.importorskip("datasets", reason="the library datasets is an extra")
    source = write(tmp_path / "in.jsonl", [SINGLE, SEVERAL, APART])
    for ending, kind in (("jsonl", "json"), ("parquet", "parquet")):
        output = tmp_path / f"{name}.{ending}"
        labelled(model, source, output, Rules(name, keep_ties=True))
        found = datasets.load_dataset(
            kind, data_files=str(output), split="train", cache_dir=str(tmp_path / "cache")
        )
        assert len(found) == (6 if name == "unpaired" else 3)


def test_what_made_the_labels_is_said(model: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", PAIRS[:3])
    rules = Rules("messages", 0.01, keep_ties=True)
    for ending in ("jsonl", "parquet"):
        labelled(model, source, tmp_path / f"out.{ending}", rules)
    found = json.loads(pq.read_schema(tmp_path / "out.parquet").metadata[b"tiebreak"])
    assert found == json.loads(provenance_of(tmp_path / "out.jsonl").read_text())
    assert (found["version"], found["model"]) == (__version__, file_digest(model / package.NAME))
    assert (found["format"], found["min_margin"], found["keep_ties"]) == ("messages", 0.01, True)
    assert sorted(os.listdir(tmp_path)) == ["in.jsonl", "out.jsonl", "out.jsonl.provenance", "out.parquet"]


def test_labels_are_those_of_predict(model: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", PAIRS)
    labelled(model, source, tmp_path / "out.jsonl", Rules(keep_ties=True))
    p = library.load(model, device="cpu").predict(PAIRS)
    for row, (p_a, p_b, _), pair in zip(read(tmp_path / "out.jsonl"), p, PAIRS, strict=True):
        assert row["chosen"] == pair["response_a" if p_a > p_b else "response_b"]
        assert row["margin"] == pytest.approx(abs(np.log(p_a / p_b)), abs=1e-5)


@pytest.mark.parametrize(
    ("output", "why"), [("out.csv", "Valid: .jsonl, .parquet"), (STANDARD, "labels go into a file")]
)
def test_where_labels_cannot_go(model: Path, tmp_path: Path, output: Path | str, why: str) -> None:
    source = write(tmp_path / "in.jsonl", PAIRS[:1])
    with pytest.raises(TiebreakError, match=why):
        labelled(model, source, output if output == STANDARD else tmp_path / output, Rules())
    assert os.listdir(tmp_path) == ["in.jsonl"]


@pytest.mark.usefixtures("known")
def test_the_command(model: Path, tmp_path: Path, tiebreak: Callable[..., tuple[int, str, str]]) -> None:
    source = write(tmp_path / "in.jsonl", [*PAIRS, {"prompt": "Q?"}])
    output = tmp_path / "out.jsonl"
    code, out, err = tiebreak(
        "label", model, source, "-o", output, "--format", "unpaired", "--min-margin", "0.3"
    )
    kept = len(read(output)) // 2
    assert code == 0
    assert out.startswith(
        f"{output}: {kept} pairs kept; dropped: 0 ties, {40 - kept} below the margin; 1 row not"
    )
    assert "row 41: missing columns: response_a, response_b" in err
    source = write(
        tmp_path / "several.jsonl", [{"prompt": "Q?", "responses": given} for given in (["r 1"], [])]
    )
    _, out, err = tiebreak("label", model, source, "-o", tmp_path / "none.jsonl")
    assert out.endswith("1 row not judged, 1 with a single response\n")
    assert err.startswith("1 row could not be judged, the first because: row 2")


@pytest.mark.usefixtures("known")
def test_a_missing_answer_is_none_to_learn_from(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predict_table(_: Judge, table: pa.Table, *__: Any, **___: Any) -> np.ndarray:
        return np.tile([0.7, 0.2, 0.1], (len(table), 1))

    monkeypatch.setattr(Judge, "predict_table", predict_table)
    turns: dict[str, Any] = {"prompt": ["Q?", "And?"], "response_a": ["a", None], "response_b": ["b", "c"]}
    pairs: list[dict[str, Any]] = [
        {"prompt": "Q?", "response_a": "a", "response_b": None},
        {"prompt": "Q?", "response_a": "", "response_b": "b"},
        turns,
        turns | {"response_a": ["a", "d"]},
    ]
    output = tmp_path / "out.jsonl"
    found = labelled(model, write(tmp_path / "pairs.jsonl", pairs), output, Rules("messages"))
    assert found.counts == {"missing": 3, "kept": 1}
    (row,) = read(output)
    assert [message["content"] for message in row["chosen"]] == ["Q?", "a", "And?", "d"]
    candidates: list[dict[str, Any]] = [
        {"prompt": "Q?", "responses": given} for given in (["", "x", "y", None], ["", "x"])
    ]
    rules = Rules("trl", pairs_per_prompt=3, keep_ties=True)
    found = labelled(model, write(tmp_path / "several.jsonl", candidates), output, rules)
    assert found.counts["missing"] == 1
    assert {row[side] for row in read(output) for side in ("chosen", "rejected")} <= {"x", "y"}


@pytest.mark.usefixtures("known")
def test_what_lies_where_the_provenance_goes_is_kept(model: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "out.jsonl.provenance", PAIRS)
    before = source.read_bytes()
    with pytest.raises(TiebreakError, match="is read by this command and would be lost"):
        labelled(model, source, tmp_path / "out.jsonl", Rules())
    assert (os.listdir(tmp_path), source.read_bytes()) == ([source.name], before)
    (tmp_path / "other.jsonl.provenance").mkdir()
    with pytest.raises(TiebreakError, match="it is a folder"):
        labelled(model, source, tmp_path / "other.jsonl", Rules())
