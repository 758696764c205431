"""Columns by mapping and by their common names."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tiebreak.errors import TiebreakError
from tiebreak.recipe.values import MAPPED_FIELDS
from tiebreak.votes.formats import pairs, readers
from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap, parse, value_at
from tiebreak.votes.formats.record_formats import COLUMNS

A, B, TIE = [1, 0, 0], [0, 1, 0], [0, 0, 1]
Row = dict[str, Any]


def write(path: Path, rows: list[Row]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        lines = [list(rows[0]), *(row.values() for row in rows)]
        path.write_text("\n".join(",".join(map(str, line)) for line in lines))
    else:
        path.write_text(json.dumps(rows))
    return path


def read(path: Path, rows: list[Row], mapping: ColumnMap = NO_MAP) -> list[Row]:
    votes = readers.read_whole(write(path, rows), "votes", mapping).to_pylist()
    return [vote | {"p": [vote["p_a"], vote["p_b"], vote["p_tie"]]} for vote in votes]


def kinds(path: Path, rows: list[Row], mapping: ColumnMap = NO_MAP) -> list[str]:
    found: list[str] = readers.read_all([write(path, rows)], mapping=mapping)[1]["kind"].to_pylist()
    return found


def test_fields_are_columns_that_formats_read() -> None:
    assert not [name for name in MAPPED_FIELDS if name not in COLUMNS]


def test_values_are_split_at_the_last_equals_sign() -> None:
    mapping = parse(["prompt=a=b, winner=label", "response_a=x"], ["A>B=a,A=B=tie"])
    assert mapping.columns == {"prompt": "a=b", "winner": "label", "response_a": "x"}
    assert mapping.values == {"A>B": "a", "A=B": "tie"}
    assert not parse([], [])


def test_an_option_of_one_pair_may_hold_commas() -> None:
    mapping = parse(
        ["prompt=question, as asked", "response_a=x,response_b=y", "winner=w,"], ["first, by far=a"]
    )
    assert mapping.columns == {
        "prompt": "question, as asked",
        "response_a": "x",
        "response_b": "y",
        "winner": "w,",
    }
    assert mapping.values == {"first, by far": "a"}


@pytest.mark.parametrize(
    ("columns", "values", "why"),
    [
        (["promt=x"], [], "no field 'promt' of a vote; did you mean 'prompt'[?] Valid: chosen, "),
        (["prompt"], [], "--map takes FIELD=COLUMN, such as 'prompt=question', not 'prompt'"),
        (["prompt=x,prompt=y"], [], "--map names 'prompt' twice"),
        (["response_a=x,response_b=x"], [], "response_a and response_b are both mapped to x"),
        ([], ["1"], "--values takes VALUE=LABEL, such as 'A>B=a', not '1'"),
        ([], ["1=A"], "the value '1' cannot mean 'A'; valid: a, b, tie"),
        ([], ["A=a,a=b"], "the value 'a' is given two labels"),
    ],
)
def test_what_is_no_mapping(columns: list[str], values: list[str], why: str) -> None:
    with pytest.raises(TiebreakError, match=why):
        parse(columns, values)


@pytest.mark.parametrize("name", ["f.json", "f.csv", "f.parquet"])
@pytest.mark.parametrize("values", [(0, 1, 2), (0.0, 1.0, 2.0), ("0", "1", "2")])
def test_numbers_are_mapped_in_every_format(tmp_path: Path, name: str, values: tuple[Any, ...]) -> None:
    rows = [{"q": f"ask {n}", "x": "one", "y": "two", "label": value} for n, value in enumerate(values)]
    mapping = parse(["prompt=q,response_a=x,response_b=y,winner=label"], ["0=a,1=b,2=tie"])
    votes = read(tmp_path / name, rows, mapping)
    assert [vote["p"] for vote in votes] == [A, B, TIE]
    assert (votes[0]["prompt"], votes[0]["response_a"], votes[0]["response_b"]) == (
        ["ask 0"],
        ["one"],
        ["two"],
    )


@pytest.mark.parametrize("name", ["f.json", "f.csv", "f.parquet"])
def test_truth_values_are_mapped(tmp_path: Path, name: str) -> None:
    rows = [{"prompt": f"ask {n}", "response_a": "x", "response_b": "y", "first": n == 0} for n in range(2)]
    votes = read(tmp_path / name, rows, parse(["winner=first"], ["True=a,false=b"]))
    assert [vote["p"] for vote in votes] == [A, B]


def test_a_mapped_winner_comes_before_other_labels(tmp_path: Path) -> None:
    soft = {"p_a": 0.1, "p_b": 0.8, "p_tie": 0.1, "winner": "model_b"}
    row = {"prompt": "p", "response_a": "x", "response_b": "y", "human": "A", **soft}
    assert read(tmp_path / "f.json", [row], parse(["winner=human"], []))[0]["p"] == A


def test_a_given_value_comes_before_the_common_meaning(tmp_path: Path) -> None:
    row = {"prompt": "p", "response_a": "x", "response_b": "y", "winner": "B"}
    assert read(tmp_path / "f.json", [row], parse([], ["B=a"]))[0]["p"] == A


def test_paths_into_nested_values(tmp_path: Path) -> None:
    row = {"ask": {"text": "p"}, "outputs": [{"text": "x"}, {"text": "y"}], "winner": "b", "a.b": "whole"}
    mapping = parse(["prompt=ask.text,response_a=outputs.0.text,response_b=outputs.1.text"], [])
    for name in ("f.json", "f.parquet"):
        (vote,) = read(tmp_path / name, [row], mapping)
        assert (vote["prompt"], vote["response_a"], vote["response_b"], vote["p"]) == (["p"], ["x"], ["y"], B)
    whole = {name: row[name] for name in ("a.b", "winner")} | {"x": "x", "y": "y"}
    mapping = parse(["prompt=a.b,response_a=x,response_b=y"], [])
    assert read(tmp_path / "f.parquet", [whole], mapping)[0]["prompt"] == ["whole"]
    assert [value_at(row, path) for path in ("outputs.7.text", "ask.text.0", "none.x")] == [None] * 3


def test_a_column_that_no_file_has(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "response_a": "x", "response_b": "y", "winner": "a", "label": "b"}]
    path = write(tmp_path / "f.json", rows)
    with pytest.raises(TiebreakError, match=r"no column 'labl' in .*f\.json; did you mean 'label'\?"):
        readers.read_whole(path, "votes", parse(["winner=labl"], []))
    assert len(readers.read_whole(path, "test", parse(["winner=labl"], []))) == 1  # labels are not wanted
    with pytest.raises(TiebreakError, match="no column 'question'"):
        pairs.read_file(path, parse(["prompt=question"], []))
    other = write(tmp_path / "g.json", [{"prompt": "p", "response_a": "x", "response_b": "y", "vote": "b"}])
    mapping = parse(["winner=vote"], [])
    readers.require_mapped([path, other], mapping)
    votes, rejects = readers.read_all([path, other], mapping=mapping)
    assert (votes["p_a"].to_pylist(), len(rejects)) == ([1, 0], 0)


def test_sides_are_never_exchanged_in_silence(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "output_1": "x", "output_2": "y", "winner": "A"}]
    crosswise = ["response_a=output_2,response_b=output_1"]
    with pytest.raises(TiebreakError, match="response_a is mapped to output_2 and response_b to output_1"):
        read(tmp_path / "f.json", rows, parse(crosswise, []))
    (vote,) = read(tmp_path / "f.json", rows, parse(crosswise, ["A=b"]))
    assert (vote["response_b"], vote["p"]) == (["x"], B)


def test_one_mapped_side_leaves_the_other_to_be_named(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "output_1": "x", "output_2": "y", "winner": "a"}]
    with pytest.raises(TiebreakError, match="has the columns output_1, output_2, prompt, winner"):
        read(tmp_path / "f.json", rows, parse(["response_a=output_2"], []))


def test_answers_that_count_from_zero_take_a_mapping(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "response_0": "x", "response_1": "y", "winner": "response_1"}]
    with pytest.raises(TiebreakError, match="has the columns"):
        read(tmp_path / "f.json", rows)
    mapping = parse(["response_a=response_0,response_b=response_1"], [])
    assert read(tmp_path / "f.json", rows, mapping)[0]["p"] == B
    assert kinds(tmp_path / "f.json", [rows[0] | {"winner": 1}], mapping)[0].startswith("unknown winner: 1")


# --- common names


@pytest.mark.parametrize("prompt", ["question", "query", "instruction", "input", "Prompt", "context"])
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("output_1", "output_2"), ("response1", "response2"), ("response_1", "response_2"), ("answer_a", "answer_b"),
        ("completion_a", "completion_b"), ("output_a", "output_b"), ("response 1", "response 2"),
        ("Response A", "Response B"), ("Answer-1", "Answer-2"),
    ],
)  # fmt: skip
def test_common_names(tmp_path: Path, prompt: str, a: str, b: str) -> None:
    rows = [{b: "two", prompt: f"ask {n}", "label": side, a: "one"} for n, side in enumerate("AB")]
    for name in ("f.json", "f.parquet"):
        votes = read(tmp_path / name, rows)
        assert [vote["p"] for vote in votes] == [A, B]
        assert [vote["prompt"] for vote in votes] == [["ask 0"], ["ask 1"]]
        assert (votes[0]["response_a"], votes[0]["response_b"]) == (["one"], ["two"])


@pytest.mark.parametrize(
    ("winner", "expected"),
    [
        ("A", A), ("[[B]]", B), ("C", TIE), ("A>B", A), ("a >> b", A), ("B>>A", B), ("A=B", TIE), ("response_1", A),
        ("Response 2", B), ("model_2", B), ("output_1", A), ("tie", TIE), ("both bad", TIE),
    ],
)  # fmt: skip
def test_common_winners(tmp_path: Path, winner: str, expected: list[float]) -> None:
    row = {"question": "p", "response_1": "x", "response_2": "y", "winner": winner}
    assert read(tmp_path / "f.json", [row])[0]["p"] == expected


@pytest.mark.parametrize("winner", ["left", "draw", 1, 0.5, "model_0", True])
def test_winners_that_may_mean_either_are_refused(tmp_path: Path, winner: Any) -> None:
    row = {"question": "p", "response_1": "x", "response_2": "y", "winner": winner}
    assert kinds(tmp_path / "f.json", [row, row | {"winner": "a"}])[0].startswith("unknown winner")


@pytest.mark.parametrize("winner", [1, "response_1", "model_1", "1"])
def test_numbers_say_nothing_of_answers_a_and_b(tmp_path: Path, winner: Any) -> None:
    row = {"prompt": "p", "response_a": "x", "response_b": "y", "preference": winner}
    assert kinds(tmp_path / "f.json", [row])[0].startswith(f"unknown winner: {winner!r}")


def test_many_different_winners_are_one_kind(tmp_path: Path) -> None:
    row = {"prompt": "p", "response_a": "x", "response_b": "y"}
    rows = [row | {"winner": n / 7 + 1 / 3} for n in range(9)]
    rows += [row | {"winner": f"because of this and of that {n}"} for n in range(9)]
    assert set(kinds(tmp_path / "f.json", rows)) == {"unknown winner; valid: a, b, tie"}


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"query": "q"}, "prompt may be question or query: --map 'prompt=question'"),
        (
            {"answer_1": "u", "answer_2": "v"},
            "response_a may be output_1 or answer_1: --map 'response_a=output_1'",
        ),
        ({"preference": 1}, "winner may be label or preference: --map 'winner=label'"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(tmp_path: Path, more: Row, why: str) -> None:
    row = {"question": "p", "output_1": "x", "output_2": "y", "label": "a"}
    with pytest.raises(TiebreakError, match=why):
        read(tmp_path / "f.json", [row | more])


def test_three_answers_are_no_pair(tmp_path: Path) -> None:
    row = {"question": "p", "output_1": "x", "output_2": "y", "output_3": "z", "label": "a"}
    with pytest.raises(TiebreakError, match="has the columns"):
        read(tmp_path / "f.json", [row])


def test_the_input_beside_a_question_is_part_of_the_prompt(tmp_path: Path) -> None:
    rows = [
        {"question": "Sum up.", "input": text, "output_1": "x", "output_2": "y", "label": "A"}
        for text in "uv"
    ]
    for mapping in (NO_MAP, parse(["prompt=question"], [])):
        prompts = [vote["prompt"] for vote in read(tmp_path / "f.json", rows, mapping)]
        assert prompts == [["Sum up.\nu"], ["Sum up.\nv"]]
    renamed = [
        {"task": "Sum up.", "text": text, "output_1": "x", "output_2": "y", "label": "A"} for text in "uv"
    ]
    votes = read(tmp_path / "f.json", renamed, parse(["prompt=task,input=text"], []))
    assert [vote["prompt"] for vote in votes] == [["Sum up.\nu"], ["Sum up.\nv"]]


def test_a_context_beside_the_prompt_is_read_unless_a_prompt_is_mapped(tmp_path: Path) -> None:
    rows = [
        {"Context": f"passage {n}", "question": "Why?", "output_1": "x", "output_2": "y", "label": "A"}
        for n in range(2)
    ]
    for name in ("f.json", "f.parquet", "f.csv"):
        votes = read(tmp_path / name, rows)
        assert [vote["prompt"] for vote in votes] == [["passage 0\n\nWhy?"], ["passage 1\n\nWhy?"]]
    votes = read(tmp_path / "f.json", rows, parse(["prompt=question"], []))
    assert [vote["prompt"] for vote in votes] == [["Why?"]] * 2
    votes = read(tmp_path / "f.json", rows, parse(["prompt=question,context=Context"], []))
    assert [vote["prompt"] for vote in votes] == [["passage 0\n\nWhy?"], ["passage 1\n\nWhy?"]]


def test_a_context_and_an_input_take_a_mapping(tmp_path: Path) -> None:
    row = {"context": "c", "input": "i", "response_a": "x", "response_b": "y", "winner": "a"}
    with pytest.raises(TiebreakError, match="prompt may be context or input: --map 'prompt=context'"):
        read(tmp_path / "f.json", [row])
    assert read(tmp_path / "f.json", [row], parse(["prompt=input"], []))[0]["prompt"] == ["i"]
    assert read(tmp_path / "f.json", [row], parse(["prompt=context"], []))[0]["prompt"] == ["c"]
    both = parse(["prompt=input,context=context"], [])
    assert read(tmp_path / "f.json", [row], both)[0]["prompt"] == ["c\n\ni"]


@pytest.mark.parametrize("column", ["history", "context", "input", "system"])
def test_a_part_of_a_prompt_may_be_the_prompt(tmp_path: Path, column: str) -> None:
    row = {column: "No JSON.", "x": "x", "y": "y", "winner": "b"}  # SHP's history is the post
    mapping = parse([f"prompt={column},response_a=x,response_b=y"], [])
    assert read(tmp_path / "f.json", [row], mapping)[0]["prompt"] == ["No JSON."]
    nested = parse([f"prompt={column}.text,response_a=x,response_b=y"], [])
    assert read(tmp_path / "f.json", [row | {column: {"text": "p"}}], nested)[0]["prompt"] == ["p"]


def test_a_system_prompt_and_the_input_are_part_of_the_prompt(tmp_path: Path) -> None:
    sides = {"response_a": "x", "response_b": "y", "winner": "a"}
    row = {"prompt": "Sum up.", "Input": "text", "system_prompt": "Be kind."}
    assert read(tmp_path / "f.json", [row | sides])[0]["prompt"] == ["Be kind.\n\nSum up.\ntext"]
    held = {"prompt": "Sum up: text", "input": "text"}
    assert read(tmp_path / "f.json", [held | sides])[0]["prompt"] == ["Sum up: text"]
    turns = {"prompt": ["one"], "input": "text"}
    assert kinds(tmp_path / "f.json", [turns | sides]) == [
        "input beside a prompt of turns or messages (to leave it out: --map 'prompt=COLUMN')"
    ]
    assert read(tmp_path / "f.json", [turns | sides], parse(["prompt=prompt"], []))[0]["prompt"] == ["one"]


@pytest.mark.parametrize("more", [{}, {"generator_1": "g"}, {"annotator": "gpt4"}])
def test_a_preference_that_may_be_of_four_steps_is_refused(tmp_path: Path, more: Row) -> None:
    rows = [{"instruction": f"{n}", "output_1": "x", "output_2": "y", "preference": n} for n in (1, 2)]
    assert kinds(tmp_path / "f.json", [row | more for row in rows]) == [
        f"unknown winner: {n}; valid: a, b, tie (or --values '{n}=?' with a, b or tie for ?)" for n in (1, 2)
    ]
    votes = read(tmp_path / "f.json", [row | more for row in rows], parse([], ["1=a,2=a,3=b,4=b"]))
    assert [vote["p"] for vote in votes] == [A, A]


@pytest.mark.parametrize(
    ("row", "column", "why"),
    [
        ({"generator_1": "g", "generator_2": "h"}, "preference", "preference is 4, not from 1 to 2 as in alpaca_eval"),
        ({}, "overall_preference", "overall_preference is 4, not from -3 to 3 as in HelpSteer3"),
        ({}, "annotator1", "an annotator says 4, not 0, 1 or 2 as in PandaLM"),
    ],
)  # fmt: skip
def test_a_number_off_the_scale_refuses_the_file(tmp_path: Path, row: Row, column: str, why: str) -> None:
    rows = [{"prompt": "p", "output_1": "x", "output_2": "y", **row, column: n} for n in [1] * 60 + [4]]
    with pytest.raises(TiebreakError, match=rf"f.json, record 61: {why}; say what all values mean"):
        kinds(tmp_path / "f.json", rows)
    votes = read(tmp_path / "f.json", rows, parse([], ["1=a,4=b"]))
    assert [vote["p"] for vote in votes] == [A] * 60 + [B]


def test_columns_that_are_not_read(tmp_path: Path) -> None:
    row = {
        "prompt": "p", "instruction": "i", "passage": "x", "Output 1": "x", "output_2": "y", "label": "A",
        "chosen": "u", "language": "German", "generator_1": "g", "generator_2": "h", "about": {"id": 7},
    }  # fmt: skip
    for name in ("f.json", "f.parquet"):
        path = write(tmp_path / name, [row])
        assert readers.columns_not_read(path, "votes") == ["about", "chosen", "instruction", "passage"]
        mapping = parse(["context=passage,id=about.id"], [])
        assert readers.columns_not_read(path, "votes", mapping) == ["chosen", "instruction"]
        assert "label" in readers.columns_not_read(path, "test")


def test_own_names_come_before_common_ones(tmp_path: Path) -> None:
    row = {
        "prompt": "p",
        "question": "other",
        "response_a": "x",
        "response_b": "y",
        "output_1": "u",
        "output_2": "v",
    }
    (vote,) = read(tmp_path / "f.json", [row | {"winner": "b", "label": "a", "preference": 1}])
    assert (vote["prompt"], vote["response_a"], vote["p"]) == (["p"], ["x"], B)


def test_a_label_beside_chosen_answers_is_not_looked_at(tmp_path: Path) -> None:
    row = {"question": "p", "chosen": "x", "rejected": "y", "label": 7, "output_1": "u", "output_2": "v"}
    (vote,) = read(tmp_path / "f.json", [row])
    assert (vote["response_a"] == ["x"]) == (vote["p"] == A)
    assert vote["prompt"] == ["p"]


def test_a_mapped_prompt_comes_before_a_column_of_its_name(tmp_path: Path) -> None:
    rows = [{"prompt": "other", "question": "q", "response_a": "x", "response_b": "y", "winner": "a"}]
    mapping = parse(["prompt=question"], [])
    assert read(tmp_path / "f.json", rows, mapping)[0]["prompt"] == ["q"]
    assert readers.columns_not_read(tmp_path / "f.json", "votes", mapping) == ["prompt"]


def test_a_mapped_winner_beside_preferences(tmp_path: Path) -> None:
    """The labels a and b are those of the chosen and the rejected answer."""
    rows = [{"prompt": "p", "chosen": "x", "rejected": "y", "vote": vote} for vote in ("won", "even", "lost")]
    mapping = parse(["winner=vote"], ["won=a,even=tie,lost=b"])
    votes, rejects = readers.read_all([write(tmp_path / "f.json", rows)], mapping=mapping)
    assert votes["p_tie"].to_pylist() == [0, 1]
    assert rejects["reason"].to_pylist() == ["labels contradict: by winner rejected"]
    assert readers.columns_not_read(tmp_path / "f.json", "votes", mapping) == []


def test_a_hundred_thousand_columns_take_linear_time(tmp_path: Path) -> None:
    row: Row = {"Prompt": "q", "response_a": "x", "response_b": "y", "winner": "a"}
    (vote,) = read(tmp_path / "f.json", [row | {f"c{n}": 1 for n in range(100_000)}])
    assert vote["prompt"] == ["q"]


@pytest.mark.parametrize("key", ["9" * 5000, "2", "-1", "x"])
def test_a_path_to_nothing_has_nothing(key: str) -> None:
    assert value_at({"outputs": ["a", "b"]}, f"outputs.{key}") is None
