"""Execution of a run: what computes it and schedules it. Never part of an artifact's key."""

from typing import Literal

from pydantic import Field

from tiebreak.recipe.values import Positive, Slice, StepName, Weight


class Compute(Slice):
    """The execution of the run: device, processes, tokens per forward. Never part of an artifact's key."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPU where there is one")
    workers: Positive = Field(
        1, description="tasks side by side on this machine; those on one card share its memory"
    )
    threads: int = Field(0, ge=0, description="CPU threads of a task; 0 shares the cores among the workers")
    processes: Positive = Field(
        1, description="processes that share one task, a GPU each; data parallel, the same rows a step"
    )
    shard_model: bool = Field(
        False,
        description="spread the frozen weights over the processes (FSDP2), for models larger than a card",
    )
    train_tokens: Positive = Field(8192, description="tokens in one forward and backward")
    score_tokens: Positive = Field(16384, description="tokens in one forward when scoring")
    checkpoint_minutes: Weight = Field(10.0, description="time between two checkpoints")
    log_every: Positive = Field(50, description="batches between two progress lines")


class Slurm(Slice):
    """The Slurm jobs of the run's tasks. Never part of an artifact's key."""

    profile: str | None = Field(
        None, description="shell file that every job sources; its SBATCH_ variables hold for every job"
    )
    minutes: Positive = Field(1440, description="time of a job; what needs longer is requeued and goes on")
    minutes_of: dict[StepName, Positive] = Field({}, description="the same for the steps named")
    nodes: Positive = Field(1, description="nodes that compute.processes are spread over evenly")
    at_once: int = Field(0, ge=0, description="tasks of one step that run at the same time; 0 for no limit")
    requeues: int = Field(20, ge=0, description="how often one job may run out of time")
