"""What a finished run leaves for people: its report, its model, its figures."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak.errors import TiebreakError
from tiebreak.execute import local
from tiebreak.execute.signals import Stop
from tiebreak.execute.start import RECIPE, start
from tiebreak.execute.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

    from tiebreak.evaluate.metrics import Array

HEADLINE = ("lockbox_rows", "prior_log_loss", "best_possible_log_loss")
STAGES = ("teacher_log_loss", "student_log_loss", "final_log_loss")


def report_folder(where: Path) -> Path:
    """The folder with metrics.json of a recipe, of its folder, or the folder itself.

    Raises TiebreakError if there is none yet.
    """
    folder = where.parent if where.name == "metrics.json" else where
    if (folder / "metrics.json").is_file():
        return folder
    recipe = _recipe_at(where)
    if recipe is None:
        raise TiebreakError(f"{where} is no recipe and holds no metrics.json")
    return _evaluated(Workspace(recipe))


def _recipe_at(where: Path) -> Path | None:
    recipe = where / RECIPE if where.is_dir() else where
    return recipe if recipe.is_file() and recipe.name != "metrics.json" else None


def _evaluated(work: Workspace) -> Path:
    """The folder of a run's evaluation."""
    report = work.find("evaluate/report")
    if work.manifest(report) is None:
        raise TiebreakError(f"{work.path} has no report yet; make it with: tiebreak run {work.arguments}")
    return work.folder(report)


def model_folder(where: Path) -> Path:
    """The model to ship of a recipe that ran, or of its folder; any other folder stands for itself.

    Raises TiebreakError if the recipe has no report yet.
    """
    is_recipe = where.is_file() or (where / RECIPE).is_file()
    return report_folder(where) / "model" if is_recipe else where


def say(models: Sequence[Path], votes: "pa.Table", device: str | None, precision: str) -> "Array":
    """What each model, as `model_folder` takes it, says of votes (data.votes.SCHEMA): (n, models, 3).

    Raises TiebreakError, before any is asked, for a recipe without a report or a folder that is no model.
    """
    from tiebreak.predict.ensemble import Ensemble

    folders = [model_folder(model) for model in models]
    return Ensemble(folders, device=device, precision=precision).say(votes)


def read_metrics(folder: Path) -> dict[str, Any]:
    """metrics.json of a finished evaluation."""
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return metrics


def facts(work: Workspace) -> dict[str, Any]:
    """What a run took, and where it was made: seconds of each task, machines, versions, from its manifests."""
    found = [manifest for task in work.tasks if (manifest := work.manifest(task))]
    return {
        "made on": "; ".join(sorted({_machine(manifest.hardware) for manifest in found})),
        "versions": found[-1].versions if found else {},
        "seconds": {f"{manifest.step}/{manifest.name}": manifest.seconds for manifest in found},
    }


def _machine(hardware: Mapping[str, Any]) -> str:
    """Without the host's name, since reports are passed on."""
    parts = [hardware["machine"], f"{hardware['cores']} cores", hardware.get("gpu")]
    return ", ".join(part for part in parts if part)


def write_report(work: Workspace, output: Path | None = None, more: dict[str, Any] | None = None) -> Path:
    """Render the report of a run together with its facts, by default to <run_dir>/report.html.

    more: further keys for `evaluate.report.render`. Raises TiebreakError if there is no evaluation yet.
    """
    metrics = read_metrics(_evaluated(work)) | {"facts": facts(work)} | (more or {})
    return _render(metrics, output or work.run_dir / "report.html")


def report(where: Path, output: Path | None = None) -> Path:
    """The report of a recipe, with its facts, or of a folder with metrics.json; written, and its path.

    Raises TiebreakError if there is none yet.
    """
    if recipe := _recipe_at(where):
        return write_report(Workspace(recipe), output)
    folder = report_folder(where)
    return _render(read_metrics(folder), output) if output else (folder / "report.html").resolve()


def _render(metrics: Mapping[str, Any], path: Path) -> Path:
    from tiebreak.evaluate import report

    report.write(metrics, path)
    return path.resolve()


def demo(folder: Path, votes: int, seed: int, stop: Stop) -> dict[str, Any]:
    """The whole recipe on made-up votes and tiny models, in `folder`; goes on where an earlier one stopped.

    Returns what the demo says at its end. Raises TiebreakError if a task failed.
    """
    began = time.monotonic()
    path = folder / RECIPE
    if not path.exists():
        start(folder, "tiny", synthetic=votes, seed=seed)
    work = Workspace(path)
    if failed := local.run(work, work.tasks, stop).failed:
        raise TiebreakError(f"the demo did not finish: {', '.join(failed)} failed")
    made = _evaluated(work)
    best = _against_truth(work, made)
    page = write_report(work, folder / "report.html", best)
    metrics = read_metrics(made) | best
    _link(folder / "model", made / "model")
    return {
        "seconds": round(time.monotonic() - began, 1),
        **{name: metrics[name] for name in (*HEADLINE, *STAGES, "closed")},
        "report": str(page),
        "model": str(folder.resolve() / "model"),
    }


def _link(link: Path, target: Path) -> None:
    """Point a symbolic link at a folder, replacing what it pointed at before."""
    partial = link.with_name(link.name + ".partial")
    partial.unlink(missing_ok=True)
    partial.symlink_to(os.path.relpath(target, link.parent))
    partial.replace(link)


def _against_truth(work: Workspace, made: Path) -> dict[str, Any]:
    """The truth's log loss on the lockbox's labels and how near the shipped model comes to it, known for
    made-up votes alone: best_possible_log_loss and closed, a share with its interval.
    """
    import numpy as np

    from tiebreak.data import sides
    from tiebreak.data.votes import LABELS, read_table
    from tiebreak.evaluate import submission
    from tiebreak.evaluate.closed import closed
    from tiebreak.evaluate.measure import truth_of
    from tiebreak.evaluate.metrics import Bootstrap, prior_prediction

    metrics = read_metrics(made)
    ids, p_NC = submission.read(made / "lockbox.parquet")
    rows = sides.lockbox(read_table(work.folder(work.find("split/votes")) / "rows.parquet"))
    votes = truth_of(rows).only(ids)
    truth = read_table(work.root / "data" / "truth.parquet")
    known = zip(truth["id"].to_pylist(), *(truth[f"true_{x}"].to_pylist() for x in LABELS), strict=True)
    true_of = {vote: p for vote, *p in known}
    found = closed(
        p_NC,
        prior_prediction([metrics["prior"][label] for label in LABELS], len(ids)),
        np.array([true_of[vote] for vote in ids]),
        votes.y_NC,
        Bootstrap(metrics["bootstrap_samples"], metrics["confidence"], work.recipe.seed),
        votes.groups_N,
    )
    return {"best_possible_log_loss": found.truth.value, "closed": asdict(found.share)}
