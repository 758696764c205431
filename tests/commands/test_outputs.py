"""Outputs of a run: its facts are in the report, not in the metrics."""

import json
import shutil
import time
from pathlib import Path

import fake_steps
import pytest
from tiny_models import base

from tiebreak.commands import outputs
from tiebreak.engine import local_runner
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError


def test_facts_are_the_manifests(tmp_path: Path) -> None:
    work = Workspace(fake_steps.write(tmp_path), (), fake_steps.tasks)
    nothing = "0 s, one task after another; 0.00 GPU-hours"
    assert outputs.run_facts(work) == {"took": nothing, "made on": "", "versions": {}, "seconds": {}}
    local_runner.run(work, work.tasks)
    facts = outputs.run_facts(work)
    manifests = {task.id: work.manifest(task) for task in work.tasks}
    assert facts["seconds"] == {name: made.seconds for name, made in manifests.items() if made}
    made = manifests["join/all"]
    assert made is not None
    on_cards = [manifest.model_copy(update={"seconds": 1800.0, "gpus": 4}) for manifest in (made, made)]
    assert outputs.compute_seconds(on_cards) == (3600.0, 14_400.0)
    assert facts["versions"] == made.versions
    assert facts["made on"] == f"{made.hardware['machine']}, {made.hardware['cores']} cores"
    assert made.hardware["host"] not in json.dumps(facts)


@pytest.mark.slow
def test_the_report_of_a_run_shows_its_facts_and_the_artifact_has_none(tiny_run, tmp_path: Path) -> None:
    page = outputs.report(tiny_run.recipe, tmp_path / "report.html")
    text = page.read_text()
    assert "evaluate/report" in text
    made = Workspace(tiny_run.recipe).manifest(Workspace(tiny_run.recipe).find("evaluate/report"))
    assert made is not None
    assert f" Finished on {time.strftime('%Y-%m-%d', time.gmtime(made.finished))}." in text
    assert " Votes: votes.parquet." in text
    folder = outputs.report_folder(tiny_run.folder)
    plain = outputs.report(folder)
    assert plain == (folder / "report.html").resolve()
    assert "evaluate/report" not in plain.read_text()
    assert outputs.report(folder, tmp_path / "again.html").read_text() == plain.read_text()


def test_a_judge_is_named_without_the_folders_of_this_machine(tmp_path: Path) -> None:
    recipe = fake_steps.write(tmp_path / "my run")
    name = Workspace(recipe).recipe.name
    assert outputs.judge_name(recipe) == outputs.judge_name(recipe.parent) == name
    assert outputs.judge_name(recipe, ("name=other",)) == "other"
    assert outputs.judge_name(tmp_path / "demo" / "model") == "demo"
    assert outputs.judge_name(tmp_path / "judges" / "small") == "small"
    assert outputs.judge_name(Path("ada/judge@v1")) == "ada/judge@v1"


def test_no_report_yet(tmp_path: Path) -> None:
    recipe = fake_steps.write(tmp_path / "my run")
    for name in ("llama", "gemma"):
        shutil.copytree(base("llama"), recipe.parent / "models" / name)
    with pytest.raises(TiebreakError, match=f"has no report yet; make it with: tiebreak run '{recipe}'"):
        outputs.report(recipe)


@pytest.mark.parametrize("content", ["", "[]", "{", "\xff", None])
def test_damaged_metrics(tmp_path: Path, content: str | None) -> None:
    if content is None:
        (tmp_path / "metrics.json").mkdir()
        with pytest.raises(TiebreakError, match="is a folder, not a file; run the evaluation again"):
            outputs.read_metrics(tmp_path)
        return
    (tmp_path / "metrics.json").write_text(content, encoding="latin-1")
    with pytest.raises(TiebreakError, match=r"metrics\.json is damaged: .*; run the evaluation again"):
        outputs.read_metrics(tmp_path)


@pytest.mark.parametrize(
    "change", [None, {}, {"ladder": "x"}, {"ladder": None}, {"confidence": "high"}, {"folds": 3}]
)
def test_metrics_that_no_report_can_be_made_of(change: dict | None, tmp_path: Path) -> None:
    whole = {"name": "a", "confidence": 0.95, "verdict": None, "ladder": [{"stage": 1}], "calibration": None}
    (tmp_path / "metrics.json").write_text(json.dumps({} if change is None else whole | change))
    with pytest.raises(TiebreakError, match=r"metrics\.json is damaged: .*; run the evaluation again"):
        outputs.report(tmp_path, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("hardware", "text"), [({}, ""), ({"machine": 3, "gpu": "H100"}, "3, H100"), ({"cores": 2}, "2 cores")]
)
def test_a_machine_of_which_little_is_known(hardware: dict, text: str) -> None:
    assert outputs._machine(hardware) == text


@pytest.mark.parametrize("found", [None, "yes", {"use": True}])
def test_metrics_of_another_version_have_no_verdict(
    found: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "evaluation_folder", lambda work: tmp_path)
    (tmp_path / "metrics.json").write_text(json.dumps({} if found is None else {"verdict": found}))
    with pytest.raises(TiebreakError, match=r"metrics\.json is damaged: its verdict is .*run the evaluation"):
        outputs.verdict(Workspace(tmp_path / "recipe.yaml"))
    (tmp_path / "metrics.json").write_text('{"verdict": null}')
    assert outputs.verdict(Workspace(tmp_path / "recipe.yaml")) is None, "an empty lockbox"
