"""What a run took and where it was made is told beside its figures, not among them."""

import json
import shutil
from pathlib import Path

import fakes
import pytest
from models import base

from tiebreak.errors import TiebreakError
from tiebreak.execute import local, results
from tiebreak.execute.workspace import Workspace


def test_facts_are_the_manifests(tmp_path: Path) -> None:
    work = Workspace(fakes.write(tmp_path), (), fakes.tasks)
    assert results.facts(work) == {"made on": "", "versions": {}, "seconds": {}}
    local.run(work, work.tasks)
    facts = results.facts(work)
    manifests = {task.id: work.manifest(task) for task in work.tasks}
    assert facts["seconds"] == {name: made.seconds for name, made in manifests.items() if made}
    made = manifests["join/all"]
    assert made is not None
    assert facts["versions"] == made.versions
    assert facts["made on"] == f"{made.hardware['machine']}, {made.hardware['cores']} cores"
    assert made.hardware["host"] not in json.dumps(facts)


@pytest.mark.slow
def test_the_report_of_a_run_shows_its_facts_and_the_artifact_has_none(tiny_run, tmp_path: Path) -> None:
    page = results.report(tiny_run.recipe, tmp_path / "report.html")
    assert "evaluate/report" in page.read_text()
    folder = results.report_folder(tiny_run.folder)
    plain = results.report(folder)
    assert plain == (folder / "report.html").resolve()
    assert "evaluate/report" not in plain.read_text()
    assert results.report(folder, tmp_path / "again.html").read_text() == plain.read_text()


def test_no_report_yet(tmp_path: Path) -> None:
    recipe = fakes.write(tmp_path / "my run")
    for name in ("llama", "gemma"):
        shutil.copytree(base("llama"), recipe.parent / "models" / name)
    with pytest.raises(TiebreakError, match=f"has no report yet; make it with: tiebreak run '{recipe}'"):
        results.report(recipe)
