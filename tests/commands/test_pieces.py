"""Work in pieces by every command that does any: killed, stopped and shared, it writes what an undisturbed one writes."""

import json
import os
import shutil
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
from tiebreak.commands import pieces, row_files
from tiebreak.commands.label import Rules, label
from tiebreak.commands.pieces import Files, Outcome
from tiebreak.commands.predict import Request, predict
from tiebreak.commands.rank import Judging, rank
from tiebreak.commands.unfinished import Unfinished
from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.judge import package
from tiebreak.model import hub

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
Change = Callable[[Path, Path], Path]


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
    assert (late.finished, late.written) == (False, False)
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".unfinished")]


def test_an_output_that_was_there_before_is_not_taken_for_this_one(model: Path, tmp_path: Path) -> None:
    """A shard without pieces begins and ends while another computes: nothing is lost, and nothing old is left."""
    old, new = write(tmp_path / "old.jsonl", PAIRS[5:]), write(tmp_path / "new.jsonl", PAIRS[:2])
    output = tmp_path / "out.jsonl"
    _predict(model, Files([old], output))
    before = output.read_bytes()
    others: list[Outcome] = []

    def meanwhile() -> bool:
        if not others:
            shutil.rmtree(
                tmp_path / "out.jsonl.unfinished", ignore_errors=True
            )  # as if that one had begun first
            others.append(_predict(model, Files([new], output, (1, 2))))
        return False

    assert _predict(model, Files([new], output, (0, 2)), meanwhile).written
    assert (others[0].finished, others[0].written) == (False, False)
    assert len(output.read_text().splitlines()) == 2
    assert output.read_bytes() != before
    assert not list(tmp_path.glob("*.unfinished"))


def test_who_is_overtaken_says_so_and_leaves_nothing(model: Path, tmp_path: Path) -> None:
    """The same command twice at once: one of them finishes while the other computes."""
    source, output = write(tmp_path / "in.jsonl", PAIRS), tmp_path / "out.jsonl"
    output.write_text("old")
    done: list[bytes] = []

    def meanwhile() -> bool:
        if not done:
            assert _predict(model, Files([source], output)).written
            done.append(output.read_bytes())
        return False

    found = _predict(model, Files([source], output), meanwhile)
    assert (found.finished, found.written) == (True, False)
    assert [output.read_bytes()] == done
    assert not list(tmp_path.glob("*.unfinished"))


def _longer(source: Path, model: Path) -> Path:
    """The input gets a row more, as by a process that is not done with it."""
    source.write_text(json.dumps(PAIRS[0]) + "\n" + source.read_text())
    return source


def _replaced(source: Path, model: Path) -> Path:
    """The model's folder gets another model."""
    described = model / package.NAME
    described.write_text(described.read_text().replace('"temperature": 1.3', '"temperature": 1.4'))
    return described


def _gone(source: Path, model: Path) -> Path:
    source.unlink()
    return source


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_longer, "the inputs changed while this command read them"),
        (_replaced, "the models changed while this command read them"),
        (_gone, r"in\.jsonl was read by this command and is gone"),
    ],
)
@pytest.mark.parametrize("when", [1, 2, 4, 99])
def test_what_changes_under_way_is_told_and_mixed_with_nothing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, told: str, when: int
) -> None:
    """Before the n-th piece is kept, or (99) while the rows are joined."""
    source, output = write(tmp_path / "in.jsonl", PAIRS), tmp_path / "out.jsonl"
    copied = tmp_path / "model"
    shutil.copytree(model, copied)
    _predict(model, Files([source], tmp_path / "whole.jsonl"))
    before = {path: path.read_bytes() for path in (source, copied / package.NAME)}
    stats = {path: path.stat() for path in before}
    calls: list[int] = []

    def stop() -> bool:
        calls.append(0)
        if len(calls) == when:
            change(source, copied)
        return False

    join = row_files.write

    def write_rows(*arguments: Any) -> None:
        join(*arguments)
        if when == 99:
            change(source, copied)

    with monkeypatch.context() as patched:
        patched.setattr(row_files, "write", write_rows)
        with pytest.raises(TiebreakError, match=told):
            _predict(copied, Files([source], output), stop)
    assert not output.exists()
    kept = sorted(path.name for path in tmp_path.glob("out.jsonl.unfinished/*.piece"))
    assert kept == [f"0-{n:08d}.piece" for n in range(min(when - 1, 5))]
    for path, content in before.items():  # put back, it goes on
        path.write_bytes(content)
        os.utime(path, ns=(stats[path].st_atime_ns, stats[path].st_mtime_ns))
    _predict(copied, Files([source], output))
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_what_was_kept_and_is_gone_is_an_error(model: Path, tmp_path: Path) -> None:
    source, output = write(tmp_path / "in.jsonl", PAIRS), tmp_path / "out.jsonl"
    calls: list[int] = []

    def stop() -> bool:
        calls.append(0)
        if len(calls) == 3:
            shutil.rmtree(tmp_path / "out.jsonl.unfinished")
        return False

    with pytest.raises(TiebreakError, match="has lost some of what was kept there; run the same command"):
        _predict(model, Files([source], output), stop)
    assert not output.exists()
    assert _predict(model, Files([source], output)).written


def test_a_dataset_of_the_hub_is_read_at_the_commit_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "commit", lambda name, revision, kind: f"{name[0]}{revision}{kind}")
    named = [Path("hub:o/n"), Path("hub:o/n@v1:test")]
    found = pieces._inputs(Files(named, Path("out.jsonl")))
    assert found == [Path("hub:o/n@oNonedataset:train"), Path("hub:o/n@ov1dataset:test")]


def _link_to_elsewhere(folder: Path) -> Files:
    (folder / "votes" / "out.jsonl").symlink_to(folder / "elsewhere.jsonl")
    return Files([folder / "votes"], folder / "votes" / "out.jsonl")


def _by_another_name(folder: Path) -> Files:
    (folder / "again").symlink_to(folder / "votes")
    return Files([folder / "again"], folder / "votes" / "deeper" / "out.jsonl")


def _read_through_a_link(folder: Path) -> Files:
    (folder / "out.jsonl").write_text(json.dumps(PAIRS[0]))
    (folder / "votes" / "more.jsonl").symlink_to(folder / "out.jsonl")
    return Files([folder / "votes"], folder / "out.jsonl")


def _among_the_pieces(folder: Path) -> Files:
    (folder / "votes").rename(folder / "out.jsonl.unfinished")
    (folder / "out.jsonl.unfinished" / "in.jsonl").rename(folder / "out.jsonl.unfinished" / "stdin.jsonl")
    return Files([folder / "out.jsonl.unfinished"], folder / "out.jsonl")


def _too_long(folder: Path) -> Files:
    return Files([folder / "votes"], folder / f"{'x' * 245}.jsonl")


def _check(files: Files) -> None:
    files.check()
    files.require_inputs()


def _missing(folder: Path) -> Files:
    return Files([folder / "votes" / "mistyped.jsonl"], folder / "out.jsonl")


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (_link_to_elsewhere, "would lie in the folder .*, all of which this command reads"),
        (_by_another_name, "would lie in the folder .*, all of which this command reads"),
        (_read_through_a_link, "is read by this command and would be lost"),
        (_among_the_pieces, r"stdin\.jsonl lies in .*\.unfinished, which goes once out\.jsonl is written"),
        (_too_long, "nothing can be kept in .*: File name too long; name another output"),
        (_missing, r"no file at .*mistyped\.jsonl"),
    ],
)
def test_no_output_is_put_where_it_would_harm(
    tmp_path: Path, files: Callable[[Path], Files], told: str
) -> None:
    (tmp_path / "votes").mkdir()
    write(tmp_path / "votes" / "in.jsonl", PAIRS)
    given = files(tmp_path)
    before = {path: path.lstat() for path in tmp_path.rglob("*")}
    with pytest.raises(TiebreakError, match=told):
        _check(given)
    assert {path: path.lstat() for path in tmp_path.rglob("*")} == before


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
    assert said[2] == said[0], "it cannot tell that file from one that was there before"
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
