"""Files of every format, damaged in every way: no traceback, no row lost without a word."""

import csv
import gzip
import io
import json
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tiebreak.errors import TiebreakError
from tiebreak.votes.formats.readers import read

ROWS = 12
SCRAPS = b""" " ' , "" "," { } [ ] \\u null PAR1 1e999 NaN """.split()
SCRAPS += [b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xc3", b"  ", b"\xe2\x80\xa8"]


def pair(n):
    names = ("prompt", "response_a", "response_b")
    texts = {name: json.dumps([f"{name} {n} “größer”", "then,\nwhat?\ud83d"]) for name in names}
    return {"id": f"row-{n}", **texts, "winner_model_a": 0.5, "winner_model_b": 0.25, "winner_tie": 0.25}


def arena(n):
    chat = [{"role": "user", "content": f"hi {n}"}, {"role": "assistant", "content": "größer"}]
    return {"question_id": f"row-{n}", "winner": "tie", "conversation_a": chat, "conversation_b": chat}


def preference(n):
    dialogs = {side: f"\n\nHuman: {n}\n\nAssistant: {side}" for side in ("chosen", "rejected")}
    return {"id": f"row-{n}", **dialogs}


def scored(n):
    completions = [{"model": m, "response": f"{m} {n}", "overall_score": len(m)} for m in ("a", "bb", "cc")]
    return {"instruction": f"do {n}", "completions": completions}


def as_csv(make):
    text = io.StringIO(newline="")
    rows = [make(n) for n in range(ROWS)]
    writer = csv.DictWriter(text, rows[0], quoting=csv.QUOTE_MINIMAL)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_lines(make):
    return "".join(json.dumps(make(n), ensure_ascii=make is pair) + "\n" for n in range(ROWS)).encode()


def as_array(make):
    return json.dumps([make(n) for n in range(ROWS)], indent=1).encode()


def as_parquet(make, **options):
    sink = io.BytesIO()
    rows = json.loads(json.dumps([make(n) for n in range(ROWS)]))
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=5, **options)
    return sink.getvalue()


FILES = {
    "csv": as_csv(pair),
    "lines": as_lines(pair),
    "lines-arena": as_lines(arena),
    "lines-preference": as_lines(preference),
    "lines-scored": as_lines(scored),
    "array": as_array(pair),
    "parquet": as_parquet(pair),
    "parquet-plain": as_parquet(arena, compression="none", use_dictionary=False, write_page_checksum=True),
    "csv-gz": gzip.compress(as_csv(pair), mtime=0),
    "lines-zst": pa.compress(as_lines(arena), "zstd").to_pybytes(),
}


def damage(content, random):
    """One damage of a random kind at a random place."""
    at = random.randrange(len(content))
    end = min(len(content), at + random.choice((1, 2, 10, 100, 1000)))
    kind = random.randrange(6)
    if kind == 0:
        return content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[at + 1 :]
    if kind == 1:
        return content[:at] + content[end:]
    if kind == 2:
        return content[:at]
    if kind == 3:
        return content[:at] + random.choice(SCRAPS) + content[at:]
    if kind == 4:
        return content[:at] + content[at:end] * 2 + content[end:]
    return content[:at] + random.randbytes(end - at) + content[end:]


def check(path, name, content):
    """Read a damaged file. Returns whether it could be read at all."""
    path.write_bytes(content)
    try:
        batches = list(read([path], "votes"))
    except TiebreakError:
        return False
    records = sum(batch.records for batch in batches)
    rejects = [reject.row for batch in batches for reject in batch.rejects]
    votes = sum(batch.votes.num_rows for batch in batches)
    assert len(set(rejects)) == len(rejects) <= records
    if name != "lines-scored":
        assert votes + len(rejects) == records
    untouched = [line for line in FILES[name].split(b"\n") if line and line in content.split(b"\n")]
    if name.startswith("lines") and content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        assert records == sum(bool(line.strip(b" \t\r\n")) for line in content.split(b"\n"))
        assert votes * (1 if name != "lines-scored" else 3) >= len(untouched)
    if name == "csv" and content.startswith(untouched[0]) and b"id," in untouched[0]:
        # a quote more or less can take the next row with it, and says so
        assert votes >= len(untouched) - 1 - 2
    if name.startswith("parquet"):
        assert records == pq.ParquetFile(path).metadata.num_rows
    return True


def fuzz(tmp_path, name, count):
    random = Random(f"{name} {count}")
    path = Path(tmp_path) / "file"
    assert check(path, name, FILES[name])
    return sum(check(path, name, damage(FILES[name], random)) for _ in range(count))


@pytest.mark.parametrize("name", FILES)
def test_damaged_files(tmp_path, name):
    assert fuzz(tmp_path, name, 40) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_thousand_damaged_files(tmp_path, name):
    readable = fuzz(tmp_path, name, 1000)
    packed = name.startswith("parquet") or name.endswith(("gz", "zst"))
    assert readable > (20 if packed else 300), f"{readable} of 1000 could be read"
