"""Libraries of extras: a run without one ends before it starts, unless no step that needs it is chosen."""

import tomllib
from dataclasses import replace
from pathlib import Path

import fake_steps
import pytest

from tiebreak.engine import local_runner
from tiebreak.engine.planner import select
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.pipeline.graph import STEPS, Task
from tiebreak.recipe.schema import Recipe


def test_every_library_of_a_step_is_brought_by_the_extra_it_names(repository: Path) -> None:
    extras = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    needed = [step.library for step in STEPS if step.library]
    assert needed
    for module, extra in needed:
        assert any(text.startswith(module) for text in extras[extra]), module


def with_library(recipe: Recipe) -> tuple[Task, ...]:
    """The fake tasks, the last of which needs a library that nobody has."""
    *others, last = fake_steps.tasks(recipe)
    return *others, replace(last, step=replace(last.step, library=("no_such_library", "quantize")))


def test_nothing_runs_without_the_library_of_a_step(tmp_path: Path) -> None:
    work = Workspace(fake_steps.write(tmp_path), (), with_library)
    with pytest.raises(TiebreakError, match=r"needs no_such_library.*pip install 'tiebreak\[quantize\]'"):
        local_runner.run(work, work.tasks)
    assert not any(work.folder(task).exists() for task in work.tasks)


@pytest.mark.slow
def test_the_steps_before_it_run(tmp_path: Path) -> None:
    work = Workspace(fake_steps.write(tmp_path), (), with_library)
    assert local_runner.run(work, select(work, ["ingest", "train"])).done
