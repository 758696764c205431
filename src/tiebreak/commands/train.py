"""`tiebreak.train`: what `tiebreak init` and `tiebreak run` do, in one call from Python."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tiebreak.commands.finished_run import Run
from tiebreak.commands.init import init_recipe, is_written_by, preset_text, removed_on_failure
from tiebreak.engine import local_runner
from tiebreak.engine.signals import Stop
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.output import new_folder, replacing
from tiebreak.recipe.basics import RECIPE
from tiebreak.runtime import Event
from tiebreak.votes.formats.mapping import ColumnMap

HEADING = "# Written by tiebreak.train, anew at each call: change its arguments. `tiebreak run` takes this recipe too.\n"
"""The beginning of a recipe that `train` may write again; others it leaves alone."""


def train(
    given: Mapping[str, Any],
    preset: str,
    folder: Path,
    mapping: ColumnMap,
    progress: Callable[[Event], None] | None,
    overrides: Mapping[str, Any],
) -> Run:
    """Train a judge, see `tiebreak.train`. given: data by role, such as votes; None for none."""
    preset_text(preset)  # raises for an unknown one before anything is written
    settings = [f"{name.replace('__', '.')}={_as_yaml(name, value)}" for name, value in overrides.items()]
    is_written_by(folder / RECIPE, HEADING)
    with removed_on_failure(folder):
        data = {
            role: _files(role, value, folder)
            for role, value in given.items()
            if value is not None or role == "votes"
        }
        path = init_recipe(folder, preset, **data, mapping=mapping, overrides=settings, heading=HEADING)  # type: ignore[arg-type]
    work = Workspace(path)
    stop = Stop()
    try:
        with stop.on_interrupt():
            outcome = local_runner.run(work, work.tasks, stop, progress)
    except Interrupted:
        raise KeyboardInterrupt("stopped; nothing finished is lost, the same call goes on") from None
    if outcome.failed:
        raise TiebreakError(
            f"not finished: {len(outcome.failed)} tasks failed, {len(outcome.skipped)} others need them; mend what is wrong, "
            "then the same call goes on",
            *(f"{task}: {why}" for task, why in outcome.failed.items()),
        )
    return Run(path)


def _as_yaml(name: str, value: Any) -> str:
    """A value as --set takes it. Raises TiebreakError for one that is not plain."""
    plain = value.item() if hasattr(value, "item") else value  # a number of NumPy
    try:
        text: str = yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True, width=10**9)
    except yaml.YAMLError:
        raise TiebreakError(
            f"{name} takes a plain value, such as a number, a text, a list or a dict, not {value!r:.60}"
        ) from None
    return text.removesuffix("...\n").strip()


def _files(role: str, value: Any, folder: Path) -> list[Path]:
    """Files of data: those that were given, or one of a table or of dicts, written into `folder`.

    Raises TiebreakError for what is neither.
    """
    if isinstance(value, str | Path):
        return [Path(value)]
    if hasattr(value, "__arrow_c_stream__"):
        return [_write_table(new_folder(folder / "data") / f"given_{role}.parquet", value)]
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        raise TiebreakError(f"{role} takes files, a table or a list of dicts, not {value!r:.60}")
    rows = list(value)
    if not rows:
        raise TiebreakError(f"{role} takes files, a table or a list of dicts, and there is none in it")
    if all(isinstance(row, str | Path) for row in rows):
        return [Path(row) for row in rows]
    return [_write_rows(new_folder(folder / "data") / f"given_{role}.jsonl", role, rows)]


def _write_table(path: Path, table: Any) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with replacing(path) as file:
        pq.write_table(pa.table(table), file)
    return path


def _write_rows(path: Path, role: str, rows: Iterable[Any]) -> Path:
    with replacing(path) as file:
        for number, row in enumerate(rows, 1):
            if not isinstance(row, Mapping):
                raise TiebreakError(
                    f"{role} takes files, a table or a list of dicts; number {number} is {row!r:.60}"
                )
            try:
                file.write(json.dumps(dict(row), ensure_ascii=False).encode() + b"\n")
            except (TypeError, ValueError) as error:
                raise TiebreakError(f"{role}: number {number} cannot be written as JSON: {error}") from None
    return path
