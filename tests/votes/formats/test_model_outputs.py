"""Outputs of models: whose they are, which prompts they share, which comparisons are judged."""

import json
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from json_lines import write

from tiebreak.errors import TiebreakError
from tiebreak.votes.formats.mapping import parse
from tiebreak.votes.formats.model_outputs import (
    comparisons,
    more_comparisons,
    pair_sizes,
    prompt_key,
    read_given,
    read_outputs,
)


def rows(model: str, prompts: range, **more: Any) -> list[dict[str, Any]]:
    return [{"instruction": f"Q{q}?", "output": f"{model} {q}", "generator": model, **more} for q in prompts]


def test_files_of_alpaca_eval(tmp_path: Path) -> None:
    one, other = tmp_path / "ada.json", tmp_path / "bob.jsonl"
    one.write_text(json.dumps(rows("ada", range(5), dataset="helpful")))
    write(other, rows("Bob v2", range(3, 8)))
    found = read_outputs([one, other], by="dataset")
    assert found.models == ["ada", "Bob v2"]
    assert found.missing() == {"ada": 3, "Bob v2": 3}
    chosen = comparisons(found)
    assert [one.vote.prompt for one in chosen] == [["Q3?"], ["Q4?"]]
    assert chosen[0].vote.response_b == ["Bob v2 3"]
    assert chosen[0].by == "helpful"


def test_the_name_of_a_file_is_the_models(tmp_path: Path) -> None:
    files = [
        write(tmp_path / f"{name}.jsonl", [{"question": "Q?", "answer": name, "input": "More."}])
        for name in ("ada", "bob")
    ]
    found = read_outputs(files)
    assert found.models == ["ada", "bob"]
    assert comparisons(found)[0].vote.prompt == ["Q?\nMore."]
    for file in files:
        (tmp_path / file.stem).mkdir()
        file.rename(tmp_path / file.stem / "outputs.jsonl")
    assert read_outputs([tmp_path]).models == ["ada", "bob"]


def test_columns_of_other_names(tmp_path: Path) -> None:
    file = write(tmp_path / "all.jsonl", [{"ask": "Q?", "text": m, "who": m} for m in ("ada", "bob")])
    mapping = parse(["prompt=ask,responses=text,model_a=who"], [])
    assert read_outputs([file], mapping).models == ["ada", "bob"]


def test_a_column_that_is_the_models_name_is_no_part_of_the_prompt(tmp_path: Path) -> None:
    given = [{"ask": "Q?", "text": m, "system": m} for m in ("ada", "bob")]
    mapping = parse(["prompt=ask,responses=text,model_a=system"], [])
    for found in (read_outputs([write(tmp_path / "all.jsonl", given)], mapping), read_given(given, mapping)):
        assert comparisons(found)[0].vote[1:6] == (["Q?"], ["ada"], ["bob"], "ada", "bob")


def test_mapped_columns_may_be_those_of_votes() -> None:
    mapping = parse(["responses=output,response_a=left,winner=verdict"], [])
    given = [*rows("ada", range(2)), *rows("bob", range(2))]
    assert len(comparisons(read_given(given, mapping, beside_votes=True))) == 2
    with pytest.raises(TiebreakError, match="no column 'left'"):
        read_given(given, mapping)


def test_a_column_language_is_kept() -> None:
    given = [*rows("ada", range(2), language="German"), *rows("bob", range(3))]
    assert [one.language for one in comparisons(read_given(given))] == ["German", "German"]


def test_pairs_keep_their_sides(tmp_path: Path) -> None:
    pair = {"prompt": "Q?", "response_a": "x", "response_b": "y", "model_a": "ada", "model_b": "bob"}
    file = write(
        tmp_path / "pairs.jsonl",
        [pair, pair | {"prompt": "R?", "model_a": "bob", "model_b": "ada"}, pair | {"model_b": ""}],
    )
    found = read_outputs([file])
    assert [(c.vote.model_a, c.vote.model_b) for c in comparisons(found)] == [("ada", "bob"), ("bob", "ada")]
    assert len(found.problems) == 1
    assert "no names of two different models" in found.problems[0]


def test_a_pair_that_comes_twice_is_judged_once() -> None:
    pair = {"prompt": "Q?", "response_a": "x", "response_b": "y", "model_a": "ada", "model_b": "bob"}
    other = {"prompt": "Q?", "response_a": "y", "response_b": "x", "model_a": "bob", "model_b": "ada"}
    assert len(comparisons(read_given([pair, other, pair, pair | {"response_a": "z"}]))) == 2


def test_a_budget_is_spread_over_pairs_and_prompts() -> None:
    found = read_given([row for m in "abcd" for row in rows(m, range(40))])
    chosen = comparisons(found, budget=60)
    assert set(Counter((c.vote.model_a, c.vote.model_b) for c in chosen).values()) == {10}
    assert max(Counter(c.vote.prompt[0] for c in chosen).values()) <= 2
    voted = frozenset({(prompt_key(["Q7?"]), "b", "d"), (prompt_key(["Q8?"]), "b", "d")})
    some = comparisons(found, budget=12, wanted=voted)
    assert {("Q7?", "b", "d"), ("Q8?", "b", "d")} <= {
        (c.vote.prompt[0], c.vote.model_a, c.vote.model_b) for c in some
    }
    assert len(some) == 12
    pairs = [
        {"prompt": f"Q{q}?", "response_a": "x", "response_b": "y", "model_a": a, "model_b": b}
        for q in range(40)
        for a, b in (("ada", "bob"), ("cyd", "ada"))
    ]
    some = comparisons(read_given(pairs), budget=10, wanted=frozenset({(prompt_key(["Q7?"]), "ada", "cyd")}))
    assert Counter((c.vote.model_a, c.vote.model_b) for c in some) == {("ada", "bob"): 5, ("cyd", "ada"): 5}
    assert ("Q7?", "cyd") in {(c.vote.prompt[0], c.vote.model_a) for c in some}
    assert len(comparisons(found, budget=999)) == 240


def test_more_comparisons_go_on_where_the_budget_ended() -> None:
    found = read_given([row for m in "abcd" for row in rows(m, range(40))])
    assert pair_sizes(found, None) == dict.fromkeys(combinations("abcd", 2), 40)
    assert pair_sizes(found, "c") == {("a", "c"): 40, ("b", "c"): 40, ("c", "d"): 40}
    voted = frozenset({(prompt_key(["Q7?"]), "b", "d")})
    even = comparisons(found, budget=60, wanted=voted)
    more = more_comparisons(found, None, 60, voted, {("a", "b"): 5, ("b", "d"): 99})
    assert Counter((c.vote.model_a, c.vote.model_b) for c in more) == {("a", "b"): 5, ("b", "d"): 29}
    assert not {c.key for c in even} & {c.key for c in more}
    longer = {c.key for c in comparisons(found, budget=90, wanted=voted)}
    assert {c.key for c in more if c.key[1:] == ("a", "b")} <= longer, "in the order of an even budget"


def test_a_second_answer_to_a_prompt_is_refused_and_the_same_one_is_not(tmp_path: Path) -> None:
    twice = rows("ada", range(2)) * 2 + rows("bob", range(2))
    assert len(comparisons(read_given(twice))) == 2
    with pytest.raises(
        TiebreakError, match=r"record 5: ada has another answer to the same prompt before it \('Q0\?'\)"
    ):
        read_given([*twice[:4], twice[0] | {"output": "else"}])


def test_what_is_no_output_says_so(tmp_path: Path) -> None:
    file = write(tmp_path / "x.jsonl", [{"instruction": "Q?", "score": 1}])
    with pytest.raises(TiebreakError, match=r"has the columns instruction, score\. Needed are a prompt"):
        read_outputs([file])
    for nothing, message in (([], "no outputs; needed are"), ([7], "output 1 is 7; one is a dict with")):
        with pytest.raises(TiebreakError, match=message):
            read_given(nothing)  # type: ignore[arg-type]
    with pytest.raises(TiebreakError, match="all outputs are of ada"):
        read_outputs([write(tmp_path / "y.jsonl", rows("ada", range(3)))])
    with pytest.raises(TiebreakError, match="Valid: generator, instruction, language, length"):
        read_outputs([write(tmp_path / "z.jsonl", rows("ada", range(2)) + rows("bob", range(2)))], by="topic")
    broken = write(tmp_path / "broken.jsonl", rows("ada", range(2)) + rows("bob", range(2)))
    with broken.open("a") as lines:
        lines.write('{"instruction": 7, "output": "x", "generator": "ada"}\n')
    assert read_outputs([broken]).problems[0].startswith(f"{broken}, record 5:")
