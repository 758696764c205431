"""The demo: the whole recipe on made-up votes, whose truth is known, and tiny models."""

import os
import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tiebreak.commands.init import init_recipe
from tiebreak.commands.outputs import evaluation_folder, read_metrics, write_report
from tiebreak.engine import local_runner
from tiebreak.engine.signals import Stop
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.output import replace_link
from tiebreak.recipe.basics import RECIPE

HEADLINE = ("lockbox_rows", "prior_log_loss", "best_possible_log_loss")
STAGES = ("teacher_log_loss", "student_log_loss", "final_log_loss")


def demo(folder: Path, votes: int, seed: int, stop: Stop) -> dict[str, Any]:
    """Run the whole recipe on synthetic votes and tiny models in `folder`; resumes an earlier demo.

    Returns the demo's summary. Raises TiebreakError if a task failed, or the folder holds another
    recipe than that of these votes.
    """
    began = time.monotonic()
    path = folder / RECIPE
    if path.exists():
        _check_same(folder, votes, seed)
    else:
        init_recipe(folder, "tiny", synthetic=votes, seed=seed)
    work = Workspace(path)
    if failed := local_runner.run(work, work.tasks, stop).failed:
        raise TiebreakError(f"the demo did not finish: {', '.join(failed)} failed")
    evaluation = evaluation_folder(work)
    truth_metrics = _truth_metrics(work, evaluation)
    page = write_report(work, folder / "report.html", truth_metrics)
    metrics = read_metrics(evaluation) | truth_metrics
    replace_link(folder / "model", Path(os.path.relpath(evaluation / "model", folder)))
    return {
        "seconds": round(time.monotonic() - began, 1),
        **{name: metrics[name] for name in (*HEADLINE, *STAGES, "closed")},
        "verdict": metrics["verdict"] and metrics["verdict"]["headline"],
        "report": str(page),
        "model": str(folder.resolve() / "model"),
    }


def _check_same(folder: Path, votes: int, seed: int) -> None:
    """Raise TiebreakError unless the recipe in a folder is that of a demo with these votes."""
    from tiebreak.votes import synthetic

    evaluation = synthetic.read_parameters(folder)
    if evaluation is None:
        run = f"tiebreak run {shlex.quote(str(folder))}"
        raise TiebreakError(
            f"the recipe in {folder} is no demo's; run it with: {run}, or name another folder"
        )
    if evaluation != (votes, seed):
        raise TiebreakError(
            f"{folder} holds a demo with --votes {evaluation[0]} --seed {evaluation[1]}, not --votes {votes} --seed {seed}; "
            "name another folder"
        )


def _truth_metrics(work: Workspace, evaluation: Path) -> dict[str, Any]:
    """The true probabilities' log loss on the lockbox and the shipped model's skill score, known for synthetic votes.

    Keys: best_possible_log_loss, and closed, the skill score with its interval.
    """
    import numpy as np

    from tiebreak.evaluate import submission
    from tiebreak.evaluate.build_metrics import labelled_votes
    from tiebreak.evaluate.skill_score import skill_score
    from tiebreak.stats.metrics import Bootstrap, prior_prediction
    from tiebreak.votes import splits
    from tiebreak.votes.schema import LABELS, read_table

    metrics = read_metrics(evaluation)
    ids, p_NC = submission.read(evaluation / "lockbox.parquet")
    rows = splits.lockbox(read_table(work.folder(work.find("split/votes")) / "rows.parquet"))
    votes = labelled_votes(rows).subset(ids)
    truth = read_table(work.root / "data" / "truth.parquet")
    known = zip(truth["id"].to_pylist(), *(truth[f"true_{x}"].to_pylist() for x in LABELS), strict=True)
    true_of = {vote: p for vote, *p in known}
    found = skill_score(
        p_NC,
        prior_prediction([metrics["prior"][label] for label in LABELS], len(ids)),
        np.array([true_of[vote] for vote in ids]),
        votes.y_NC,
        Bootstrap(metrics["bootstrap_samples"], metrics["confidence"], work.recipe.seed),
        votes.groups_N,
    )
    return {"best_possible_log_loss": found.truth.value, "closed": asdict(found.share)}
