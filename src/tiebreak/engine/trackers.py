"""Trackers: libraries that draw a task's curves and keep its figures, behind one interface.

None is a dependency, and each is imported only where it is opened. Where one writes to, and whether it is offline, is
up to its own variables: WANDB_MODE, MLFLOW_TRACKING_URI, TRACKIO_SPACE_ID, HF_HUB_OFFLINE and others.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from tiebreak.engine.artifacts import lock
from tiebreak.errors import TiebreakError
from tiebreak.recipe.execution import TrackerName


@dataclass(frozen=True)
class TrackedTask:
    """A task as trackers know it.

    id: the same whenever the task goes on. project: the recipe's name. group: the run's folder. folder: for what a
    tracker keeps on this machine.
    """

    id: str
    name: str
    project: str
    group: str
    settings: dict[str, Any]
    folder: Path

    @property
    def unique_name(self) -> str:
        return f"{self.name}-{self.id[:8]}"


class Tracker(Protocol):
    """A tracker that is open for one task; what it raises is up to its library."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Log figures of a step; steps only go up."""

    def flush(self) -> None:
        """Hand over what was logged, so that it outlives this process."""

    def save(self, file: Path) -> None:
        """Keep a copy of a file, or its place."""

    def close(self) -> None:
        """End the session; the task may go on in another."""


def require_installed(names: Sequence[TrackerName]) -> None:
    """Raises TiebreakError if the library of one is not installed."""
    if missing := [name for name in names if find_spec(name) is None]:
        raise TiebreakError(
            f"compute.report_to names {', '.join(missing)}, not installed here: pip install {' '.join(missing)}"
        )


def open_tracker(name: TrackerName, task: TrackedTask) -> Tracker:
    """Open a task's run in a tracker, the same as before where there is one."""
    match name:
        case "tensorboard":
            return _TensorBoard(task)
        case "wandb":
            return _WandB(task)
        case "trackio":
            return _Trackio(task)
        case "mlflow":
            return _MLflow(task)


class _TensorBoard:
    """TensorBoard, which reads all event files of a folder as one run. It keeps no files: their places are text."""

    def __init__(self, task: TrackedTask) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(task.folder / "tensorboard" / task.unique_name))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        self._writer.flush()

    def save(self, file: Path) -> None:
        self._writer.add_text(file.name, str(file))

    def close(self) -> None:
        self._writer.close()


class _WandB:
    """Weights & Biases."""

    def __init__(self, task: TrackedTask) -> None:
        import wandb

        self._wandb = wandb
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", task.project),
            group=os.environ.get("WANDB_RUN_GROUP", task.group),
            name=task.name,
            id=task.id,
            resume="allow",
            config=task.settings,
            dir=os.environ.get("WANDB_DIR", task.folder),
        )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def flush(self) -> None:
        """Nothing: a process of its own writes what was logged."""

    def save(self, file: Path) -> None:
        artifact = self._wandb.Artifact(f"{self._run.id}-{file.name}", type=file.stem)
        artifact.add_file(str(file))
        self._run.log_artifact(artifact)

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    """Trackio, which knows a run by its name. Without the hub it logs to this machine."""

    def __init__(self, task: TrackedTask) -> None:
        import trackio
        from huggingface_hub.constants import is_offline_mode

        if is_offline_mode():
            os.environ.pop("TRACKIO_SPACE_ID", None)
        self._trackio = trackio
        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", task.project),
            name=task.unique_name,
            group=task.group,
            resume="allow",
            config=task.settings,
            embed=False,
        )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def flush(self) -> None:
        """Nothing: a thread of its own writes what was logged."""

    def save(self, file: Path) -> None:
        self._trackio.log_artifact(file, name=file.name, type=file.stem)

    def close(self) -> None:
        self._trackio.finish()


class _MLflow:
    """MLflow, which names runs itself: a tag finds the task's again."""

    def __init__(self, task: TrackedTask) -> None:
        from mlflow import MlflowClient

        own = task.folder.resolve()
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        with lock(own):  # two processes that make one database at the same time break it
            self._client = MlflowClient(uri or f"sqlite:///{own / 'mlflow.db'}")
            experiment = self._experiment(
                os.environ.get("MLFLOW_EXPERIMENT_NAME", task.project),
                files=None if uri else (own / "mlflow-files").as_uri(),
            )
        found = self._client.search_runs([experiment], f"tags.`tiebreak.id` = '{task.id}'")
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, "RUNNING")
        else:
            tags = {"tiebreak.id": task.id, "tiebreak.group": task.group}
            self._run = self._client.create_run(experiment, tags=tags, run_name=task.name).info.run_id
            self._client.log_dict(self._run, task.settings, "settings.json")
        self._metrics: list[Any] = []

    def _experiment(self, name: str, files: str | None) -> str:
        """The id of an experiment. files: where its artifacts go."""
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name, files))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        self._metrics += [Metric(name, value, now, step) for name, value in figures.items()]

    def flush(self) -> None:
        """Send what was logged, in batches as large as a server takes."""
        while self._metrics:
            self._client.log_batch(self._run, metrics=self._metrics[:1000])
            del self._metrics[:1000]

    def save(self, file: Path) -> None:
        self._client.log_artifact(self._run, str(file))

    def close(self) -> None:
        self._client.set_terminated(self._run)
