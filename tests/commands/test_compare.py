"""Comparison of models' outputs from the command line: what is said, what is kept, going on after a stop."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from json_lines import write
from markupsafe import escape

import tiebreak as library
from tiebreak.commands import pieces, seen_votes
from tiebreak.commands.compare import Request, compare
from tiebreak.errors import Interrupted, TiebreakError

pytestmark = pytest.mark.slow

Tiebreak = Callable[..., tuple[int, str, str]]


def outputs(prompts: int = 24) -> list[dict[str, Any]]:
    return [
        {"instruction": f"Question {q}?", "output": f"{m} says {q * n}.", "generator": m, "kind": "ab"[q % 2]}
        for q in range(prompts)
        for n, m in enumerate(("ada", "bob", "cyd"), 1)
        if (q, m) != (0, "cyd")
    ]


def votes(prompts: int = 20) -> list[dict[str, Any]]:
    return [
        {"prompt": f"Question {q}?", "response_a": f"bob says {q * 2}.", "response_b": f"ada says {q}.", "winner": "ab"[q % 3 == 0]}
        for q in range(prompts)
    ]  # fmt: skip


def test_it_is_what_python_finds(model: Path, tmp_path: Path, tiebreak: Tiebreak) -> None:
    source, given = write(tmp_path / "all.jsonl", outputs()), write(tmp_path / "votes.jsonl", votes())
    out = tmp_path / "out.json"
    more = write(tmp_path / "more.jsonl", votes()[12:])
    given = write(given, votes()[:12])
    asked = ("compare", model, source, "--votes", given, "--votes", more, "--by", "kind", "-o", out)
    code, shown, err = tiebreak(*asked)
    assert code == 0, err
    expected = library.compare(library.load(model, device="cpu"), outputs(), votes(), by="kind")
    found = json.loads(out.read_text())
    assert shown.startswith(expected.headline)
    assert found["headline"] == expected.headline
    assert found["pairs"][0]["rates"][0]["win_rate"]["value"] == pytest.approx(
        expected.pairs[0].rates[0].win_rate.value, abs=1e-5
    )
    assert found["judged"] == 70
    assert found["remarks"] == ["cyd has no answer to 1 of 24 prompts; those are left out of its comparisons"]
    assert "cyd has no answer to 1 of 24 prompts" in err
    kept = pq.read_table(f"{out}.pairs.parquet")
    assert len(kept) == 70
    assert kept["p_a"].to_numpy().max() <= 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "all.jsonl",
        "more.jsonl",
        "out.json",
        "out.json.pairs.parquet",
        "votes.jsonl",
    ]


def test_json_goes_to_standard_output(model: Path, tmp_path: Path, tiebreak: Tiebreak) -> None:
    source = write(tmp_path / "all.jsonl", outputs())
    code, shown, _ = tiebreak("compare", model, source, "--json", "--baseline", "ada")
    assert code == 0
    found = json.loads(shown)
    assert {pair["model"] for pair in found["pairs"]} | {pair["other"] for pair in found["pairs"]} == {
        "ada",
        "bob",
        "cyd",
    }
    assert len(found["pairs"]) == 2
    assert found["worth"] is None


def test_it_goes_on_where_it_was(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 30)
    request = Request(model, [write(tmp_path / "all.jsonl", outputs())], tmp_path / "out.json", device="cpu")
    answers = iter([False, True])
    with pytest.raises(Interrupted):
        compare(request, lambda: next(answers))
    assert len(list(tmp_path.glob("*.unfinished/*.piece"))) == 1
    with pytest.raises(TiebreakError, match="holds a part of other predictions: the baseline differ"):
        compare(Request(model, request.outputs, request.output, baseline="ada", device="cpu"))
    assert compare(request).judged == 70
    assert not list(tmp_path.glob("*.unfinished"))


def test_votes_that_the_judge_has_seen_are_said_in_what_is_written(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen_votes, "seen_votes", lambda _, table: np.arange(len(table)) < 7)
    source, given = write(tmp_path / "all.jsonl", outputs()), write(tmp_path / "votes.jsonl", votes())
    found = compare(Request(model, [source], tmp_path / "out.html", votes=[given], device="cpu"))
    assert found.remarks[0].startswith("7 of these 20 votes are on prompts that the judge was trained")
    assert found.remarks[0] in (tmp_path / "out.html").read_text()
    assert not compare(Request(model, [source], device="cpu")).remarks[0].startswith("7 of these")


def test_votes_that_cannot_be_read_are_left_out_and_said(
    model: Path, tmp_path: Path, tiebreak: Tiebreak
) -> None:
    source, out = write(tmp_path / "all.jsonl", outputs()), tmp_path / "out.html"
    given = write(tmp_path / "votes.jsonl", [votes()[0] | {"winner": "<i>who"}, *votes()])
    code, _, err = tiebreak("compare", model, source, "--votes", given, "-o", out)
    assert code == 0, err
    assert "1 vote could not be read, the first: " in err
    page = out.read_text()
    assert "1 vote could not be read, the first: " in page
    assert "<i>who" not in page
    write(given, [votes()[0] | {"winner": "who"}])
    code, _, err = tiebreak("compare", model, source, "--votes", given)
    assert code == 2
    assert "no votes; needed are model_a, model_b and winner, and 1 cannot be read" in err
    assert "judging" not in err


def test_a_budget_for_the_leaders_goes_on_behind_its_even_part(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was judged of the even part is not judged again, unless something else was asked."""
    source = write(tmp_path / "all.jsonl", outputs())
    request = Request(model, [source], tmp_path / "out.json", budget=40, leaders=True, device="cpu")
    answers = iter([False, True])
    with pytest.raises(Interrupted):
        compare(request, lambda: next(answers))
    first = tmp_path / "out.json.first.parquet"
    even = pq.read_table(first)
    assert len(even) == 20
    runs = []
    run = pieces.run
    monkeypatch.setattr(
        pieces, "run", lambda work, files, stop: runs.append(files.output.name) or run(work, files, stop)
    )
    found = compare(request)
    assert runs == ["out.json.pairs.parquet"]
    assert not first.exists()
    kept = pq.read_table(tmp_path / "out.json.pairs.parquet")
    assert len(kept) == found.judged == 40
    assert kept.slice(0, 20).equals(even)
    keys = list(zip(*(kept[name].to_pylist() for name in ("prompt", "model_a", "model_b")), strict=True))
    assert len(set(keys)) == 40
    expected = library.compare(library.load(model, device="cpu"), outputs(), budget=40, leaders=True)
    assert found.result.headline == expected.headline
    shares = Counter(key[1:] for key in keys)
    assert max(shares.values()) > min(shares.values()) + 3, "the rest is not spread evenly"
    with pytest.raises(TiebreakError, match="add --budget"):
        compare(Request(model, [source], leaders=True))


@pytest.mark.parametrize("voted", [False, True])
def test_the_pairs_to_vote_on_next_can_be_voted_on(
    model: Path, tmp_path: Path, tiebreak: Tiebreak, voted: bool
) -> None:
    source, given = write(tmp_path / "all.jsonl", outputs()), write(tmp_path / "votes.jsonl", votes())
    out = tmp_path / "next.jsonl"
    asked = ("compare", model, source, "--next", out, "--next-votes", 30)
    code, _, err = tiebreak(*asked, *(("--votes", given) if voted else ()))
    assert code == 0, err
    assert "30 pairs to vote on" in err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert all(row.keys() == {"prompt", "response_a", "response_b", "model_a", "model_b"} for row in rows)
    pairs = {(row["prompt"], frozenset((row["model_a"], row["model_b"]))) for row in rows}
    assert len(pairs) == 30
    assert {row["model_a"] for row in rows} == {"ada", "bob", "cyd"}, "no model is always A"
    if voted:
        assert not pairs & {(row["prompt"], frozenset(("ada", "bob"))) for row in votes()}
    again = write(tmp_path / "again.jsonl", [row | {"winner": "a"} for row in rows])
    code, _, err = tiebreak("compare", model, source, "--votes", again)
    assert code == 0, err
    assert "are on none of these comparisons" not in err


def test_the_votes_for_a_width_and_chances_are_shown(model: Path, tmp_path: Path, tiebreak: Tiebreak) -> None:
    source, given = write(tmp_path / "all.jsonl", outputs(60)), write(tmp_path / "votes.jsonl", votes(40))
    out = tmp_path / "out.html"
    code, shown, err = tiebreak("compare", model, source, "--votes", given, "--width", "0.3", "-o", out)
    assert code == 0, err
    assert "whose interval is 30 points wide: " in shown
    assert "P(row is preferred to column)" in shown
    page = out.read_text()
    assert "votes for a width of 30 points" in page
    assert "Probability that a model is preferred to another" in page
    code, shown, _ = tiebreak("compare", model, source, "--votes", given, "--width", "0.3", "--json")
    found = json.loads(shown)
    assert found["width"] == 0.3
    assert tiebreak("compare", model, source, "--width", "2")[0] == 2


def test_what_cannot_be_done_is_said_before_anything_is_judged(
    model: Path, tmp_path: Path, tiebreak: Tiebreak
) -> None:
    source = write(tmp_path / "all.jsonl", outputs())
    other = write(tmp_path / "other.jsonl", [votes()[0] | {"response_a": "else"}])
    cases = [
        ((source, "-o", tmp_path / "x.txt"), "Valid: .html, .json"),
        ((source, "-o", source), "Valid: .html, .json"),
        ((source, "--baseline", "zoe"), "no outputs of the baseline 'zoe'"),
        ((source, "--by", "topic"), "no column 'topic'"),
        ((source, "--by", "kind", "--by", "generator"), "slices are by one column"),
        ((source, "--votes", source), "Needed is one of these sets"),
        ((source, "--votes", other), "none of the 1 votes is on one of the comparisons"),
    ]
    for arguments, message in cases:
        code, _, err = tiebreak("compare", model, *arguments)
        assert code == 2
        assert message in err
        assert "judging" not in err


def test_the_page_says_what_was_found_and_escapes_what_others_wrote(
    model: Path, tmp_path: Path, tiebreak: Tiebreak
) -> None:
    rows = [row | {"generator": row["generator"].replace("bob", "<b>ob")} for row in outputs()]
    source, given = write(tmp_path / "all.jsonl", rows), write(tmp_path / "votes.jsonl", votes())
    out = tmp_path / "out.html"
    code, shown, err = tiebreak("compare", model, source, "--votes", given, "--by", "kind", "-o", out)
    assert code == 0, err
    page = out.read_text()
    assert str(escape(shown.splitlines()[0])) in page
    assert "<b>ob" not in page
    assert "Which of 3 models is best" in page
    assert all(f">{title}</h2>" in page for title in ("Leaderboard", "Pairs", "Style", "By kind", "Votes"))
    alone = tmp_path / "alone.html"
    assert tiebreak("compare", model, source, "-o", alone)[0] == 0
    assert "Strengths by source" not in alone.read_text()
