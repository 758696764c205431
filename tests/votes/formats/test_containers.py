import codecs
import csv
import gzip
import json
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tiebreak.errors import TiebreakError
from tiebreak.votes.formats import containers, delimited, text_lines
from tiebreak.votes.formats.containers import records
from tiebreak.votes.formats.dialog import RowError
from tiebreak.votes.formats.rows import TRUNCATED

ROWS = [{"id": str(n), "text": f'line one of {n}\nline "two", größer 你好'} for n in range(5)]


def as_csv(rows, delimiter=",", newline="\n"):
    text = [delimiter.join(rows[0])]
    text += [delimiter.join('"' + row[k].replace('"', '""') + '"' for k in row) for row in rows]
    return newline.join(text) + newline


def as_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def write(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def good(path):
    found = list(records(path))
    assert [number for number, _ in found] == list(range(1, len(found) + 1))
    return [record for _, record in found]


@pytest.mark.parametrize(
    "text",
    [
        as_csv(ROWS),
        as_csv(ROWS, "\t"),
        as_csv(ROWS, ";"),
        as_csv(ROWS, newline="\r\n"),
        as_csv(ROWS).rstrip("\n"),
        as_lines(ROWS),
        as_lines(ROWS).replace("\n", "\n\n"),
        as_lines(ROWS).replace("\n", "\r\n"),
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2, ensure_ascii=False),
    ],
)
@pytest.mark.parametrize("wrap", [bytes, codecs.BOM_UTF8.__add__, gzip.compress, "zstd"])
def test_text_formats_are_detected_by_content(tmp_path, text, wrap):
    content = text.encode()
    packed = pa.compress(content, "zstd").to_pybytes() if wrap == "zstd" else wrap(content)
    assert good(write(tmp_path, packed)) == ROWS


def test_parquet_in_many_row_groups(tmp_path):
    path = tmp_path / "file"
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=2)
    assert good(path) == ROWS
    assert [record for _, record in records(path, ("id", "other"))] == [{"id": row["id"]} for row in ROWS]


def test_latin_1(tmp_path):
    path = write(
        tmp_path,
        as_csv([{"id": "1", "text": "plain"}, {"id": "2", "text": "größer – naïve"}]).encode("cp1252"),
    )
    assert [row["text"] for row in good(path)] == ["plain", "größer – naïve"]


def test_a_broken_letter_in_utf_8_costs_its_row_alone(tmp_path):
    content = as_csv(ROWS).encode().replace("ß".encode(), b"\xff", 4).replace(b"\xff", "ß".encode(), 3)
    found = [record for _, record in records(write(tmp_path, content))]
    assert found == [*ROWS[:3], RowError("not UTF-8"), ROWS[4]]


def test_nul_bytes_pass(tmp_path):
    assert good(write(tmp_path, "id,text\n1,a\0b\n"))[0]["text"] == "a\0b"


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("a,b\n1,2\n3\n4,5,6\n7,8\n", ["good", "wrong number of columns", "wrong number of columns", "good"]),
        ('a,b\n1,"x"y\n7,8\n', ["broken quoting", "good"]),
        ('a,b\n1,2\n7,"8\n', ["good", "broken quoting"]),
        ('{"a": 1}\n{"a": \n[1]\n{"a": 2}\n', ["good", "not JSON", "not a JSON object", "good"]),
        ('{"a": 1}\n{"a": 2', ["good", TRUNCATED]),
        ('[{"a": 1}, 5, {"a": 2}]', ["good", "not a JSON object", "good"]),
        ('[{"a": 1}, {"a": 2}', ["good", "good", TRUNCATED]),
        ('[{"a": 1}]\n \n', ["good"]),
        ('[{"a": 1}]\n[{"a": 2}]', ["good", TRUNCATED]),
        ('[{"a": 1}] {"a": 2}', ["good", TRUNCATED]),
        ('[{"a": 1}, {"a": 2, ]', ["good", TRUNCATED]),
        ('{"a": ' + "[" * 100_000 + "\n" + '{"a": 1}', ["not JSON", "good"]),
    ],
)
def test_what_cannot_be_read_keeps_its_place(tmp_path, text, kinds):
    found = [record for _, record in records(write(tmp_path, text))]
    assert [record.kind if isinstance(record, RowError) else "good" for record in found] == kinds


@pytest.mark.parametrize("format", ["gzip", "zstd"])
def test_a_truncated_file_keeps_its_rows_and_says_that_it_breaks_off(tmp_path, format):
    text = as_lines([{"id": n, "text": str(zlib.crc32(str(n).encode()))} for n in range(20_000)]).encode()
    packed = gzip.compress(text, mtime=0) if format == "gzip" else pa.compress(text, "zstd").to_pybytes()
    found = [record for _, record in records(write(tmp_path, packed[: len(packed) // 2]))]
    assert [record["id"] for record in found[:-1]] == list(range(len(found) - 1))
    assert len(found) > 1000
    assert found[-1].kind == TRUNCATED
    assert found[-1].detail


def test_a_damaged_row_group_costs_its_rows_alone(tmp_path):
    path = tmp_path / "file"
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=2, write_page_checksum=True)
    start = pq.ParquetFile(path).metadata.row_group(1).column(1).dictionary_page_offset
    content = bytearray(path.read_bytes())
    content[start + 60] ^= 0xFF
    path.write_bytes(content)
    found = [record for _, record in records(path)]
    assert found[:2] + found[4:] == ROWS[:2] + ROWS[4:]
    assert all(record.kind == "damaged Parquet row group" and record.detail for record in found[2:4])


def test_text_that_is_not_utf_8_inside_parquet(tmp_path):
    path = tmp_path / "file"
    bad = pa.Array.from_buffers(pa.string(), 2, pa.array([b"good", b"\xff\xfe"], pa.binary()).buffers())
    pq.write_table(pa.table({"text": bad}), path)
    assert [record for _, record in records(path)] == [{"text": "good"}, RowError("not UTF-8")]


def test_a_ten_megabyte_cell(tmp_path):
    long = "x" * 10_000_000
    for text in (as_csv([{"id": "1", "text": long}]), as_lines([{"id": "1", "text": long}])):
        assert good(write(tmp_path, text))[0]["text"] == long


def test_a_record_without_end_is_one_reject(tmp_path, monkeypatch):
    for module in (containers, delimited, text_lines):
        monkeypatch.setattr(module, "MAX_RECORD", 1000)
    for text in (
        'a,b\n1,2\n3,"' + "x" * 1500 + '"\n4,5\n',
        as_lines([{"a": 1}, {"a": "x" * 1500}, {"a": 2}]),
    ):
        found = [record for _, record in records(write(tmp_path, text))]
        assert [isinstance(record, dict) for record in (found[0], found[-1])] == [True, True]
        assert 1 <= sum(isinstance(record, RowError) for record in found) <= 2
        monkeypatch.setenv("TIEBREAK_LIMITS", "2")
        assert all(isinstance(record, dict) for _, record in records(tmp_path / "file"))
        monkeypatch.delenv("TIEBREAK_LIMITS")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,text\n".encode("utf-16"), "UTF-16"),
        ("id,text\n".encode("utf-16-be"), "UTF-16"),
        (codecs.BOM_UTF16_LE + "größer 你好\nid".encode("utf-16-le"), "UTF-16"),
        (b"\x07\0\0\x9d\xff,\n1,2\n", "is not text"),
        (b"id,\x9d\x03\xff,\n1,2\n", "is not text"),
        (b"PK\x03\x04rest", "zip"),
        (b"PAR1 and nothing more", "damaged Parquet"),
        (gzip.compress(b"PAR1 packed again", mtime=0), "unpack it"),
    ],
)
def test_files_of_other_kinds_are_refused(tmp_path, content, message):
    with pytest.raises(TiebreakError, match=message):
        list(records(write(tmp_path, content)))


def test_folders_stand_for_their_files(tmp_path):
    for name in ("b.csv", "sub/a.csv", ".hidden", "_SUCCESS"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert containers.expand([tmp_path]) == [tmp_path / "b.csv", tmp_path / "sub/a.csv"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(TiebreakError, match="holds no files"):
        containers.expand([tmp_path / "empty"])


def test_the_last_line_of_a_csv_may_lack_its_end_and_quotes_may_hold_lines(tmp_path):
    path = tmp_path / "file"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], ["1", "a\r\nb\rc\nd"]])
    assert good(Path(path)) == [{"id": "1", "text": "a\r\nb\rc\nd"}]


@pytest.mark.parametrize("form", ["{},\n{}\n{}", "[{},\n{}, {}]"], ids=["lines", "array"])
def test_an_object_with_a_key_twice_is_a_reject(tmp_path, form):
    form = form if form[0] == "[" else form.replace(",", "")
    rows = '{"a": 1}', '{"a": [{"b": 1, "c": "]}", "b": 2}]}', '{"a": 3}'
    first, second, third = (record for _, record in records(write(tmp_path, form.format(*rows))))
    assert (first, third) == ({"a": 1}, {"a": 3})
    assert str(second) == "a key is there twice: the key 'b' is there twice"


def test_one_line_of_latin_1_costs_its_row_alone(tmp_path, caplog):
    rows = [{"id": str(n), "text": "café 你好"} for n in range(20)]
    for text in (as_csv(rows), json.dumps(rows, indent=1, ensure_ascii=False)):
        content = text.encode().replace("café 你好".encode(), "café".encode("cp1252"), 1)
        assert [record for _, record in records(write(tmp_path, content))] == [
            RowError("not UTF-8"),
            *rows[1:],
        ]
    assert not caplog.records


def test_a_file_in_latin_1_is_named_and_its_lines_of_utf_8_stay(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(text_lines, "_LOOK_AHEAD", 100)
    rows = [{"id": str(n), "text": "größer"} for n in range(40)]
    head, tail = as_csv(rows[:20]), as_csv(rows[20:]).partition("\n")[2]
    path = write(tmp_path, head.encode("cp1252") + tail.encode())
    assert good(path) == rows
    assert f"{path} is not UTF-8; read as Windows-1252" in caplog.text


def test_a_header_that_is_not_utf_8_costs_no_row(tmp_path):
    path = write(tmp_path, b"id,na\xefve\n" + "1,größer\n".encode())
    assert good(path) == [{"id": "1", "na?ve": "größer"}]


# --- quotes, line ends and last lines that are not as they should be

HEADER = "id,prompt,response_a,response_b,winner\n"
PLAIN = [f"{n},question {n},good,bad,model_a\n" for n in range(100)]


def rejects(found):
    return [str(record) for _, record in found if isinstance(record, RowError)]


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        ('10,"question,good,bad,tie\n', PLAIN[60], "broken quoting: unexpected end of data, lines 12 to 101"),
        ('10,"question,good,bad,tie\n', '60,quest"ion,good,bad,tie\n', "broken quoting: ',' expected"),
        ('10,"question,good,bad,tie\n', '60,question,good",bad,tie\n', "wrong number of columns: 4"),
        ('10,"question,good,bad,tie\n', '60,question",good,bad,tie\n', "broken quoting: a quote holds lines"),
    ],
)
def test_a_stray_quote_counts_as_all_records_that_it_takes(tmp_path, start, end, reason):
    lines = [*PLAIN[:10], start, *PLAIN[11:60], end, *PLAIN[61:]]
    found = list(records(write(tmp_path, HEADER + "".join(lines))))
    assert [number for number, _ in found] == list(range(1, 101))
    assert len(rejects(found)) == (90 if end == PLAIN[60] else 51)
    assert all(reason in text for text in rejects(found))


def test_a_table_in_a_text_is_no_stray_quote(tmp_path):
    table = "a,b,c,d,e\n1,2,3,4,5\n6,7,8,9,0\n1,2,3,4,5"
    rows = [
        {"p": table, "id": "1", "x": table, "y": "", "winner": name} for name in ("tie", "model_a", "tie")
    ]
    assert good(write(tmp_path, as_csv(rows))) == rows


@pytest.mark.parametrize("lost", [3, 12, 20])
@pytest.mark.parametrize("text", [HEADER + "".join(PLAIN), as_csv(ROWS), as_lines(ROWS), json.dumps(ROWS)])
def test_a_file_without_its_end_breaks_off(tmp_path, text, lost):
    *whole, last = list(records(write(tmp_path, text.rstrip("\n")[:-lost])))
    assert not rejects(whole)
    if not (text.startswith(HEADER) and lost == 3):  # cut within the last cell
        assert last[1].kind == TRUNCATED


@pytest.mark.parametrize("text", [HEADER + "".join(PLAIN), as_csv(ROWS), as_lines(ROWS)])
@pytest.mark.parametrize("wrap", [bytes, gzip.compress])
def test_carriage_returns_alone_may_end_lines(tmp_path, text, wrap):
    expected = good(write(tmp_path, text))
    assert good(write(tmp_path, wrap(text.replace("\n", "\r").encode()))) == [
        {name: value.replace("\n", "\r").replace("\r", "\n") for name, value in row.items()}
        for row in expected
    ]


# --- files that are larger inside than a machine


def test_a_text_that_a_parquet_dictionary_repeats_is_counted_each_time(tmp_path):
    text, count = "x" * (8 << 20), 2000
    column = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([text]))
    pq.write_table(pa.table({"prompt": column, "id": range(count)}), tmp_path / "bomb", compression="zstd")
    with pytest.raises(TiebreakError, match=r"bomb has \d+ bytes and unfolds to more than 1000 times that"):
        list(records(tmp_path / "bomb"))


def test_a_long_text_in_many_rows_is_read_row_by_row(tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "_BATCH_BYTES", 1 << 10)
    pq.write_table(pa.table({"prompt": ["x" * 1000] * 100}), tmp_path / "file")
    assert good(tmp_path / "file") == [{"prompt": "x" * 1000}] * 100


def test_a_stream_of_nothing_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(text_lines, "_FREE_BYTES", 1 << 20)
    content = pa.compress(b" " * (64 << 20), "zstd").to_pybytes()
    with pytest.raises(TiebreakError, match=r"unfolds to more than 1000 times .* TIEBREAK_LIMITS=10 in"):
        list(records(write(tmp_path, content)))
    monkeypatch.setenv("TIEBREAK_LIMITS", "100")
    assert list(records(write(tmp_path, content))) == []


def test_a_parquet_file_that_claims_more_rows_than_it_can_have(tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "_FREE_ROWS", 10)
    pq.write_table(pa.table({"a": [None] * 100_000}), tmp_path / "file")
    with pytest.raises(TiebreakError, match="claims 100000 rows; it is damaged"):
        list(records(tmp_path / "file"))
    monkeypatch.setenv("TIEBREAK_LIMITS", "10000")
    assert len(list(records(tmp_path / "file"))) == 100_000


def test_a_date_beyond_pythons_costs_its_row_alone(tmp_path):
    days = pa.array([1, 2**31 - 1], pa.int32()).cast(pa.date32())
    pq.write_table(pa.table({"id": days}), tmp_path / "file")
    first, second = [record for _, record in records(tmp_path / "file")]
    assert isinstance(first, dict)
    assert second.kind == "not readable"


def test_what_python_has_no_value_for_is_no_damage(tmp_path):
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(pa.table({"id": twice}), tmp_path / "file")
    ((_, found),) = records(tmp_path / "file")
    assert str(found).startswith("not readable: ")
    assert "duplicate field names" in str(found)


def test_many_names_of_which_one_is_there_twice_take_linear_time(tmp_path):
    keys = [*(f"k{n}" for n in range(100_000)), "k99999"]
    (tmp_path / "v.jsonl").write_text("{" + ",".join(f'"{key}": 1' for key in keys) + "}\n")
    ((_, found),) = records(tmp_path / "v.jsonl")
    assert str(found) == "a key is there twice: the key 'k99999' is there twice"
    (tmp_path / "v.csv").write_text(",".join(keys) + "\n")
    with pytest.raises(TiebreakError, match="more than one column k99999"):
        list(records(tmp_path / "v.csv"))


@pytest.mark.parametrize("form", ["{}\n", "[{}]"])
def test_what_is_nested_too_deep_is_a_reject(tmp_path, form):
    deep = '{"a": ' + "[" * 300 + "]" * 300 + "}"
    separator = "," if form.startswith("[") else "\n"
    (tmp_path / "file").write_text(form.replace("{}", separator.join(['{"a": 1}', deep, '{"a": 2}'])))
    first, second, third = [record for _, record in records(tmp_path / "file")]
    assert (first, third) == ({"a": 1}, {"a": 2})
    assert str(second) == "not JSON: it is nested too deep"
