"""Judges on published benchmarks, as by `tiebreak bench`."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tiebreak.output import write_atomically


def bench(
    models: Sequence[Path],
    suites: Sequence[Path],
    device: str | None = None,
    precision: str = "auto",
    overrides: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """The results of each model, given as for `outputs.locate_model`, on each benchmark in folders or data sets of the hub.

    One model at a time is in memory. Raises TiebreakError, before any judging, for a model that is missing and for folders without a
    benchmark.
    """
    from tempfile import TemporaryDirectory

    from tiebreak.commands import outputs
    from tiebreak.commands.row_progress import Progress
    from tiebreak.evaluate.bench.read import read
    from tiebreak.evaluate.bench.results import results
    from tiebreak.evaluate.bench.suite import Answers, ask
    from tiebreak.judge.judge import load_judge

    folders = [outputs.model_folder(model, overrides) for model in models]
    found = read(suites)
    answers: list[list[Answers]] = [[] for _ in found]
    for model, folder in zip(models, folders, strict=True):
        judge = load_judge(folder, device, precision=precision)
        for suite, own in zip(found, answers, strict=True):
            what, count = f"{model}, {suite.name}", len(suite.questions) + len(suite.lists)
            with TemporaryDirectory() as place, Progress(what, Path(place), count) as progress:
                own.append(ask(judge, suite, partial(progress.within, 0, count)))
    names = list(map(str, models))
    return [row for suite, own in zip(found, answers, strict=True) for row in results(suite, names, own)]


def write_eval_results(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the scores of one model for the folder .eval_results of its repository."""
    entries = [entry for row in rows for entry in row["eval_results"]]
    write_atomically(path, yaml.safe_dump(entries, sort_keys=False))
