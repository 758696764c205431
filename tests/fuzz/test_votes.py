"""Files of every format, damaged in every way: no traceback, no row lost without a word."""

import time
from pathlib import Path
from random import Random

import fuzz_votes
import fuzzing
import nightly
import pytest


@pytest.mark.parametrize("name", fuzz_votes.FILES)
def test_a_whole_file_is_read_without_rejects(tmp_path: Path, name: str) -> None:
    path = tmp_path / "votes"
    path.write_bytes(fuzz_votes.FILES[name])
    fuzz_votes.check(path, name, fuzz_votes.FILES[name])
    (batch,) = fuzz_votes.read([path], "votes")
    assert batch.votes.num_rows == fuzz_votes.ROWS * (3 if name in ("lines-scored", "parquet-zstd") else 1)


@pytest.mark.parametrize("name", fuzz_votes.FILES)
def test_damaged_files(tmp_path: Path, name: str) -> None:
    assert fuzzing.run(name, range(10), tmp_path) > 0


@pytest.mark.thorough
@pytest.mark.parametrize("name", fuzz_votes.FILES)
def test_fifty_damaged_files_of_each_format(tmp_path: Path, name: str) -> None:
    assert fuzzing.run(name, range(10, 60), tmp_path) > 0


@pytest.mark.nightly
@pytest.mark.parametrize("name", fuzz_votes.FILES)
def test_five_hundred_damaged_files_of_each_format(tmp_path: Path, name: str) -> None:
    began = time.monotonic()
    readable = fuzzing.run(name, range(500), tmp_path)
    packed = name.startswith("parquet") or name.endswith(("gz", "zst"))
    assert readable > (20 if packed else 150), f"{readable} of 500 could be read"
    nightly.add(
        "damaged: files of votes", 500, time.monotonic() - began, f"of {len(fuzz_votes.FILES)} formats"
    )


def test_a_case_is_made_by_its_number_alone() -> None:
    content = fuzz_votes.FILES["csv"]
    assert fuzzing.damage(content, Random("csv 7")) == fuzzing.damage(content, Random("csv 7")) != content


def test_a_failing_case_says_how_it_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(random: Random, folder: Path) -> bool:
        if random.random() < 0.5:
            raise KeyError("a mistake")
        return True

    monkeypatch.setattr(fuzzing, "targets", lambda: {"broken": broken})
    first = next(n for n in range(20) if Random(f"broken {n}").random() < 0.5)
    with pytest.raises(
        AssertionError,
        match=f"case {first} of broken: KeyError: .*; repeat it: python tests/fuzzing.py broken {first}$",
    ):
        fuzzing.run("broken", range(20), tmp_path)


def test_what_is_touched_outside_of_a_case_is_noticed(tmp_path: Path) -> None:
    def stray(random: Random, folder: Path) -> bool:
        Path("new").write_text("where the command stands")
        return True

    with pytest.raises(AssertionError, match="something outside of the case was touched"):
        fuzzing.case(stray, Random(0), tmp_path / "case")


def test_a_case_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "SECONDS", 0.05)
    with pytest.raises(fuzzing.Hang):
        fuzzing.case(lambda random, folder: time.sleep(60) or True, Random(0), tmp_path / "case")
