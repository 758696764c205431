"""Tests of predictions by jobs of Slurm: what is submitted, and that its jobs together do what one process does."""

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from forked import Tiebreak
from shipped_judge import ship

from tiebreak.commands import pieces
from tiebreak.errors import TiebreakError
from tiebreak.slurm import client, shards

ROWS = [
    {"n": n, "prompt": f"why {n}", "response_a": "a " * (n % 7 + 1), "response_b": f"b {n}"}
    for n in range(30)
]


Submitted = list[tuple[str, tuple[str, ...], dict[str, str]]]


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> Submitted:
    """Scripts with the flags and variables that they are submitted with; the cluster takes arrays up to 9."""
    found: Submitted = []

    def submit(script: str, options: tuple[str, ...], variables: dict[str, str]) -> str:
        found.append((script, tuple(options), variables))
        return "17"

    monkeypatch.setattr(client, "submit", submit)
    monkeypatch.setattr(client, "max_array_size", lambda: 10)
    return found


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], list[str]]:
    """told(script, task): the arguments that a job of this script gives to `tiebreak`."""
    tool, said = tmp_path / "a tool", tmp_path / "told"
    tool.write_text(f'#!/bin/bash\nprintf \'%s\\0\' "$PWD" "$@" > {said}\n')
    tool.chmod(0o755)
    monkeypatch.setattr(shards, "tiebreak_command", lambda: tool)

    def run(script: str, task: int) -> list[str]:
        job = {**os.environ, "SLURM_ARRAY_TASK_ID": str(task)}
        subprocess.run(["bash"], input=os.fsencode(script), check=True, env=job, cwd="/")
        folder, *arguments = map(os.fsdecode, said.read_bytes().split(b"\0")[:-1])
        assert folder == os.getcwd()
        return arguments

    return run


def test_the_jobs_write_what_one_process_writes(
    tmp_path: Path,
    tiebreak: Tiebreak,
    submitted: Submitted,
    told: Callable[[str, int], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, folder = ship(tmp_path / "model", 0), tmp_path / "a folder, 100%"
    folder.mkdir()
    source, output = folder / "in.jsonl", folder / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    monkeypatch.setattr(pieces, "PIECE", 8)
    monkeypatch.setenv("SBATCH_PARTITION", "main")
    monkeypatch.setenv("SBATCH_ARRAY_INX", "0-99")
    monkeypatch.setenv("SBATCH_WAIT", "1")
    arguments = ("predict", model, source, "-o", output, "--device", "cpu", "--map", "prompt=prompt")
    on = ("--on", "slurm", "--shards", 2, "--sbatch", "--time=60", "--sbatch", "--nice")
    code, out, _ = tiebreak(*arguments, *on)
    assert (code, out.split(";")[0]) == (0, "job 17: 2 shards")
    [(script, options, variables)] = submitted
    assert options == ("--time=60", "--nice")
    assert variables == {"SBATCH_PARTITION": "main"}
    assert "gres" not in script
    assert f'--output="{folder}%/slurm-%x-%A_%a.log"' in script
    for task in (2, 1):
        assert not output.exists()
        code, _, err = tiebreak(*told(script, task))
        assert code == 0, err
    assert not output.with_name("out.jsonl.unfinished").exists()
    assert tiebreak(*arguments[:3], "-o", folder / "here.jsonl", "--device", "cpu")[0] == 0
    assert output.read_bytes() == (folder / "here.jsonl").read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "-x",
        "a b",
        "it's",
        'a"b',
        "$(touch owned)",
        "`touch owned`",
        "a\n#SBATCH --wrap=x",
        "a;b&c|d>e",
        "\udcff",
        "*",
    ],
)
def test_the_jobs_get_any_file_name_as_it_is(
    tmp_path: Path,
    tiebreak: Tiebreak,
    submitted: Submitted,
    told: Callable[[str, int], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    model, folder = ship(tmp_path / "model", 0), tmp_path / "work $(touch owned) 'here'"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / f"{name}.jsonl").write_text(json.dumps(ROWS[0]))
    output = f"{name}.out.jsonl"
    on = ("--on", "slurm", "--shards", 3)
    code, _, err = tiebreak("predict", "-o", output, "--strict", *on, "--", model, f"{name}.jsonl")
    assert code == 0, err
    [(script, _, _)] = submitted
    directives = [line for line in script.split("trap")[0].splitlines() if line.startswith("#SBATCH")]
    assert not any("wrap" in line for line in directives)
    code, _, err = tiebreak(*told(script, 1))
    assert code == 0, err
    assert sorted(path.name for path in folder.iterdir()) == sorted([f"{name}.jsonl", output])


def test_the_script_goes_to_sbatch_byte_by_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sbatch := tmp_path / "sbatch").write_text(f"#!/bin/sh\ncat > {tmp_path}/script\necho 17\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(client, "max_array_size", lambda: None)
    assert shards.submit(["predict", "m", "\udcff"], tmp_path / "o.csv", 2, needs_gpu=False) == "17"
    assert b" m '\xff'" in (tmp_path / "script").read_bytes()


@pytest.mark.parametrize(
    ("option", "told"),
    [
        *((option, "takes a flag of sbatch with its value") for option in ("job.sh", "", "-", "--")),
        *(
            (option, "is not to be set")
            for option in (
                "--array=1-2",
                "--array",
                "-a1",
                "--wrap=ls",
                "-W",
                "--wait",
                "--no-requeue",
                "--test-only",
            )
        ),
    ],
)
def test_flags_that_would_run_something_else_are_refused(
    tmp_path: Path, submitted: Submitted, option: str, told: str
) -> None:
    arguments, options = ["predict", "m", "p"], ["--nice", option]
    with pytest.raises(TiebreakError, match=told):
        shards.submit(arguments, tmp_path / "o.csv", 2, needs_gpu=False, options=options)
    assert not submitted


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("predict MODEL missing.jsonl -o OUT", "no file at missing.jsonl"),
        ("predict missing IN -o OUT", "no model folder at missing"),
        ("predict MODEL IN -o OUT --weights 1,2", "weights"),
        ("predict MODEL IN -o OUT --max-error 0.2", "holds no counts of unseen votes"),
        ("predict MODEL IN -o OUT --precision fp99", "'fp99' is not one of 'auto'"),
        ("rank MODEL missing.jsonl -o OUT", "no file at missing.jsonl"),
        ("rank missing IN -o OUT", "no model folder at missing"),
        ("label MODEL missing.jsonl -o OUT", "no file at missing.jsonl"),
        ("label MODEL IN -o OUT --precision fp99", "'fp99' is not one of 'auto'"),
    ],
)
def test_what_every_job_would_end_with_is_told_before(
    tmp_path: Path,
    tiebreak: Tiebreak,
    submitted: Submitted,
    command: str,
    told: str,
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(ROWS[0]))
    paths = {"MODEL": ship(tmp_path / "model", 0), "IN": source, "OUT": tmp_path / "out.jsonl"}
    code, _, err = tiebreak(*(paths.get(word, word) for word in command.split()), "--on", "slurm")
    assert code == 2
    assert told in err
    assert not submitted


@pytest.mark.parametrize(
    "command",
    ["rank MODEL IN -o OUT --pairs 3 --strict", "label MODEL IN -o OUT --format messages --keep-ties"],
)
def test_other_commands_on_rows_are_jobs_too(
    tmp_path: Path,
    tiebreak: Tiebreak,
    submitted: Submitted,
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
    assert started[2:6] == [arguments[0], "--requeue", "--shard", "$SLURM_ARRAY_TASK_ID/2"]
    assert started[-3:] == ["--", *arguments[1:3]]
    given = dict.fromkeys([*arguments[3:], "--map", "id=n,prompt=p"])
    assert not given.keys() - {*started, "-o"}


def test_gpus_are_asked_for_and_arrays_have_a_limit(tmp_path: Path, submitted: Submitted) -> None:
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
