"""Outputs of a finished run: report, model, metrics."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak import json_files
from tiebreak.engine.artifacts import Manifest
from tiebreak.engine.progress import duration
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.output import write_atomically
from tiebreak.recipe.basics import RECIPE

if TYPE_CHECKING:
    import pyarrow as pa

    from tiebreak.judge.location import Located
    from tiebreak.stats.metrics import Array

SUBMISSION = "submission.csv"
_AGAIN = "run the evaluation again"


def report_folder(where: Path, overrides: Sequence[str] = ()) -> Path:
    """The folder with metrics.json of a recipe, of its folder, or the folder itself.

    Raises TiebreakError if there is none yet.
    """
    folder = where.parent if where.name == "metrics.json" else where
    if (folder / "metrics.json").is_file():
        return folder
    recipe = recipe_at(where)
    if recipe is None:
        raise TiebreakError(f"{where} is no recipe and holds no metrics.json")
    return evaluation_folder(Workspace(recipe, tuple(overrides)))


def recipe_at(where: Path) -> Path | None:
    """The recipe that a path is, by its name, or that its folder holds; None where it is neither."""
    if (where / RECIPE).is_file():
        return where / RECIPE
    return where if where.suffix in (".yaml", ".yml") else None


def refuse_unused(overrides: Sequence[str] | None, places: Sequence[Path]) -> None:
    """Raises TiebreakError for overrides where none of these is a recipe that they could change."""
    if overrides and not any(map(recipe_at, places)):
        raise TiebreakError(
            f"--set {overrides[0]} changes a recipe, and there is none: {', '.join(map(str, places))}"
        )


def evaluation_folder(work: Workspace) -> Path:
    """The folder of a run's evaluation. Raises TiebreakError if there is none yet."""
    report = work.find("evaluate/report")
    if work.manifest(report) is None:
        raise TiebreakError(f"{work.path} has no report yet; make it with: tiebreak run {work.arguments}")
    return work.folder(report)


def locate_model(where: Path, overrides: Sequence[str] = ()) -> "Located":
    """The model to ship of a recipe that ran, or of its folder; a model of the hub, by its name; any other folder stands
    for itself.

    Raises TiebreakError if the recipe has no report yet, and as `judge.location.locate` does.
    """
    from tiebreak.judge.location import Located, locate

    return Located(report_folder(where, overrides) / "model") if recipe_at(where) else locate(where)


def judge_name(where: Path, overrides: Sequence[str] = ()) -> str:
    """The name of a judge, given as for `locate_model`, for readers: a recipe's, the hub's, or that of its folder, without the
    folders above, since pages are shared.
    """
    from tiebreak.judge.location import hub_name

    if recipe := recipe_at(where):
        return Workspace(recipe, tuple(overrides)).recipe.name
    if hub_name(where):
        return str(where)
    folder = where.absolute()
    return folder.parent.name if folder.name == "model" else folder.name


def model_folder(where: Path, overrides: Sequence[str] = ()) -> Path:
    """The folder of a model, given as for `locate_model`."""
    return locate_model(where, overrides).folder


def models_and_pairs(
    where: Sequence[Path], overrides: Sequence[str] = ()
) -> "tuple[list[Located], list[Path]]":
    """The models that come first, given as for `locate_model`, and the files after them.

    Raises TiebreakError if there are no files, and as `locate_model` does.
    """
    from tiebreak.judge import package
    from tiebreak.judge.location import hub_name

    is_model = [bool(recipe_at(path) or hub_name(path)) or (path / package.NAME).is_file() for path in where]
    count = max(1, (*is_model, False).index(False))
    if count == len(where):
        raise TiebreakError("no pairs to judge: name a file of them after the model, or - for standard input")
    return [locate_model(path, overrides) for path in where[:count]], list(where[count:])


def predict_table(
    models: Sequence[Path],
    votes: "pa.Table",
    device: str | None,
    precision: str,
    overrides: Sequence[str] = (),
) -> "Array":
    """Predictions (n, models, 3) of each model, given as for `locate_model`, for votes (votes.schema.SCHEMA).

    Votes that a model has seen are warned of. Raises TiebreakError, before any prediction, for a recipe without a report or a folder that is no model.
    """
    from tiebreak.commands.seen_votes import warn_of_seen
    from tiebreak.judge.ensemble import Ensemble

    folders = [model_folder(model, overrides) for model in models]
    warn_of_seen(folders, votes)
    return Ensemble(folders, device=device, precision=precision).predict_table(votes)


def read_metrics(folder: Path) -> dict[str, Any]:
    """Read metrics.json of a finished evaluation. Raises TiebreakError if it is damaged."""
    return json_files.read_object(folder / "metrics.json", _AGAIN)


def verdict(work: Workspace) -> dict[str, Any] | None:
    """The verdict on a run's judge (evaluate.verdict); None if its lockbox is empty.

    Raises TiebreakError for metrics that hold none, such as those of another version.
    """
    folder = evaluation_folder(work)
    found = read_metrics(folder).get("verdict", "missing")
    if found is not None and not (
        isinstance(found, dict) and {"use", "headline", "findings"} <= found.keys()
    ):
        raise TiebreakError(f"{folder / 'metrics.json'} is damaged: its verdict is {found!r:.100}; {_AGAIN}")
    return found


def run_facts(work: Workspace) -> dict[str, Any]:
    """Facts on a run from its manifests: seconds of each task over all its turns, their sums, machines, versions."""
    found = [manifest for task in work.tasks if (manifest := work.manifest(task))]
    seconds, gpu_seconds = compute_seconds(found)
    return {
        "took": f"{duration(seconds)}, one task after another; {gpu_seconds / 3600:.2f} GPU-hours",
        "made on": "; ".join(sorted({_machine(manifest.hardware) for manifest in found})),
        "versions": found[-1].versions if found else {},
        "seconds": {f"{manifest.step}/{manifest.name}": manifest.seconds for manifest in found},
    }


def compute_seconds(manifests: Iterable[Manifest]) -> tuple[float, float]:
    """Seconds of finished tasks, and those times the cards that they worked on."""
    found = list(manifests)
    return sum(m.seconds for m in found), sum(m.seconds * m.gpus for m in found)


def _machine(hardware: Mapping[str, Any]) -> str:
    """Format hardware without the host's name, since reports are shared."""
    cores = f"{hardware['cores']} cores" if "cores" in hardware else ""
    return ", ".join(str(part) for part in (hardware.get("machine"), cores, hardware.get("gpu")) if part)


def write_report(work: Workspace, output: Path | None = None, more: dict[str, Any] | None = None) -> Path:
    """Render the report of a run together with its facts, by default to <run_dir>/report.html.

    more: further keys for `evaluate.report.render`. Raises TiebreakError if there is no evaluation yet.
    """
    folder = evaluation_folder(work)
    made_up = {"made_up": True} if _is_made_up(work) else {}
    told = {"facts": run_facts(work), "votes_from": _names_of_votes(work), "finished": _day_finished(work)}
    metrics = read_metrics(folder) | told | made_up | (more or {})
    return _render(metrics, folder / "metrics.json", output or work.run_dir / "report.html")


def write_submission(work: Workspace) -> Path | None:
    """Copy a run's submission to <run_dir>/submission.csv, beside its report; None where there are no test pairs."""
    made = evaluation_folder(work) / SUBMISSION
    if not made.is_file():
        return None
    path = work.run_dir / SUBMISSION
    write_atomically(path, made.read_text("utf-8"))
    return path.resolve()


def _names_of_votes(work: Workspace) -> list[str]:
    """Names of the files of votes, without their folders, since reports are shared."""
    return [Path(location).name for location in work.recipe.data.votes]


def _day_finished(work: Workspace) -> str:
    """The day, in UTC, on which the evaluation was finished, as 2026-11-30."""
    manifest = work.manifest(work.find("evaluate/report"))
    assert manifest is not None
    return datetime.fromtimestamp(manifest.finished, UTC).date().isoformat()


def _is_made_up(work: Workspace) -> bool:
    """True if the votes of a recipe are those that `init` made up, beside which their truth lies."""
    from tiebreak.votes import synthetic

    folder = work.path.parent
    own = [(folder / location).resolve() for location in work.recipe.data.votes]
    return (
        own == [(folder / "data" / "votes.parquet").resolve()]
        and synthetic.read_parameters(folder) is not None
    )


def report(where: Path, output: Path | None = None, overrides: Sequence[str] = ()) -> Path:
    """The report of a recipe, with its facts, or of a folder with metrics.json; written, and its path.

    Raises TiebreakError if there is none yet.
    """
    if recipe := recipe_at(where):
        work = Workspace(recipe, tuple(overrides))
        write_submission(work)
        return write_report(work, output)
    folder = report_folder(where)
    return (
        _render(read_metrics(folder), folder / "metrics.json", output)
        if output
        else (folder / "report.html").resolve()
    )


def _render(metrics: Mapping[str, Any], source: Path, path: Path) -> Path:
    """Write the report of the metrics in `source`. Raises TiebreakError where they are not what a report shows."""
    from jinja2 import TemplateError

    from tiebreak.evaluate import report

    try:
        page = report.render(metrics)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, TemplateError) as error:
        raise TiebreakError(f"{source} is damaged: {error}; {_AGAIN}") from error
    write_atomically(path, page)
    return path.resolve()
