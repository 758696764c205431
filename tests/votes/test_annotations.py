import logging

import json_lines
import numpy as np
import pytest

from tiebreak.errors import TiebreakError
from tiebreak.votes import annotations
from tiebreak.votes.formats.mapping import ColumnMap

PAIR = {"prompt": "Which?", "response_a": "this one", "response_b": "that one"}
SWAPPED = {"prompt": "Which?", "response_a": "that one", "response_b": "this one"}
PANDALM = {"instruction": "Which?", "input": "", "response1": "this one", "response2": "that one"}


def read(tmp_path, *records, **options):
    return annotations.read([json_lines.write(tmp_path / "votes.jsonl", list(records))], **options)


def test_columns_of_annotators_are_votes_of_their_own(tmp_path):
    found = read(tmp_path, PANDALM | {"annotator1": 1, "annotator2": 2, "annotator3": 0})
    assert found.people == ["annotator1", "annotator2", "annotator3"]
    assert found.y_NC.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert found.pair_N.tolist() == [0, 0, 0]
    assert len(found.pairs) == 1


def test_an_annotator_without_a_vote_has_none(tmp_path):
    found = read(
        tmp_path,
        PANDALM | {"annotator1": 1, "annotator2": None},
        PANDALM | {"response1": "another", "annotator1": 2, "annotator2": 2},
    )
    assert found.people == ["annotator1", "annotator1", "annotator2"]
    assert found.pair_N.tolist() == [0, 1, 1]


def test_rows_on_one_pair_in_either_order_are_votes_on_it(tmp_path):
    found = read(
        tmp_path,
        PAIR | {"id": "x", "annotator": "Ada", "winner": "a"},
        SWAPPED | {"id": "x", "annotator": "Bob", "winner": "a"},
        SWAPPED | {"id": "x", "annotator": "Cy", "winner": "tie"},
    )
    assert found.people == ["Ada", "Bob", "Cy"]
    assert found.y_NC.argmax(axis=1).tolist() == [0, 1, 2], "Bob's first answer is the pair's second"
    assert found.swapped_N.tolist() == [False, True, True]
    assert found.pairs["id"].to_pylist() == ["x"]


def test_which_answer_was_shown_first_is_not_which_one_is_called_a(tmp_path):
    """As on the page of `tiebreak serve`, where a vote names its answers as the pair does, in whichever order they were shown."""
    found = read(
        tmp_path,
        PAIR | {"winner": "a", "shown_first": "b"},
        PAIR | {"winner": "a", "shown_first": "a"},
        SWAPPED | {"winner": "a", "shown_first": "b"},
        SWAPPED | {"winner": "a", "shown_first": None},
    )
    assert found.y_NC.argmax(axis=1).tolist() == [0, 0, 1, 1]
    assert found.swapped_N.tolist() == [True, False, False, True]


def test_the_column_with_names_can_be_given(tmp_path):
    vote = PAIR | {"winner": "a", "who": {"id": 7}}
    assert read(tmp_path, vote, annotator="who.id").people == ["7"]
    assert read(tmp_path, vote).people == [None]
    with pytest.raises(TiebreakError, match=r"no column 'whom' that names who voted; did you mean 'who'"):
        read(tmp_path, vote, annotator="whom")


def test_lists_that_name_who_voted_are_one_name(tmp_path):
    """As in MT-bench, whose column judge may hold the prompt's name too."""
    assert read(tmp_path, PAIR | {"winner": "a", "judge": ["gpt-4", "pair"]}).people == ["gpt-4/pair"]


def test_soft_labels_are_one_vote_that_is_not_hard(tmp_path):
    found = read(
        tmp_path, PAIR | {"p_a": 0.5, "p_b": 0.25, "p_tie": 0.25}, SWAPPED | {"p_a": 0, "p_b": 1, "p_tie": 0}
    )
    assert found.y_NC.tolist() == [[0.5, 0.25, 0.25], [1, 0, 0]]
    assert found.hard.tolist() == [False, True]


def test_rows_that_cannot_be_read_are_left_out_and_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        found = read(tmp_path, PAIR | {"winner": "a"}, PAIR | {"response_b": False, "winner": "a"})
    assert len(found) == 1
    assert "1 of its rows cannot be read and are left out, the first is row 2: response_b" in caplog.text


def test_other_names_of_columns_are_mapped(tmp_path):
    record = {"q": "Which?", "x": "this one", "y": "that one", "best": "x"}
    columns = {"prompt": "q", "response_a": "x", "response_b": "y", "winner": "best"}
    assert read(tmp_path, record, mapping=ColumnMap(columns)).y_NC.tolist() == [[1, 0, 0]]


def test_pairs_with_the_same_id_and_other_texts_are_told_apart(tmp_path):
    found = read(
        tmp_path, PAIR | {"id": "1", "winner": "a"}, PAIR | {"id": "1", "response_a": "new", "winner": "b"}
    )
    names = found.pairs["id"].to_pylist()
    assert names[0] == "1" != names[1]
    assert len(np.unique(found.groups)) == 1


def test_a_file_without_votes_is_an_error(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(TiebreakError, match="no votes in"):
        annotations.read([tmp_path / "empty.jsonl"])
