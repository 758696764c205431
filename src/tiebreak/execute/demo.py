"""The demo: the whole recipe on made-up votes, whose truth is known, and tiny models."""

import os
import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tiebreak.errors import TiebreakError
from tiebreak.execute import local
from tiebreak.execute.results import evaluated, read_metrics, write_report
from tiebreak.execute.signals import Stop
from tiebreak.execute.start import RECIPE, start
from tiebreak.execute.workspace import Workspace

HEADLINE = ("lockbox_rows", "prior_log_loss", "best_possible_log_loss")
STAGES = ("teacher_log_loss", "student_log_loss", "final_log_loss")


def demo(folder: Path, votes: int, seed: int, stop: Stop) -> dict[str, Any]:
    """The whole recipe on made-up votes and tiny models, in `folder`; goes on where an earlier one stopped.

    Returns what the demo says at its end. Raises TiebreakError if a task failed, or the folder holds another
    recipe than that of these votes.
    """
    began = time.monotonic()
    path = folder / RECIPE
    if path.exists():
        _check_same(folder, votes, seed)
    else:
        start(folder, "tiny", synthetic=votes, seed=seed)
    work = Workspace(path)
    if failed := local.run(work, work.tasks, stop).failed:
        raise TiebreakError(f"the demo did not finish: {', '.join(failed)} failed")
    made = evaluated(work)
    best = _against_truth(work, made)
    page = write_report(work, folder / "report.html", best)
    metrics = read_metrics(made) | best
    _link(folder / "model", made / "model")
    return {
        "seconds": round(time.monotonic() - began, 1),
        **{name: metrics[name] for name in (*HEADLINE, *STAGES, "closed")},
        "verdict": metrics["verdict"] and metrics["verdict"]["headline"],
        "report": str(page),
        "model": str(folder.resolve() / "model"),
    }


def _check_same(folder: Path, votes: int, seed: int) -> None:
    """Raises TiebreakError unless the recipe in a folder is that of a demo with these votes."""
    from tiebreak.data import synthetic

    made = synthetic.made_with(folder)
    if made is None:
        run = f"tiebreak run {shlex.quote(str(folder))}"
        raise TiebreakError(
            f"the recipe in {folder} is no demo's; run it with: {run}, or name another folder"
        )
    if made != (votes, seed):
        raise TiebreakError(
            f"{folder} holds a demo with --votes {made[0]} --seed {made[1]}, not --votes {votes} --seed {seed}; "
            "name another folder"
        )


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
