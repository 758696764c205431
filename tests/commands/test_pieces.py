"""Work in pieces by every command that does any: killed, stopped and shared, it writes what an undisturbed one writes."""

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pytest
from json_lines import write
from killed import killed_before

from tiebreak.cli import runs
from tiebreak.commands import pieces
from tiebreak.commands.label import Rules, label
from tiebreak.commands.pieces import Files, Outcome
from tiebreak.commands.predict import Request, predict
from tiebreak.commands.rank import Judging, rank
from tiebreak.commands.unfinished import Unfinished
from tiebreak.errors import Interrupted

pytestmark = pytest.mark.slow


class Command(Protocol):
    def __call__(self, model: Path, files: Files, stop: Callable[[], bool] = ...) -> Outcome: ...


def _predict(model: Path, files: Files, stop: Callable[[], bool] = lambda: False) -> Outcome:
    return predict(Request([model], files.inputs, files.output, device="cpu", shard=files.shard), stop)


def _rank(model: Path, files: Files, stop: Callable[[], bool] = lambda: False) -> Outcome:
    return rank(files, Judging(model, device="cpu"), stop)


def _label(model: Path, files: Files, stop: Callable[[], bool] = lambda: False) -> Outcome:
    return label(files, Judging(model, device="cpu"), Rules(keep_ties=True), stop)


def _has(made: list[int], most: int) -> bool:
    return len(made) >= most


PAIRS = [
    {"n": n, "prompt": f"Q{n}?", "response_a": "yes " * (n % 5 + 1), "response_b": "No."} for n in range(19)
]
PROMPTS = [{"prompt": f"Q{n}?", "responses": [f"Answer {m}" for m in range(2 + n % 4)]} for n in range(7)]
EVERY = pytest.mark.parametrize(
    ("command", "rows", "ending"),
    [
        (_predict, PAIRS, "jsonl"),
        (_predict, PAIRS, "csv"),
        (_predict, PAIRS, "parquet"),
        (_rank, PROMPTS, "parquet"),
        (_label, PAIRS, "jsonl"),
        (_label, PROMPTS, "parquet"),
    ],
)
"""Each with 5 pieces."""
Rows = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 4)


@EVERY
def test_killed_it_goes_on_and_writes_the_same(
    model: Path, tmp_path: Path, command: Command, rows: Rows, ending: str
) -> None:
    """Killed within every piece, as it joins them, and before the output takes its place."""
    source = write(tmp_path / "in.jsonl", rows)
    whole, output = tmp_path / f"whole.{ending}", tmp_path / f"out.{ending}"
    command(model, Files([source], whole))
    kept, names = tmp_path / f"{output.name}.unfinished", [f"0-{n:08d}.piece" for n in range(5)]
    for name in (*names, f"output.{ending}", output.name):
        killed_before(name, lambda: command(model, Files([source], output)))
        assert not output.exists()
        assert sorted(path.name for path in kept.glob("0-*")) == [made for made in names if made < name]
    command(model, Files([source], output))
    assert output.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("*.unfinished"))


@EVERY
def test_it_goes_on_where_it_stopped(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, rows: Rows, ending: str
) -> None:
    source = write(tmp_path / "in.jsonl", rows)
    whole, output = tmp_path / f"whole.{ending}", tmp_path / f"out.{ending}"
    undisturbed = command(model, Files([source], whole))
    made: list[int] = []
    keep = Unfinished.write

    def counted(self: Unfinished, number: int, piece: int, table: pa.Table) -> None:
        made.append(piece)
        keep(self, number, piece, table)

    monkeypatch.setattr(Unfinished, "write", counted)
    for stop_after in (1, 3):
        with pytest.raises(Interrupted):
            command(model, Files([source], output), partial(_has, made, stop_after))
        assert made == list(range(stop_after))
        assert not output.exists()
    assert vars(command(model, Files([source], output))) == vars(undisturbed)
    assert made == list(range(len(made))), "no piece is made twice"
    assert output.read_bytes() == whole.read_bytes()


@EVERY
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_shards_write_the_file_once_all_are_done(
    model: Path, tmp_path: Path, command: Command, rows: Rows, ending: str, order: tuple[int, ...]
) -> None:
    source = write(tmp_path / "in.jsonl", rows)
    whole, output = tmp_path / f"whole.{ending}", tmp_path / f"out.{ending}"
    command(model, Files([source], whole))
    for shard in order:
        assert not output.exists()
        found = command(model, Files([source], output, (shard, 3)))
        assert (found.finished, found.written) == ((shard == order[-1]),) * 2
    assert output.read_bytes() == whole.read_bytes()


@EVERY
def test_a_shard_without_pieces_leaves_nothing(
    model: Path, tmp_path: Path, command: Command, rows: Rows, ending: str
) -> None:
    source, output = write(tmp_path / "in.jsonl", rows[:1]), tmp_path / f"out.{ending}"
    assert not command(model, Files([source], output, (1, 2))).finished
    assert command(model, Files([source], output, (0, 2))).written
    late = command(model, Files([source], output, (1, 2)))
    assert (late.finished, late.written) == (True, False)
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".unfinished")]


@pytest.mark.parametrize("command", ["predict", "rank", "label"])
def test_what_a_shard_says(
    model: Path, tmp_path: Path, tiebreak: Callable[..., tuple[int, str, str]], command: str
) -> None:
    rows = [PROMPTS[2] if command == "rank" else PAIRS[0]]
    source, output = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    said = []
    for shard in ("2/2", "1/2", "2/2", "1/1"):
        code, out, err = tiebreak(command, model, source, "-o", output, "--device", "cpu", "--shard", shard)
        assert code == 0, err
        said.append(out.removeprefix(f"{output}: ").strip())
    assert said[0] == "shard 2/2 is done; the shard that ends last writes the file"
    assert said[2] == "shard 2/2 is done; another process has written the file"
    assert said[1].startswith(("1 row", "0 pairs kept", "1 pair kept"))
    assert said[3] == f"{said[1]}, in place of the file that was there"
    code, _, err = tiebreak(command, model, source, "-o", output, "--shard", "3/2")
    assert (code, "--shard takes K/N with K from 1 to N" in err) == (2, True)


@pytest.mark.parametrize("command", ["predict", "rank", "label"])
def test_a_stopped_command_says_how_to_go_on(
    model: Path, tmp_path: Path, tiebreak: Callable[..., tuple[int, str, str]], command: str
) -> None:
    source = write(tmp_path / "in.jsonl", PROMPTS if command == "rank" else PAIRS)
    runs.stop.received = signal.SIGTERM
    code, out, err = tiebreak(command, model, source, "-o", tmp_path / "out.jsonl", "--device", "cpu")
    assert (code, out) == (128 + signal.SIGTERM, "")
    assert f"go on with: tiebreak {command} {model}" in err
