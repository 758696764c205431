"""Tests of predictions by jobs of Slurm: what is submitted, and that its jobs together do what one process does."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forked import Tiebreak
from shipped_judge import ship

from tiebreak.errors import TiebreakError
from tiebreak.slurm import client, shards

ROWS = [
    {"n": n, "prompt": f"why {n}", "response_a": "a " * (n % 7 + 1), "response_b": f"b {n}"}
    for n in range(30)
]


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...], dict[str, str]]]:
    """Scripts with the flags and variables that they are submitted with; the cluster takes arrays up to 9."""
    found: list[tuple[str, tuple[str, ...], dict[str, str]]] = []

    def submit(script: str, options: tuple[str, ...], variables: dict[str, str]) -> str:
        found.append((script, tuple(options), variables))
        return "17"

    monkeypatch.setattr(client, "submit", submit)
    monkeypatch.setattr(client, "max_array_size", lambda: 10)
    return found


def test_the_jobs_write_what_one_process_writes(
    tmp_path: Path,
    tiebreak: Tiebreak,
    submitted: list[tuple[str, tuple[str, ...], dict[str, str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, folder = ship(tmp_path / "model", 0), tmp_path / "a folder, 100%"
    folder.mkdir()
    source, output = folder / "in.jsonl", folder / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    tool = tmp_path / "tiebreak"
    small = "import tiebreak.commands.pieces as p; p.PIECE = 8; from tiebreak.cli import main; main()"
    tool.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{small}' \"$@\"\n")
    tool.chmod(0o755)
    monkeypatch.setattr(shards, "tiebreak_command", lambda: tool)
    monkeypatch.setenv("SBATCH_PARTITION", "main")
    arguments = ("predict", model, source, "-o", output, "--device", "cpu", "--map", "prompt=prompt")
    on = ("--on", "slurm", "--shards", 2, "--sbatch", "--time=60", "--sbatch", "--nice")
    code, out, _ = tiebreak(*arguments, *on)
    assert (code, out.split(";")[0]) == (0, "job 17: 2 shards")
    [(script, options, variables)] = submitted
    assert options == ("--time=60", "--nice")
    assert variables == {"SBATCH_PARTITION": "main"}
    assert "gres" not in script
    assert f'--output="{folder}%/slurm-%x-%A_%a.log"' in script
    for task in ("2", "1"):
        job = {**os.environ, "SLURM_ARRAY_TASK_ID": task}
        subprocess.run(["bash", "-c", script], check=True, env=job, capture_output=True)
    assert not output.with_name("out.jsonl.unfinished").exists()
    here = [str(part) for part in (tool, *arguments[:3], "-o", folder / "here.jsonl", "--device", "cpu")]
    subprocess.run(here, check=True, capture_output=True)
    assert output.read_bytes() == (folder / "here.jsonl").read_bytes()


@pytest.mark.parametrize(
    "command",
    ["rank MODEL IN -o OUT --pairs 3 --strict", "label MODEL IN -o OUT --format messages --keep-ties"],
)
def test_other_commands_on_rows_are_jobs_too(
    tmp_path: Path,
    tiebreak: Tiebreak,
    submitted: list[tuple[str, tuple[str, ...], dict[str, str]]],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    monkeypatch.setattr(shards, "tiebreak_command", lambda: "tiebreak")
    model, source = ship(tmp_path / "model", 0), tmp_path / "in.jsonl"
    source.write_text(json.dumps(ROWS[0]))
    paths = {"MODEL": model, "IN": source, "OUT": tmp_path / "out.jsonl"}
    arguments = [str(paths.get(word, word)) for word in command.split()]
    code, out, err = tiebreak(
        *arguments, "--on", "slurm", "--shards", "2", "--sbatch", "--time=60", "--map", "id=n,prompt=p"
    )
    assert code == 0, err
    assert f"/slurm-tiebreak.{arguments[0]}-17_*.log" in out
    [(script, options, _)] = submitted
    assert options == ("--time=60",)
    assert f"--job-name=tiebreak.{arguments[0]}\n" in script
    started = shlex.split(script.splitlines()[-1])
    assert started[:2] == ["exec", "tiebreak"]
    assert started[-3:] == ["--requeue", "--shard", "$SLURM_ARRAY_TASK_ID/2"]
    given = dict.fromkeys([*arguments[3:], "--map", "id=n,prompt=p"])
    assert started[2:5] == arguments[:3]
    assert not given.keys() - {*started, "-o"}


def test_gpus_are_asked_for_and_arrays_have_a_limit(
    tmp_path: Path, submitted: list[tuple[str, tuple[str, ...], dict[str, str]]]
) -> None:
    shards.submit(["predict", "m", "p"], tmp_path / "o.csv", 9, needs_gpu=True)
    assert "#SBATCH --gres=gpu:1\n" in submitted[0][0]
    assert "#SBATCH --array=1-9\n" in submitted[0][0]
    with pytest.raises(
        TiebreakError, match="10 shards are more than the cluster takes in one array: at most 9"
    ):
        shards.submit(["predict", "m", "p"], tmp_path / "o.csv", 10, needs_gpu=True)
    with pytest.raises(TiebreakError, match="name an output elsewhere"):
        shards.submit(["predict", "m", "p"], tmp_path / 'a"b' / "o.csv", 2, needs_gpu=True)


@pytest.mark.parametrize(
    ("received", "preempted", "again"),
    [
        (signal.SIGUSR1, False, True),
        (signal.SIGTERM, True, True),
        (signal.SIGTERM, False, False),
        (signal.SIGINT, True, False),
    ],
)
def test_a_stopped_job_comes_back_unless_it_was_cancelled(
    received: int, preempted: bool, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    back: list[str] = []
    monkeypatch.setattr(client, "this_job", lambda: "17_3")
    monkeypatch.setattr(client, "is_preempted", lambda job: preempted)
    monkeypatch.setattr(client, "requeue", back.append)
    assert shards.requeue_if_stopped(received, {"SLURM_RESTART_COUNT": "99"}) == again
    assert back == ["17_3"] * again
    if again:
        with pytest.raises(TiebreakError, match="stopped 101 times"):
            shards.requeue_if_stopped(received, {"SLURM_RESTART_COUNT": "100"})
    monkeypatch.setattr(client, "this_job", lambda: None)
    assert not shards.requeue_if_stopped(received)


def test_shards_are_for_slurm(tmp_path: Path, tiebreak: Tiebreak) -> None:
    model = ship(tmp_path / "model", 0)
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(ROWS[0]))
    code, _, err = tiebreak("predict", model, source, "-o", tmp_path / "o.csv", "--shards", 2)
    assert code == 2
    assert "--shards and --sbatch are for --on slurm" in err
    for files in ((source, "-o", "-"), ("-", "-o", tmp_path / "o.csv")):
        code, _, err = tiebreak("predict", model, *files, "--on", "slurm", "--shards", 2)
        assert code == 2
        assert "jobs have no standard input and output; name files" in err
