"""The files of a release: they parse, agree with the project, and the workflow runs what .ci/run runs.

Nothing here runs a workflow: GitHub does.
"""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tiebreak import __version__

Workflow = dict[str, Any]


def parsed(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)  # in which a key `on` is no boolean


@pytest.fixture
def ci(repository: Path) -> Workflow:
    found: Workflow = parsed(repository / ".github" / "workflows" / "ci.yml")
    return found


@pytest.fixture
def release(repository: Path) -> Workflow:
    found: Workflow = parsed(repository / ".github" / "workflows" / "release.yml")
    return found


def commands(workflow: Workflow) -> list[str]:
    return [
        step["run"] for job in workflow["jobs"].values() for step in job.get("steps", ()) if "run" in step
    ]


@pytest.fixture
def project(repository: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    return project


def test_the_workflow_runs_what_ci_runs(ci: Workflow) -> None:
    steps = ci["jobs"]["test"]["steps"]
    assert steps[-1]["run"] == ".ci/run"
    assert "if" not in steps[-1]


def test_the_matrix_has_every_python_and_the_oldest_and_newest_packages(
    ci: Workflow, project: dict[str, Any]
) -> None:
    matrix = ci["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    assert project["requires-python"] == f">={matrix['python'][0]}"
    assert matrix["packages"] == ["pinned"]
    assert [more["packages"] for more in matrix["include"]] == ["oldest", "newest"]
    conditions = " ".join(step.get("if", "") for step in ci["jobs"]["test"]["steps"])
    assert re.findall(r"matrix\.packages == '(\w+)'", conditions) == ["oldest", "newest"]


def test_other_packages_reach_the_script_that_installs(ci: Workflow, repository: Path) -> None:
    setup = (repository / "scripts" / "setup.sh").read_text()
    assert "${CONSTRAINTS:-constraints.txt}" in setup
    set_by = [command for command in commands(ci) if "CONSTRAINTS=" in command]
    assert len(set_by) == 2
    extras = re.search(r"install -e '\.\[([\w,]+)\]'", setup)
    assert extras is not None
    assert re.findall(r"--extra (\w+)", set_by[0]) == extras[1].split(",")


def test_scripts_that_workflows_call_can_be_run(ci: Workflow, release: Workflow, repository: Path) -> None:
    called = [
        line.split()[0]
        for line in (*commands(ci), *commands(release))
        if line.startswith((".ci/", "scripts/"))
    ]
    assert called == [".ci/run", "scripts/try_wheel.sh"]
    for name in called:
        assert os.access(repository / name, os.X_OK), name


def test_what_is_published_was_tested_and_no_token_is_kept(release: Workflow, repository: Path) -> None:
    jobs = release["jobs"]
    assert jobs["test"]["uses"] == "./.github/workflows/ci.yml"
    assert set(jobs["publish"]["needs"]) == {"test", "build"}
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["environment"]["name"] == "pypi"
    assert release["permissions"] == {"contents": "read"}
    assert "secrets." not in (repository / ".github" / "workflows" / "release.yml").read_text()


def test_workflows_may_only_read(ci: Workflow) -> None:
    assert ci["permissions"] == {"contents": "read"}
    assert "workflow_call" in ci["on"]


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not installed")
def test_actionlint_finds_nothing(repository: Path) -> None:
    files = sorted((repository / ".github" / "workflows").glob("*.yml"))
    found = subprocess.run(["actionlint", *files], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("name", ["bug", "feature", "refused"])
def test_issue_forms_are_whole(name: str, repository: Path) -> None:
    folder = repository / ".github" / "ISSUE_TEMPLATE"
    form = parsed(folder / f"{name}.yml")
    assert {"name", "description", "body"} <= form.keys()
    fields = [part for part in form["body"] if part["type"] != "markdown"]
    assert {field["type"] for field in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
    names = [field["id"] for field in fields]
    assert len(set(names)) == len(names)
    assert all(field["attributes"]["label"] for field in fields)
    for path in re.findall(r"blob/HEAD/([\w./-]+)", (folder / f"{name}.yml").read_text()):
        assert (repository / path).exists(), path


def test_every_issue_form_is_tested(repository: Path) -> None:
    forms = {path.stem for path in (repository / ".github" / "ISSUE_TEMPLATE").glob("*.yml")}
    assert forms == {"bug", "feature", "refused", "config"}


def test_the_citation_is_of_this_version(repository: Path, project: dict[str, Any]) -> None:
    citation = parsed(repository / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert (citation["title"], citation["version"]) == (project["name"], __version__)
    assert citation["license"] == project["license"]


def test_the_code_of_conduct_states_its_licence_and_has_no_blank(repository: Path) -> None:
    text = (repository / "CODE_OF_CONDUCT.md").read_text()
    assert "Creative Commons Attribution 4.0" in text
    assert "[INSERT" not in text


def test_the_changelog_has_this_version(repository: Path) -> None:
    headings = re.findall(
        r"^## \[(.+?)\](?: - (\d{4}-\d{2}-\d{2}))?$", (repository / "CHANGELOG.md").read_text(), re.M
    )
    assert headings[0] == ("Unreleased", "")
    version, day = headings[1]
    assert version == __version__
    assert parsed(repository / "CITATION.cff")["date-released"] == day
