"""Tests of CSV and its kin: delimiters, headers, quotes within quotes."""

import csv
import io
import json

import pytest

from tiebreak.errors import TiebreakError
from tiebreak.votes.formats.containers import records
from tiebreak.votes.formats.readers import read_all

ROWS = [
    {"prompt": f'who "is" {n}?\nC:\\new', "response_a": json.dumps([f'"a"\n{n}']), "winner": "tie"}
    for n in range(30)
]


def written(rows, delimiter=",", **options):
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, rows[0], delimiter=delimiter, lineterminator="\n", **options)
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def read(tmp_path, text):
    path = tmp_path / "file"
    path.write_text(text, newline="")
    return [record for _, record in records(path)]


@pytest.mark.parametrize("delimiter", [";", ",", "\t", "|"])
@pytest.mark.parametrize("first", ["sep={}\n", "SEP={}\r\n", '"sep={}"\n', "\ufeffsep={}\n"])
def test_excels_first_line_names_the_delimiter(tmp_path, delimiter, first):
    text = first.format(delimiter) + written(ROWS, delimiter)
    assert read(tmp_path, text) == ROWS


def test_a_header_may_span_lines(tmp_path):
    rows = [{"prompt\n(what was asked)": "p", " winner\n": "tie", 'the\n"id"': "1"}] * 3
    assert read(tmp_path, written(rows)) == [{key.strip(): value for key, value in rows[0].items()}] * 3
    votes = 'prompt,response_a,response_b,"winner","notes\nof us"\n' + "q,x,y,tie,z\n" * 5
    (tmp_path / "votes").write_text(votes)
    assert len(read_all([tmp_path / "votes"])[0]) == 5


def test_a_stray_quote_in_a_header_takes_no_records_with_it(tmp_path):
    found = read(tmp_path, 'prompt,"winner\n' + "1,2\n" * 100)
    assert len(found) == 100


def escaped(rows, escape):
    lines = [",".join(rows[0])]
    lines += [",".join(f'"{escape(value)}"' for value in row.values()) for row in rows]
    return "\n".join(lines) + "\n"


def test_quotes_with_a_backslash_and_all_else_as_it_is(tmp_path):
    text = escaped(ROWS, lambda value: value.replace('"', '\\"'))
    assert "\\n" in text
    assert read(tmp_path, text) == ROWS


def test_quotes_and_backslashes_with_a_backslash(tmp_path):
    text = escaped(ROWS, lambda value: value.replace("\\", "\\\\").replace('"', '\\"'))
    assert read(tmp_path, text) == ROWS
    assert read(tmp_path, written(ROWS, escapechar="\\", doublequote=False, quoting=csv.QUOTE_ALL)) == ROWS


def test_a_backslash_before_a_doubled_quote_or_at_a_cells_end_stands_for_itself(tmp_path):
    rows = [{"a": json.dumps(['"x" \\']), "b": "C:\\"}] * 5
    assert '\\""' in written(rows)
    assert read(tmp_path, written(rows, quoting=csv.QUOTE_ALL)) == rows


def test_the_lines_of_a_broken_record_are_those_of_the_file(tmp_path):
    text = 'sep=;\n"a\nb";c\n1;2\n3;"4\n5"6\n7;8\n'
    good, bad, *_ = read(tmp_path, text)
    assert good == {"a\nb": "1", "c": "2"}
    assert "lines 5 to 6" in str(bad)
    assert text.splitlines()[4:6] == ['3;"4', '5"6']


def test_two_columns_of_one_name_are_refused_with_any_first_line(tmp_path):
    (tmp_path / "v.csv").write_text("sep=;\nprompt;prompt;response_a;response_b;winner\n1;2;3;4;tie\n")
    with pytest.raises(TiebreakError, match="more than one column prompt"):
        read_all([tmp_path / "v.csv"])
