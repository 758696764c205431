"""A run on a Slurm cluster: what was submitted, what would be, where it stands.

<run_dir>/slurm/jobs.json keeps what was submitted, beside the copies of the recipe that the jobs work from.
Slurm schedules; the artifacts say what is done, so submitting again submits only what is missing.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from tiebreak.errors import TiebreakError
from tiebreak.execute import artifacts, queue
from tiebreak.execute.artifacts import write_atomically
from tiebreak.execute.local import missing_inputs
from tiebreak.execute.plan import state
from tiebreak.execute.slurm import Site, Submission, gpu_steps, passed_on, script, submissions, too_large
from tiebreak.execute.workspace import Workspace
from tiebreak.pipeline import Task

_ENDING = 60.0
"""Seconds that a job may take to end. Slurm gives a process that it cancels 30 (KillWait)."""


class Cluster:
    """One workspace's jobs: what was submitted, what would be, and where it stands."""

    def __init__(self, work: Workspace) -> None:
        self.work = work
        self.folder = work.run_dir / "slurm"
        self.record = self._recorded()

    def site(self) -> Site:
        """The settings of this run's jobs.

        Raises TiebreakError for a profile that cannot be sourced or names another cluster, and a run folder
        that no option can hold.
        """
        run_dir = self.work.run_dir.resolve()
        if any(mark in str(run_dir) for mark in '"\\\n'):
            raise TiebreakError(
                f"the run folder {str(run_dir)!r} has a double quote, a backslash or a line break, which Slurm "
                "does not take in the path of a log; move it, or set run_dir to a folder without"
            )
        settings = self.work.recipe.slurm
        profile = (self.work.root / settings.profile).resolve() if settings.profile else None
        return Site(
            name=self.work.recipe.name,
            run_dir=run_dir,
            recipe=self.work.copy,
            profile=profile,
            variables=_variables(profile),
            settings=settings,
            gpu_steps=gpu_steps(self.work.recipe),
            tiebreak=shlex.quote(str(command())),
            processes=self.work.recipe.compute.processes,
        )

    def planned(self, chosen: Sequence[Task]) -> list[tuple[Submission, str]]:
        """Submissions with the scripts that would go out; jobs of this round are named by their steps."""
        active = self.active()
        self._need_nothing_else(chosen, active)
        site = self.site()
        return [
            (planned, script(planned, site, [*planned.after_jobs, *(f"<{step}>" for step in planned.after)]))
            for planned in submissions(self.work, chosen, active)
        ]

    def submit(self, chosen: Sequence[Task], options: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Submit what is missing and not on its way. Returns what was submitted, as jobs.json keeps it.

        Raises TiebreakError, before anything is submitted, where an input or room for a step's array is lacking.
        """
        site = self.site()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.work.run_dir / "logs").mkdir(exist_ok=True)
        with artifacts.lock(self.folder):
            self.record = self._recorded()  # another may have submitted since
            active, in_vain = self._alive()
            self._need_nothing_else(chosen, active)
            missing = submissions(self.work, chosen, active)
            counts = {planned.step: len(planned.tasks) for planned in missing}
            if text := too_large(counts, queue.largest_array()):
                raise TiebreakError(text)
            again = {task for planned in missing for task in planned.tasks}
            queue.cancel([job for task, job in in_vain.items() if task in again])
            jobs: dict[str, str] = {}
            made = []
            if missing:
                self.work.freeze()
            for planned in missing:
                waits = [*planned.after_jobs, *(jobs[step] for step in planned.after)]
                variables = passed_on(planned.step, site)
                jobs[planned.step] = queue.submit(script(planned, site, waits), options, variables)
                made.append(self._remember(planned, jobs[planned.step], waits))
        return made

    def _need_nothing_else(self, chosen: Sequence[Task], active: Mapping[str, str]) -> None:
        """Refuse to submit what needs an artifact that is neither there nor on its way."""
        needed = [task for task in chosen if task.id not in active]
        for upstream, text in missing_inputs(self.work, needed).items():
            if upstream not in active:
                raise TiebreakError(text)

    def active(self) -> dict[str, str]:
        """Tasks that a pending or running job will do as they are now wanted, and that array task: "17_3"."""
        return self._alive()[0]

    def _alive(self) -> tuple[dict[str, str], dict[str, str]]:
        """What will be done and by which array task; and what is pending in vain, which Slurm will kill.

        A failed task of an array dooms all that waits for the array, but only when the rest of it has ended.
        """
        active: dict[str, str] = {}
        in_vain: dict[str, str] = {}
        states = {job.id: job.state for job in self._settled()}
        fresh = [task for task in self.work.tasks if states and state(self.work, task).status == "fresh"]
        made = {task.id: self.work.key(task) for task in fresh}
        for task in self.work.tasks:
            for job in self.jobs_of(task):
                if states.get(job) == "PENDING" and not (
                    self._comes_to_run(task, job, active, made)
                    and self._gets_its_turn(job, states, set(in_vain.values()), made)
                ):
                    in_vain[task.id] = job
                elif job in states:
                    active[task.id] = job
        return active, in_vain

    def _comes_to_run(self, task: Task, job: str, active: Mapping[str, str], made: Mapping[str, str]) -> bool:
        """Is all that a task reads there, or made by a job that was there when its own was submitted?"""
        return all(
            queue.number(active[up.id]) < queue.number(job) if up.id in active else up.id in made
            for up in task.upstream()
        )

    def _gets_its_turn(
        self, job: str, states: Mapping[str, str], in_vain: Set[str], made: Mapping[str, str]
    ) -> bool:
        """Is every array task that Slurm has it wait for done, or going to be?"""
        entries = {entry["job"]: entry for entry in self.record}
        for wait in entries[job.partition("_")[0]].get("after", ()):
            array = wait.partition("_")[0]
            for n, (task, key) in enumerate(entries[array]["tasks"].items()):
                each = f"{array}_{n}"
                comes = each not in in_vain if each in states else made.get(task) == key
                if wait in (array, each) and not comes:
                    return False
        return True

    def _settled(self) -> list[queue.Queued]:
        """The queued jobs, once none is about to end: is it cancelled, done, or back in the queue?"""
        deadline = time.monotonic() + _ENDING
        jobs = self._queued()
        while any(job.state == "COMPLETING" for job in jobs) and time.monotonic() < deadline:
            time.sleep(1)
            jobs = self._queued()
        return jobs

    def _queued(self) -> list[queue.Queued]:
        """What Slurm has of this run's jobs; it is not asked where none was ever submitted."""
        ours = {int(entry["job"]) for entry in self.record}
        return [job for job in queue.queued() if job.job in ours] if ours else []

    def jobs_of(self, task: Task) -> list[str]:
        """The array tasks that were to do a task as it is now wanted, the latest last: ["17_3"]."""
        return [
            f"{entry['job']}_{list(entry['tasks']).index(task.id)}"
            for entry in self.record
            if entry["tasks"].get(task.id) == self.work.key(task)
        ]

    def log_of(self, task: Task, job: str) -> Path:
        return self.work.run_dir / "logs" / f"slurm-{self.work.recipe.name}.{task.step_name}-{job}.log"

    def cancel(self) -> list[str]:
        """Cancel every job of this run that is pending or running. Returns their ids."""
        jobs = [str(job) for job in sorted({job.job for job in self._queued()})]
        queue.cancel(jobs)
        return jobs

    def _recorded(self) -> list[dict[str, Any]]:
        path = self.folder / "jobs.json"
        record: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        return record

    def _remember(self, planned: Submission, job: str, waits: Sequence[str]) -> dict[str, Any]:
        keys = {task: self.work.key(self.work.find(task)) for task in planned.tasks}
        entry = {
            "job": job,
            "step": planned.step,
            "tasks": keys,
            "after": list(waits),
            "submitted": time.time(),
        }
        self.record.append(entry)
        write_atomically(self.folder / "jobs.json", json.dumps(self.record, indent=1))
        return entry


def command() -> Path:
    """The `tiebreak` that submits is the one that jobs call."""
    return Path(sys.executable).parent / "tiebreak"


def _variables(profile: Path | None) -> dict[str, str]:
    """The SBATCH_ variables of the shell that calls and of the profile, which wins."""
    environment = {name: value for name, value in os.environ.items() if name != "SLURM_JOB_ID"}
    if profile is not None:
        if not profile.is_file():
            raise TiebreakError(f"no profile at {profile}, as slurm.profile says")
        command = ["bash", "-c", 'set -a; source "$1" >&2 && env -0', "profile", str(profile)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TiebreakError(f"the profile {profile} fails: {done.stderr.strip()[-500:]}")
        environment = dict(line.split("=", 1) for line in done.stdout.split("\0") if "=" in line)
    found = {name: value for name, value in environment.items() if name.startswith("SBATCH_") and value}
    for name in ("SBATCH_CLUSTERS", "SLURM_CLUSTERS"):
        if clusters := environment.get(name):
            raise TiebreakError(
                f"{name}={clusters}: the jobs of another cluster are out of sight here; unset it, and work on a "
                "login node of that cluster"
            )
    return found
