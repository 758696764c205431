"""Execution of a run: what computes it and schedules it. Never part of an artifact's key."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from tiebreak.recipe.limits import AtMost
from tiebreak.recipe.values import MANY, Location, Minutes, Positive, Slice, StepName, Tokens, Weight

OneWord = Annotated[str, StringConstraints(pattern=r"^\S+$")]
TrackerName = Literal["tensorboard", "wandb", "trackio", "mlflow"]


class Compute(Slice):
    """The execution of the run: device, processes, tokens per forward. Never part of an artifact's key."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPU where there is one")
    check_limits: bool = Field(
        True, description="false: also take numbers beyond the limits on this page, and any number of tasks"
    )
    workers: Annotated[Positive, AtMost(4096)] = Field(
        1, description="tasks side by side on this machine; those on one card share its memory"
    )
    threads: Annotated[int, AtMost(4096)] = Field(
        0, ge=0, description="CPU threads of a task; 0 shares the cores among the workers"
    )
    processes: Annotated[Positive, AtMost(65_536)] = Field(
        1, description="processes that share one task, a GPU each; data parallel, the same rows a step"
    )
    shard_model: bool = Field(
        False,
        description="spread the frozen weights over the processes (FSDP2), for models larger than a card",
    )
    train_tokens: Tokens | None = Field(
        None,
        description="tokens in one forward and backward; by default 8192, and more for small models on a GPU",
    )
    score_tokens: Tokens = Field(16384, description="tokens in one forward when scoring")
    checkpoint_minutes: Annotated[Weight, AtMost(10**6)] = Field(
        10.0, description="time between two checkpoints"
    )
    log_every: Annotated[Positive, MANY] = Field(50, description="batches between two progress lines")
    report_to: tuple[TrackerName, ...] = Field(
        (), description="trackers of curves and results, each a package of its own to install"
    )


class StepJobs(Slice):
    """The Slurm jobs of one step, in place of what holds for all."""

    partition: OneWord | None = Field(None, description="for SBATCH_PARTITION")
    qos: OneWord | None = Field(None, description="for SBATCH_QOS")
    account: OneWord | None = Field(None, description="for SBATCH_ACCOUNT")
    mem: OneWord | None = Field(None, description="memory of a node, such as 64G, for SBATCH_MEM_PER_NODE")
    gres: OneWord | None = Field(None, description="its cards as they are, such as gpu:a100:2")
    minutes: Minutes | None = Field(None, description="time of a job")
    before: tuple[str, ...] = Field(
        (), description="lines of shell behind the profile's, such as module load cuda"
    )
    container: str | None = Field(
        None, description="an Apptainer image that has tiebreak, under the same path"
    )


class Slurm(Slice):
    """The Slurm jobs of the run's tasks. Never part of an artifact's key."""

    profile: Location | None = Field(
        None, description="shell file that every job sources; its SBATCH_ variables hold for every job"
    )
    minutes: Minutes = Field(1440, description="time of a job; what needs longer is requeued and goes on")
    steps: dict[StepName, StepJobs] = Field({}, description="other settings for the jobs of the steps named")
    mail: OneWord | None = Field(None, description="address that Slurm tells of the end of the whole run")
    nodes: Annotated[Positive, AtMost(65_536)] = Field(
        1, description="nodes that compute.processes are spread over evenly"
    )
    at_once: Annotated[int, AtMost(10**6)] = Field(
        0, ge=0, description="tasks of one step that run at the same time; 0 for no limit"
    )
    requeues: Annotated[int, AtMost(10**6)] = Field(
        20, ge=0, description="how often one job may run out of time"
    )
