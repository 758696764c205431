"""Damaged files of votes in every format: rows in = rows out + rejects, and whole rows beside the damage stay."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fuzzing import Target, damage

from tiebreak.data_card.card import build_card
from tiebreak.errors import TiebreakError
from tiebreak.pipeline.steps import ingest
from tiebreak.runtime import Runtime
from tiebreak.votes.formats.readers import read

ROWS = 12
Row = dict[str, Any]
Make = Callable[[int], Row]


def pair(n: int) -> Row:
    names = ("prompt", "response_a", "response_b")
    texts = {name: json.dumps([f"{name} {n} “größer”", "then,\nwhat?\ud83d"]) for name in names}
    return {"id": f"row-{n}", **texts, "winner_model_a": 0.5, "winner_model_b": 0.25, "winner_tie": 0.25}


def plain(n: int) -> Row:
    return {"prompt": f'"Why {n}?"\nC:\\new', "response_a": "a; b", "response_b": "naïve", "winner": "tie"}


def arena(n: int) -> Row:
    chat = [{"role": "user", "content": f"hi {n}"}, {"role": "assistant", "content": "größer"}]
    return {"question_id": f"row-{n}", "winner": "tie", "conversation_a": chat, "conversation_b": chat}


def session(n: int) -> Row:
    """LM Arena's shape of 2025: parts, earlier turns, a session, tags."""
    user, bot = (
        {"role": role, "content": [{"type": "text", "text": f"größer {n}"}]} for role in ("user", "assistant")
    )
    turns = [{"user": user, "model_side_a": bot, "model_side_b": bot}] * 2
    row = {
        "id": f"row-{n}",
        "winner": "both_bad",
        "conversation_a": [user, bot],
        "conversation_b": [user, bot],
    }
    about = {"language": "de", "is_code": True, "category_tag": {"math_v0.1": {"math": True}}}
    return row | about | {"evaluation_session_id": "s", "full_conversation": turns}


def numbered(n: int) -> Row:
    models = {"generator_1": "old", "generator_2": "new"}
    return {"question": f"why {n}?", "output_1": "a; b", "output_2": "naïve", "preference": 1.25, **models}


def preference(n: int) -> Row:
    dialogs = {side: f"\n\nHuman: {n}\n\nAssistant: {side}" for side in ("chosen", "rejected")}
    return {"id": f"row-{n}", **dialogs}


def scored(n: int) -> Row:
    completions = [{"model": m, "response": f"{m} {n}", "overall_score": len(m)} for m in ("a", "bb", "cc")]
    return {"instruction": f"do {n}", "completions": completions}


def as_csv(make: Make, delimiter: str = ",", **options: Any) -> bytes:
    text = io.StringIO(newline="")
    rows = [make(n) for n in range(ROWS)]
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, **options)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_lines(make: Make) -> bytes:
    return "".join(json.dumps(make(n), ensure_ascii=make is pair) + "\n" for n in range(ROWS)).encode()


def as_array(make: Make, indent: int | None = 1) -> bytes:
    return json.dumps([make(n) for n in range(ROWS)], indent=indent).encode()


def as_parquet(make: Make, **options: Any) -> bytes:
    sink = io.BytesIO()
    rows = json.loads(json.dumps([make(n) for n in range(ROWS)]))
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=5, **options)
    return sink.getvalue()


ESCAPED: dict[str, Any] = {"escapechar": "\\", "doublequote": False, "quoting": csv.QUOTE_ALL}
FILES = {
    "csv": as_csv(pair),
    "csv-plain": as_csv(plain),
    "csv-excel": b"sep=;\r\n" + as_csv(plain, ";"),
    "csv-escaped": as_csv(plain, **ESCAPED),
    "csv-latin": as_csv(plain).decode().encode("cp1252"),
    "csv-mac": as_csv(plain, lineterminator="\r").replace(b"\n", b" "),
    "tsv": as_csv(plain, "\t"),
    "lines": as_lines(pair),
    "lines-arena": as_lines(arena),
    "lines-preference": as_lines(preference),
    "lines-session": as_lines(session),
    "csv-numbered": as_csv(numbered),
    "lines-scored": as_lines(scored),
    "array": as_array(pair),
    "array-line": as_array(arena, None),
    "parquet": as_parquet(pair),
    "parquet-plain": as_parquet(arena, compression="none", use_dictionary=False, write_page_checksum=True),
    "parquet-zstd": as_parquet(scored, compression="zstd"),
    "csv-gz": gzip.compress(as_csv(pair), mtime=0),
    "array-gz": gzip.compress(as_array(pair), mtime=0),
    "lines-zst": pa.compress(as_lines(arena), "zstd").to_pybytes(),
    "tsv-zst": pa.compress(as_csv(plain, "\t"), "zstd").to_pybytes(),
}


def damaged_votes(name: str, random: Random, folder: Path) -> bool:
    """One to three damages; of every tenth file that can be read the whole ingest step and the data card too."""
    content = FILES[name]
    for _ in range(random.choice((1, 1, 2, 3))):
        content = damage(content, random)
    path = folder / "votes"
    path.write_bytes(content)
    check(path, name, content)
    if random.random() < 0.1:
        _ingest(path, folder)
        build_card({"votes": [path]})
    return True


def check(path: Path, name: str, content: bytes) -> None:
    """Read a file. Raises TiebreakError where the readers do."""
    batches = list(read([path], "votes"))
    records = sum(batch.records for batch in batches)
    rejects = [reject.row for batch in batches for reject in batch.rejects]
    votes = sum(batch.votes.num_rows for batch in batches)
    assert len(set(rejects)) == len(rejects) <= records
    if not any(make in name for make in ("scored", "zstd")):
        assert votes + len(rejects) == records
    untouched = [line for line in FILES[name].split(b"\n") if line and line in content.split(b"\n")]
    if name in LINES and content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        assert records == sum(bool(line.strip(b" \t\r\n")) for line in content.split(b"\n"))
        assert votes * (1 if name != "lines-scored" else 3) >= len(untouched)
    if content.startswith(b"PAR1"):
        assert records == pq.ParquetFile(path).metadata.num_rows


def _ingest(path: Path, folder: Path) -> None:
    settings = ingest.Settings(role="votes", max_rejected_share=1, incomplete_files=True)
    (folder / "ingested").mkdir()
    try:
        made = ingest.run(settings, {"files": (path,)}, folder / "ingested", Runtime("cpu", folder))
    except TiebreakError:
        assert not list((folder / "ingested").iterdir()), "nothing half-written stays behind"
        raise
    assert pq.read_table(folder / "ingested" / "votes.parquet").num_rows == made["votes"]
    assert pq.read_table(folder / "ingested" / "rejects.parquet").num_rows == made["rejects"]


LINES = {"lines", "lines-arena", "lines-preference", "lines-session", "lines-scored"}
TARGETS: dict[str, Target] = {name: partial(damaged_votes, name) for name in FILES}
