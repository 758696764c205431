"""A finished run in Python: its verdict, figures, report and judge."""

import html
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak.arguments import checked
from tiebreak.commands import outputs
from tiebreak.commands.status import Status, task_statuses
from tiebreak.engine.workspace import Workspace

if TYPE_CHECKING:
    from tiebreak.judge.judge import Judge


@dataclass(frozen=True)
class Report:
    """The report of a run: an HTML page, which a notebook shows. metrics: its figures, as metrics.json has them."""

    path: Path
    metrics: dict[str, Any]

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Report({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """The page in a frame of its own, whose style sheet is not the notebook's."""
        page = html.escape(self.path.read_text(encoding="utf-8"), quote=True)
        return f'<iframe sandbox srcdoc="{page}" style="width: 100%; height: 40em; border: 0"></iframe>'


@dataclass(frozen=True)
class Run:
    """A run that `tiebreak.train` or `tiebreak run` finished. recipe: the path of its recipe.yaml."""

    recipe: Path

    @property
    def folder(self) -> Path:
        return self.recipe.parent

    @property
    def model(self) -> Path:
        """The folder of the judge, which `tiebreak.load` and plain transformers load."""
        return outputs.evaluation_folder(self._work) / "model"

    @property
    def metrics(self) -> dict[str, Any]:
        """All figures of the report, as metrics.json has them. Raises TiebreakError if the run is not finished."""
        return outputs.read_metrics(outputs.evaluation_folder(self._work))

    @property
    def verdict(self) -> dict[str, Any] | None:
        """Whether to use the judge (`use`), why (`headline`, `findings`); None where no vote was set aside to tell."""
        return outputs.verdict(self._work)

    def report(self) -> Report:
        """Write the report, `<run_dir>/report.html`. Raises TiebreakError if the run is not finished."""
        return Report(outputs.write_report(self._work), self.metrics)

    @checked
    def judge(self, device: str | None = None, score_tokens: int = 16384, precision: str = "auto") -> "Judge":
        """The judge, as `tiebreak.load` gives it, with the same arguments."""
        from tiebreak.judge.judge import load_judge

        return load_judge(self.model, device, score_tokens, precision)

    def status(self) -> list[Status]:
        """The state of every task, as `tiebreak status` prints it."""
        return task_statuses(self._work)

    @property
    def _work(self) -> Workspace:
        return Workspace(self.recipe)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def __str__(self) -> str:
        verdict = self.verdict
        return f"{self!r}: {verdict['headline'] if verdict else 'no votes were set aside to tell what it is worth'}"
