import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_models import base

from tiebreak.errors import TiebreakError
from tiebreak.hashes import file_digest
from tiebreak.judge import package
from tiebreak.model import hub, intact
from tiebreak.output import no_link
from tiebreak.regular_file import require_regular
from tiebreak.training import checkpoint
from tiebreak.votes.formats import containers


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def pipe(path: Path) -> None:
    os.mkfifo(path)


SPECIAL = pytest.mark.parametrize(("make", "kind"), [(pipe, "a pipe"), (device, "a device")])


@SPECIAL
def test_what_is_no_file_is_named(make: Callable[[Path], None], kind: str, tmp_path: Path) -> None:
    make(tmp_path / "x")
    with pytest.raises(TiebreakError, match=f"x is {kind}, not a file; do this"):
        require_regular(tmp_path / "x", "do this")


def test_sockets_and_folders_are_refused_and_files_and_links_to_them_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("socket")
        with pytest.raises(TiebreakError, match="is a socket"):
            require_regular(Path("socket"))
    with pytest.raises(TiebreakError, match="is a folder"):
        require_regular(tmp_path)
    Path("file").touch()
    Path("link").symlink_to("file")
    for name in ("file", "link", "nothing"):
        require_regular(Path(name))


@SPECIAL
def test_votes_are_read_of_files_alone(make: Callable[[Path], None], kind: str, tmp_path: Path) -> None:
    make(tmp_path / "votes.jsonl")
    for read in (lambda path: containers.expand([path]), lambda path: list(containers.records(path))):
        with pytest.raises(TiebreakError, match=rf"votes\.jsonl is {kind}, not a file"):
            read(tmp_path / "votes.jsonl")


@SPECIAL
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_models_are_read_of_files_alone(
    make: Callable[[Path], None], kind: str, name: str, tmp_path: Path
) -> None:
    for file in base("llama").iterdir():
        if file.name != name:
            (tmp_path / file.name).symlink_to(file)
    make(tmp_path / name)
    with pytest.raises(TiebreakError, match=f"{name} is {kind}, not a file; copy or download"):
        intact.require(tmp_path)


@SPECIAL
def test_a_package_is_read_of_a_file_alone(make: Callable[[Path], None], kind: str, tmp_path: Path) -> None:
    make(tmp_path / package.NAME)
    with pytest.raises(TiebreakError, match=rf"tiebreak\.json is {kind}, not a file; copy the whole folder"):
        package.read(tmp_path)


@SPECIAL
def test_what_is_written_where_it_stands_is_a_file(
    make: Callable[[Path], None], kind: str, tmp_path: Path
) -> None:
    make(tmp_path / "log")
    with pytest.raises(TiebreakError, match=f"log is {kind}, not a file; remove it"):
        no_link(str(tmp_path / "log"), os.O_WRONLY)
    with pytest.raises(TiebreakError, match=f"log is {kind}, not a file"):
        file_digest(tmp_path / "log")


@SPECIAL
def test_a_tokenizer_is_read_of_files_alone(make: Callable[[Path], None], kind: str, tmp_path: Path) -> None:
    make(tmp_path / "tokenizer.json")
    with pytest.raises(TiebreakError, match=rf"tokenizer\.json is {kind}, not a file"):
        hub.tokenizer(str(tmp_path))


@SPECIAL
def test_a_checkpoint_of_no_files_is_left_out(
    make: Callable[[Path], None], kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step, name in (("step-1", "progress.json"), ("step-2", "state.safetensors")):
        (tmp_path / step).mkdir()
        (tmp_path / step / "progress.json").write_text('{"sha256": ""}')
        (tmp_path / step / name).unlink(missing_ok=True)
        make(tmp_path / step / name)
    weight = torch.nn.Parameter(torch.zeros(1))
    assert checkpoint.restore(tmp_path, {"a": weight}, torch.optim.SGD([weight])).step == 0
    assert caplog.text.count(f"is {kind}, not a file") == 2
