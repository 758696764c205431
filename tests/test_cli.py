"""The command line: results on stdout, one clear error on stderr, the right exit code."""

import json
import math
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import fake_steps
import pytest
import typer
from tiny_models import base

from tiebreak import __version__, cli
from tiebreak.cli import runs
from tiebreak.engine.workspace import Workspace

COMMAND_LINE = typer.main.get_command(cli.app)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe over the fake steps."""
    fake_steps.use(monkeypatch.setattr)
    return fake_steps.write(tmp_path)


def test_plan_run_status(tiebreak, recipe: Path) -> None:
    code, out, _ = tiebreak("plan", recipe, "--json")
    assert code == 0
    assert {row["state"] for row in json.loads(out)} == {"missing"}
    code, out, err = tiebreak("run", recipe, "--json")
    assert code == 0
    assert len(json.loads(out)["done"]) == 5
    assert json.loads(out)["verdict"] is None, "nothing was evaluated"
    assert "[5/5] join/all: done" in err
    code, out, _ = tiebreak("status", recipe.parent, "--json")
    assert {row["state"] for row in json.loads(out)} == {"done"}
    code, out, _ = tiebreak("plan", recipe, "--set", "seed=1")
    assert "seed 0 -> 1" in out


def test_tables_are_readable(tiebreak, recipe: Path) -> None:
    _, out, _ = tiebreak("plan", recipe)
    lines = out.splitlines()
    assert lines[0].split() == ["task", "state", "reason"]
    assert lines[1].split() == ["ingest/votes", "missing", "never", "made"]


def test_a_run_that_fails_ends_with_2_and_says_how_to_go_on(
    tiebreak, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FAIL", "train/fold0")
    code, out, err = tiebreak("run", recipe)
    assert code == 2
    assert out == ""
    assert err.count("error: ") == 1
    assert "train/fold0: error: this fold does not train" in err
    assert (
        err.splitlines()[-1]
        == "not finished: 1 failed, 1 others need them; first mend what is said above, or it happens again, "
        f"then: tiebreak run {recipe}"
    )
    _, out, _ = tiebreak("status", recipe, "--json")
    failed = next(row for row in json.loads(out) if row["state"] == "failed")
    assert failed == {"task": "train/fold0", "state": "failed", "detail": "this fold does not train"}


def test_steps_and_folds(tiebreak, recipe: Path) -> None:
    _, out, _ = tiebreak("run", recipe, "--steps", "train", "--folds", "1", "--json")
    assert json.loads(out)["done"] == ["ingest/votes", "train/fold1"]


def test_task_prints_its_folder(tiebreak, recipe: Path) -> None:
    code, out, err = tiebreak("task", recipe, "train/fold0")
    assert (code, out) == (2, "")
    assert err.startswith("error: ingest/votes is missing (never made); make it with: tiebreak run ")
    code, out, _ = tiebreak("task", recipe, "ingest/votes")
    assert code == 0
    assert (Path(out.strip()) / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "nowhere.yaml"), "no recipe at nowhere.yaml. Make one with: tiebreak init"),
        (("run", "{recipe}", "--steps", "trane"), "no step 'trane'"),
        (("run", "{recipe}", "--folds", "x"), "--folds takes numbers such as 0,2, not 'x'"),
        (("run", "{recipe}", "--folds", "9"), "teach.folds names [9]"),
        (("plan", "{recipe}", "--set", "sed=1"), "did you mean 'seed'"),
        (("plan", "{recipe}", "--set", "data.votes=[gone.csv]"), "no file 'gone.csv'"),
        (("task", "{recipe}", "train/fold9"), "did you mean 'train/fold"),
        (("init", "x", "--preset", "tinny"), "did you mean 'tiny'"),
        (("init", "x", "--votes", "gone.csv"), "no file of votes at gone.csv"),
        (("predict", "nowhere", "pairs.csv", "-o", "out.csv"), "no model folder at nowhere"),
        (("predict", "nowhere", "pairs.csv", "-o", "out.txt"), "Valid: .csv, .jsonl, .parquet"),
        (("predict", "a", "b", "pairs.csv", "-o", "out.csv"), "no model folder at a"),
        (
            ("predict", "a", "b", "p.csv", "-o", "o.csv", "--weights", "x"),
            "--weights takes numbers such as 2,1",
        ),
        (("predict", "a", "p.csv", "-o", "o.csv", "--weights", "1", "--fit", "v.csv"), "exclude each other"),
        (("evaluate", "gone.csv", "labels.csv"), "labels.csv"),
        (("report", "nowhere"), "nowhere is no recipe and holds no metrics.json"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(
    tiebreak, recipe: Path, arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recipe.parent)
    code, out, err = tiebreak(*(part.format(recipe=recipe) for part in arguments))
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err
    assert not Path("x").exists()


WITHOUT_A_RECIPE = {"demo", "example", "init", "schema", "slurm"}
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "audit": ("{recipe}", "votes.csv"),
    "bench": ("{recipe}", "--suite", "votes.csv"),
    "compare": ("{recipe}", "ada.json", "bob.json"),
    "evaluate": ("{recipe}", "votes.csv"),
    "export": ("snakemake", "{recipe}"),
    "label": ("{recipe}", "pairs.csv", "-o", "out.jsonl"),
    "next": ("{recipe}", "pairs.csv", "-o", "out.csv"),
    "predict": ("{recipe}", "pairs.csv", "-o", "out.csv"),
    "push": ("{recipe}", "owner/name"),
    "rank": ("{recipe}", "candidates.jsonl", "-o", "out.csv"),
    "logs": ("{recipe}", "evaluate/report"),
    "step": ("3", "{recipe}"),
    "sweep": ("{recipe}", "--key", "distill.temperature", "--values", "1,2"),
    "task": ("{recipe}", "evaluate/report"),
}
"""Of those that take more than a recipe."""


@pytest.fixture
def votes(tmp_path: Path) -> None:
    (tmp_path / "votes.csv").write_text("id,prompt,response_a,response_b,winner\n1,p,x,y,tie\n")


@pytest.mark.parametrize("command", sorted(COMMAND_LINE.commands.keys() - WITHOUT_A_RECIPE))
@pytest.mark.parametrize("place", ["file", "folder"])
def test_every_command_that_reads_a_recipe_takes_set_and_finds_it_by_file_or_folder(
    tiebreak, recipe: Path, command: str, place: str, votes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recipe.parent)
    where = recipe if place == "file" else recipe.parent
    arguments = [part.format(recipe=where) for part in ARGUMENTS.get(command, ("{recipe}",))]
    code, _, err = tiebreak(command, *arguments, "--set", "sed=1")
    assert code == 2
    assert err.startswith("error: ")
    assert "sed: unknown key; did you mean 'seed'" in err


def parameters_of(command: str) -> list[Any]:
    """Of a command, or of the recipe's among the commands of a group."""
    found = COMMAND_LINE.commands[command]
    first = ARGUMENTS.get(command, ("",))[0]
    return (found.commands[first] if first in getattr(found, "commands", ()) else found).params


@pytest.mark.parametrize("command", sorted(COMMAND_LINE.commands))
def test_commands_say_recipe_in_the_same_words(command: str) -> None:
    """And only those that read one have --set."""
    parameters = parameters_of(command)
    assert ("--set" in {option for p in parameters for option in p.opts}) == (command not in WITHOUT_A_RECIPE)
    told = [p.help for p in parameters if p.name == "recipe"]
    assert told in ([], ["The recipe, or the folder that holds its recipe.yaml."])
    if not told and command not in WITHOUT_A_RECIPE:
        (first,) = (p.help for p in parameters if p.name in ("data", "models", "predictions", "where"))
        assert "recipe" in first, "one of several things that it takes"


@pytest.mark.parametrize(
    "arguments",
    [
        ("audit", "model", "votes.csv"),
        ("check", "votes.csv"),
        ("evaluate", "p.csv", "votes.csv"),
        ("predict", "model", "votes.csv", "-o", "out.csv"),
        ("report", "model"),
        ("verify", "model"),
    ],
)
def test_set_without_a_recipe_is_refused(
    tiebreak, tmp_path: Path, arguments: tuple[str, ...], votes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = tiebreak(*arguments, "--set", "seed=1")
    assert (code, out) == (2, "")
    assert err == f"error: --set seed=1 changes a recipe, and there is none: {arguments[1]}\n"


@pytest.mark.slow
def test_set_chooses_the_run_that_is_reported_and_asked(tiebreak, tiny_run, tmp_path: Path) -> None:
    """With the very value of the recipe it is that run; with another, a run that was never made."""
    votes, output = tiny_run.folder / "data" / "votes.parquet", tmp_path / "p.parquet"
    for command in (
        ("report", tiny_run.recipe, "-o", tmp_path / "report.html"),
        ("predict", tiny_run.folder, votes, "-o", output),
        ("evaluate", tiny_run.recipe, votes, "--samples", 2),
        ("verify", tiny_run.recipe),
    ):
        code, _, err = tiebreak(*command, "--set", "seed=0")
        assert code == 0, err
        code, out, err = tiebreak(*command, "--set", "distill.temperature=7")
        if command[0] == "verify":
            assert (code, "stale: " in out) == (0, True)
        else:
            assert code == 2
            assert f"make it with: tiebreak run {tiny_run.recipe} --set distill.temperature=7" in err


@pytest.mark.slow
def test_verify_finds_what_was_changed_in_the_folder_to_ship(tiebreak, tiny_run, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(tiny_run.folder, folder, symlinks=True)
    model = folder / "model" / "model.safetensors"
    content, times = model.read_bytes(), (model.stat().st_atime_ns, model.stat().st_mtime_ns)
    model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(model, ns=times)
    code, out, err = tiebreak("verify", folder, "--json")
    assert code == 2
    assert [row["name"] for row in json.loads(out) if row["state"] != "whole"] == ["evaluate/report"]
    again = f"tiebreak run {folder / 'recipe.yaml'}"
    problem = "model/model.safetensors is damaged: its content is not what was written"
    assert err == f"evaluate/report: {problem}; make it again with: {again}\n"
    for command in (
        ("verify", model.parent),
        ("predict", folder, folder / "data" / "votes.parquet", "-o", tmp_path / "p.csv"),
    ):
        code, out, err = tiebreak(*command)
        assert (code, "the content of model.safetensors is not what was written" in err) == (2, True)
    assert tiebreak(*again.split()[1:])[0] == 0
    assert tiebreak("verify", folder)[0] == tiebreak("verify", model.parent)[0] == 0
    assert model.read_bytes() == content


def test_the_version_is_printed(tiebreak) -> None:
    assert tiebreak("--version") == (0, f"{__version__}\n", "")


def test_the_suggested_command_makes_a_missing_input(tiebreak, recipe: Path) -> None:
    code, _, err = tiebreak("run", recipe, "--steps", "join", "--set", "seed=3")
    assert code == 2
    assert f"tiebreak run {recipe} --set seed=3 --steps" in err


@pytest.mark.parametrize("command", sorted(COMMAND_LINE.commands))
def test_help_shows_an_example_that_could_be_run(
    tiebreak, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, out, err = tiebreak(command, "-h")
    assert (code, err) == (0, "")
    assert out == tiebreak(command, "--help")[1]
    ((name, *words),) = re.findall(r"Example: tiebreak (\S+)(.*)", out)
    assert name == command
    options = {option for parameter in COMMAND_LINE.commands[command].params for option in parameter.opts}
    assert {word for text in words for word in shlex.split(text) if word.startswith("-")} <= options
    COMMAND_LINE.commands[command].make_context(command, shlex.split(words[0]))  # it parses


def test_everyday_commands_come_first(tiebreak) -> None:
    code, out, _ = tiebreak("-h")
    assert code == 0
    everyday, others = out.partition("Everyday commands")[2].split("Other commands")
    assert re.findall(r"^\W+([a-z]+)  ", everyday, re.M) == [
        n for n in cli.EVERYDAY if n in COMMAND_LINE.commands
    ]
    for name in COMMAND_LINE.commands.keys() - set(cli.EVERYDAY):
        assert re.search(rf"^\W+{name}  ", others, re.M), name
    assert "--install-completion" in out


@pytest.mark.parametrize(
    ("arguments", "hint"), [(("pridict", "m"), "Did you mean 'predict'"), (("run", "--seps", "x"), "--steps")]
)
def test_what_is_mistyped_gets_the_nearest(tiebreak, arguments: tuple[str, ...], hint: str) -> None:
    code, out, err = tiebreak(*arguments)
    assert (code, out) == (2, "")
    assert hint in err


def test_wrong_usage_ends_with_2(tiebreak) -> None:
    assert tiebreak("run", "--no-such-option")[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("init", "--synthetic", "99"),
        ("demo", "--votes", "5"),
        ("init", "--seed", "-1"),
        ("demo", "--seed", 2**63),
    ],
)
def test_votes_and_seeds_out_of_range_name_the_option(
    tiebreak, arguments: tuple[str, str, object], tmp_path: Path
) -> None:
    command, option, value = arguments
    code, _, err = tiebreak(command, tmp_path / "x", option, value)
    assert code == 2
    assert f"Invalid value for '{option}'" in err
    assert not (tmp_path / "x").exists()


def test_a_full_disk_is_one_clear_error(tiebreak, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tiebreak.commands.init.init_recipe", full)
    code, _, err = tiebreak("init", "x")
    assert code == 2
    assert err.startswith("error: the disk is full")


def test_schema_is_json(tiebreak) -> None:
    _, out, _ = tiebreak("schema")
    assert json.loads(out)["title"] == "Recipe"


def test_evaluate_compares_two_files(tiebreak, tmp_path: Path) -> None:
    header = "id,winner_model_a,winner_model_b,winner_tie\n"
    (tmp_path / "p.csv").write_text(header + "1,0.5,0.25,0.25\n2,0.25,0.25,0.5\n")
    (tmp_path / "y.csv").write_text(header + "2,0,0,1\n1,1,0,0\n")
    code, out, err = tiebreak("evaluate", tmp_path / "p.csv", tmp_path / "y.csv", "--json")
    assert code == 0, err
    rows = {row["metric"]: row for row in json.loads(out)["rows"] if row["predictions"].endswith("p.csv")}
    assert rows["log_loss"]["value"] == pytest.approx(0.6931471805599453)
    assert rows["accuracy"]["value"] == 1.0
    assert rows["log_loss"]["rows"] == 2
    assert rows["ece"]["value"] > 0
    assert rows["calibration_p"]["value"] is rows["ece_limit"]["value"] is rows["log_loss"]["low"] is None, (
        "2 votes"
    )
    (verdict,) = json.loads(out)["verdicts"]
    assert (verdict["predictions"], verdict["use"]) == (str(tmp_path / "p.csv"), False)
    code, out, _ = tiebreak("evaluate", tmp_path / "p.csv", tmp_path / "y.csv")
    assert code == 0
    assert "p.csv: Do not use" in out.splitlines()[0]
    assert "\x1b[" not in out, "plain off a terminal"


def test_evaluate_compares_several_files(tiebreak, tmp_path: Path) -> None:
    header = "id,winner_model_a,winner_model_b,winner_tie\n"
    (tmp_path / "p.csv").write_text(header + "1,0.5,0.25,0.25\n2,0.25,0.25,0.5\n")
    (tmp_path / "q.csv").write_text(header + "1,0.1,0.8,0.1\n2,0.1,0.8,0.1\n")
    (tmp_path / "y.csv").write_text(header + "2,0,0,1\n1,1,0,0\n")
    files = [tmp_path / name for name in ("p.csv", "q.csv", "y.csv")]
    code, out, err = tiebreak("evaluate", *files, "--weights", "3,1", "--json")
    assert code == 0, err
    losses = {row["predictions"]: row for row in json.loads(out)["rows"] if row["metric"] == "log_loss"}
    blends = ["blend, equal weights", "blend, weights given"]
    assert list(losses) == [str(files[0]), str(files[1]), *blends, "class shares of these votes"]
    assert losses["blend, weights given"]["value"] == pytest.approx(-math.log((3 * 0.5 + 0.1) / 4))
    assert losses["blend, weights given"]["weights"] == [0.75, 0.25]
    code, out, err = tiebreak("evaluate", *files)
    assert (code, "0.5, 0.5" in out, "log_loss_change" in out) == (0, True, True), err


def test_evaluate_needs_a_prediction_for_every_label(tiebreak, tmp_path: Path) -> None:
    header = "id,winner_model_a,winner_model_b,winner_tie\n"
    (tmp_path / "p.csv").write_text(header + "1,0.5,0.25,0.25\n")
    (tmp_path / "y.csv").write_text(header + "2,0,0,1\n1,1,0,0\n")
    code, _, err = tiebreak("evaluate", tmp_path / "p.csv", tmp_path / "y.csv")
    assert code == 2
    assert "1 of 2 labelled ids have no prediction" in err


def test_evaluate_names_a_missing_model(tiebreak, recipe: Path, tmp_path: Path) -> None:
    labels, solution = tmp_path / "votes.csv", tmp_path / "solution.csv"
    labels.write_text("id,prompt,response_a,response_b,winner\n1,p,x,y,tie\n")
    solution.write_text("id,winner_model_a,winner_model_b,winner_tie\n1,0,0,1\n")
    (tmp_path / "model").mkdir()
    for arguments, message in (
        ((tmp_path / "gone", labels), "no model folder, recipe or file of predictions at "),
        ((tmp_path / "model", labels), "model has no tiebreak.json"),
        ((tmp_path / "model", solution), "solution.csv holds labels without texts"),
    ):
        code, out, err = tiebreak("evaluate", *arguments)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert message in err


@pytest.mark.slow
def test_evaluate_takes_models_beside_files(tiebreak, tiny_run, tmp_path: Path, caplog) -> None:
    votes, file = tiny_run.folder / "data" / "votes.parquet", tmp_path / "p.parquet"
    assert tiebreak("predict", tiny_run.model, votes, "-o", file)[0] == 0
    code, out, err = tiebreak("evaluate", tiny_run.recipe, tiny_run.folder, file, votes, "--json")
    assert code == 0, err
    assert caplog.text.count("has learned from votes on the prompts of") == 1, "two names of one judge"
    losses = {
        row["predictions"]: row["value"] for row in json.loads(out)["rows"] if row["metric"] == "log_loss"
    }
    assert list(losses)[:3] == [str(tiny_run.recipe), str(tiny_run.folder), str(file)]
    assert len({losses[name] for name in list(losses)[:3]}) == 1
    shutil.copytree(tiny_run.folder, tmp_path / "again", symlinks=True)
    code, out, err = tiebreak("run", tmp_path / "again")
    assert code == 0, err
    assert out.splitlines()[0] == tiny_run.summary["verdict"], "the verdict comes first"
    code, out, err = tiebreak("evaluate", tiny_run.model, votes, "--precision", "fp23")
    assert (code, "'fp23' is not one of 'auto', 'fp32', 'bf16', 'fp16', 'fp8'" in err) == (2, True)


def test_a_step_works_by_the_recipe_as_it_stood_when_it_started(
    tiebreak, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another job leaves a teacher out while this one has yet to start the workers that train it."""
    fake_steps.write(tmp_path)
    for name in ("llama", "gemma"):
        shutil.copytree(base("llama"), tmp_path / "models" / name)
    monkeypatch.chdir(tmp_path)
    seen = []

    def finish(work, tasks) -> None:
        kept = tmp_path / "scratch" / "recipe.yaml"
        kept.write_text(kept.read_text().replace("llama", "qwen"))
        worker = Workspace(work.path, work.overrides)  # as a worker begins, with nothing read yet
        seen.extend(worker.find(task.id).id for task in tasks if task.step.name == "teach")

    monkeypatch.setattr(runs, "_run_and_report", finish)
    monkeypatch.setenv("TEACHER_FOLDS", "0")
    code, _, err = tiebreak("step", 3)
    assert code == 0, err
    assert seen == ["teach/llama-fold0"]


def test_an_error_that_nobody_expected_is_one_line_and_a_log(
    tiebreak, recipe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("a\nlong\nstory")

    monkeypatch.setattr("tiebreak.engine.planner.plan", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, out, err = tiebreak("plan", recipe)
    assert (code, out) == (cli.UNEXPECTED, "")
    assert err.startswith("error: unexpected KeyError: 'a\\nlong\\nstory'")
    assert "Traceback" not in err
    (log,) = tmp_path.glob("tiebreak-*.log")
    assert str(log) in err
    assert "Traceback" in log.read_text()
    monkeypatch.setenv("TIEBREAK_DEBUG", "1")
    with pytest.raises(KeyError):
        tiebreak("plan", recipe)


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_stream_is_refused_on_the_other(
    tiebreak, closed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"sys.{closed}", None)
    code, out, err = tiebreak("schema")
    assert code == 2
    assert (out or err) == f"error: {closed} is closed; send it to a file or to /dev/null\n"


def test_a_full_standard_output_is_named_and_a_closed_pipe_is_quiet(
    tiebreak, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr("sys.stdout", full)
        code, _, err = tiebreak("schema")
    assert (code, err) == (2, "error: standard output: No space left on device\n")
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr("sys.stdout", os.fdopen(writing, "w"))
    for arguments in (["schema"], ["--version"]):
        code, _, err = tiebreak(*arguments)
        assert (code, err) == (1, "")
