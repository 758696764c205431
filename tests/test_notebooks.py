"""Every notebook runs, from its first cell to its last; where Jupyter is installed, in it."""

import runpy
from pathlib import Path

import pytest
from forked import Forked

from tiebreak.commands.finished_run import Run

NOTEBOOKS = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
FIRST = "first_judge"
OTHERS = sorted(path.stem for path in NOTEBOOKS.glob("*.py") if path.stem != FIRST)


def as_notebook(name: str, folder: Path) -> list[dict]:
    """The outputs of a notebook that Jupyter runs in `folder`."""
    jupytext, nbclient = pytest.importorskip("jupytext"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = jupytext.read(NOTEBOOKS / f"{name}.py")
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


@pytest.fixture(scope="module")
def desk(once) -> Path:
    """The folder where the first notebook has made its judge."""

    def make(folder: Path) -> None:
        Forked(runpy.run_path, str(NOTEBOOKS / f"{FIRST}.py"), folder=folder).finish(900)

    return once("notebooks", make)


@pytest.mark.slow
def test_the_first_notebook_makes_a_judge(desk):
    assert Run(desk / "first" / "recipe.yaml").model.is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_a_notebook_runs(name, desk, tmp_path):
    (tmp_path / "first").symlink_to(desk / "first")
    Forked(runpy.run_path, str(NOTEBOOKS / f"{name}.py"), folder=tmp_path).finish(600)


@pytest.mark.slow
def test_results_are_shown_as_tables_in_jupyter(tmp_path):
    shown = [output["data"] for output in as_notebook("your_votes", tmp_path) if "data" in output]
    assert any("Rejected records" in data.get("text/html", "") for data in shown)
