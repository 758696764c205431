"""Slurm jobs of a run: submission, the record of submitted jobs, their states.

<run_dir>/slurm/jobs.json records what was submitted, beside the frozen copies of the recipe for the jobs. Slurm does
the scheduling; finished tasks are known by their artifacts, so that a second submission submits only what is missing.
"""

import json
import logging
import shlex
import sys
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from tiebreak.engine import artifacts, planner
from tiebreak.engine.local_runner import missing_inputs
from tiebreak.engine.trackers import require_installed
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.output import new_folder, write_atomically
from tiebreak.pipeline.graph import Task
from tiebreak.regular_file import require_regular
from tiebreak.slurm import client, left
from tiebreak.slurm.profile import environment_of, sbatch_variables
from tiebreak.slurm.sbatch_script import (
    Site,
    Submission,
    dependencies,
    follow_up_script,
    gpu_steps,
    passthrough_variables,
    script,
    submissions,
)

log = logging.getLogger(__name__)

_ENDING_SECONDS = 60.0
"""Seconds to wait for a job to end. Slurm's KillWait for cancelled processes is 30."""


class _Entry(BaseModel):
    """An array of jobs that was submitted: its number, step, tasks with their keys, and the jobs that it waits for.

    after_each: the array of which each task waits for the one in its own place.
    """

    job: str = Field(pattern=r"^[0-9]+$")
    step: str
    tasks: dict[str, str]
    after: list[str] = []
    after_each: str = ""
    submitted: float = 0.0


_RECORD = TypeAdapter(list[_Entry])


class SlurmJobs:
    """Jobs of one workspace: submission, record and states."""

    def __init__(self, work: Workspace) -> None:
        self.work = work
        self.folder = work.place("slurm")
        self.record = self._read_record()

    def site(self) -> Site:
        """The common settings of this run's jobs.

        Raises TiebreakError for a profile that cannot be sourced or names another cluster, and for a run folder
        that cannot be written in an option, or a tracker that is not installed.
        """
        run_dir = self.work.run_dir.resolve()
        if any(mark in str(run_dir) for mark in '"\\\n'):
            raise TiebreakError(
                f"the run folder {str(run_dir)!r} has a double quote, a backslash or a line break, which Slurm "
                "does not take in the path of a log; move it, or set run_dir to a folder without"
            )
        require_installed(self.work.recipe.compute.report_to)
        settings = self.work.recipe.slurm
        profile = (self.work.root / settings.profile).resolve() if settings.profile else None
        return Site(
            name=self.work.recipe.name,
            run_dir=run_dir,
            recipe=self.work.frozen_path,
            profile=profile,
            variables=sbatch_variables(environment_of(profile)),
            settings=settings,
            gpu_steps=gpu_steps(self.work.recipe),
            tiebreak=shlex.quote(str(tiebreak_command())),
            processes=self.work.recipe.compute.processes,
        )

    def planned_scripts(self, chosen: Sequence[Task]) -> list[tuple[Submission, str]]:
        """Planned submissions with their scripts; dependencies not yet submitted are named by their steps."""
        active = self.active()
        self._check_inputs(chosen, active)
        site, missing = self.site(), submissions(self.work, chosen, active, client.max_array_size())
        needed = {task for planned in missing for task in planned.all_after}
        submitted: dict[str, Sequence[str]] = {}
        scripts: list[tuple[Submission, str]] = []
        for planned in missing:
            is_last = needed.isdisjoint(planned.tasks)
            text = script(planned, site, dependencies(planned, submitted), is_last)
            earlier = sum(other.step == planned.step for other, _ in scripts)
            submitted[f"<{planned.step}{f'.{earlier + 1}' if earlier else ''}>"] = planned.tasks
            scripts.append((planned, text))
        return scripts

    def submit(
        self, chosen: Sequence[Task], options: Sequence[str] = (), retries: int = 0
    ) -> list[dict[str, Any]]:
        """Submit tasks that are neither done nor active. Returns the new entries of jobs.json.

        Raises TiebreakError, before anything is submitted, if an input is missing.
        """
        site = replace(self.site(), retries=retries)
        self.folder.mkdir(parents=True, exist_ok=True)
        new_folder(self.work.place("logs"))
        with artifacts.lock(self.folder):
            self.record = self._read_record()  # another process may have submitted since
            active, unsatisfiable_jobs = self._active_and_unsatisfiable()
            self._check_inputs(chosen, active)
            if later := left.read(self.folder):
                client.cancel([later.job])
                left.drop(self.folder)
            missing = submissions(self.work, chosen, active, client.max_array_size())
            resubmitted = {task for planned in missing for task in planned.tasks}
            client.cancel([job for task, job in unsatisfiable_jobs.items() if task in resubmitted])
            if missing:
                self.work.freeze()
            made, left_out = self._submit_as_allowed(missing, site, options)
            if left_out:
                self._submit_later(made, left_out, site, options)
        return made

    def _submit_as_allowed(
        self, missing: Sequence[Submission], site: Site, options: Sequence[str]
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Submit in order, in parts where the whole is refused for its size. Returns the new entries and the tasks left out."""
        submitted: dict[str, Sequence[str]] = {}
        made: list[dict[str, Any]] = []
        needed = {task for planned in missing for task in planned.all_after}
        waiting = list(missing)
        while waiting:
            planned = waiting.pop(0)
            if (
                planned.after_each and planned.after_each not in submitted.values()
            ):  # that array came in parts
                waiting[:0] = planned.alone()
                continue
            waits_for = dependencies(planned, submitted)
            variables = passthrough_variables(planned.step, site)
            text = script(planned, site, waits_for, is_last=needed.isdisjoint(planned.tasks))
            try:
                job = client.submit(text, options, variables)
            except client.LimitReached:
                half = len(planned.tasks) // 2
                if half:
                    parts = (slice(half), slice(half, None))
                    waiting[:0] = [
                        replace(planned, tasks=planned.tasks[part], after_each=planned.after_each[part])
                        for part in parts
                    ]
                    continue
                if not made:
                    raise
                return made, [task for other in (planned, *waiting) for task in other.tasks]
            submitted[job] = planned.tasks
            made.append(self._record_submission(planned, job, waits_for))
        return made, []

    def _submit_later(
        self, made: list[dict[str, Any]], left_out: list[str], site: Site, options: Sequence[str]
    ) -> None:
        """Submit a job that submits the tasks left out when the jobs made have ended; the last of them makes room for it."""
        text = follow_up_script(site, [entry["job"] for entry in made])
        try:
            job = client.submit(text, (), self._variables_without_gpus(site))
        except client.LimitReached:
            entry = made[-1]
            task = list(entry["tasks"])[-1]
            client.cancel([f"{entry['job']}_{len(entry['tasks']) - 1}"])
            del entry["tasks"][task]
            left_out.insert(0, task)
            if not entry["tasks"]:
                made.remove(entry)
                self.record.remove(entry)
            self._write_record()
            text = follow_up_script(site, [entry["job"] for entry in made])
            job = client.submit(text, (), self._variables_without_gpus(site))
        left.store(self.folder, left_out, options, site.retries, job)
        log.warning(
            "the site takes no more jobs for now (MaxSubmitJobs): %d tasks are left, and job %s submits them when those "
            "that are in the queue have ended",
            len(left_out),
            job,
        )

    def _variables_without_gpus(self, site: Site) -> dict[str, str]:
        return passthrough_variables("", site)

    def submit_left(self) -> list[dict[str, Any]]:
        """Submit what a limit left out, but for tasks whose inputs failed. Returns the new entries of jobs.json."""
        found = left.read(self.folder)
        if found is None:
            return []
        left.drop(self.folder)
        active = self.active()
        made = {task.id for task in self.work.tasks if self.work.manifest(task)}
        possible: dict[str, Task] = {}
        for task in self.work.tasks:
            if task.id in found.tasks and all(
                up.id in made or up.id in active or up.id in possible for up in task.upstream()
            ):
                possible[task.id] = task
        if out := [task for task in found.tasks if task not in possible]:
            log.warning("not submitted, since what they need has failed: %s", ", ".join(out))
        return self.submit(list(possible.values()), found.options, found.retries)

    def _check_inputs(self, chosen: Sequence[Task], active: Mapping[str, str]) -> None:
        """Raise TiebreakError for an input that neither exists nor has an active job."""
        needed = [task for task in chosen if task.id not in active]
        for upstream, text in missing_inputs(self.work, needed).items():
            if upstream not in active:
                raise TiebreakError(text)

    def active(self) -> dict[str, str]:
        """Tasks with a pending or running job for their present key, and its array task: "17_3"."""
        return self._active_and_unsatisfiable()[0]

    def _active_and_unsatisfiable(self) -> tuple[dict[str, str], dict[str, str]]:
        """Array tasks by task: the active ones, and the unsatisfiable ones, which stay pending until Slurm kills them.

        A failed task of an array makes dependants of the array unsatisfiable, but Slurm acts once the array has ended.
        """
        active: dict[str, str] = {}
        unsatisfiable_jobs: dict[str, str] = {}
        states = {job.id: job.state for job in self._queued_when_settled()}
        found = planner.states(self.work, self.work.tasks) if states else []
        made = {state.task.id: self.work.key(state.task) for state in found if state.status == "fresh"}
        for task in self.work.tasks:
            for job in self.jobs_of(task):
                if states.get(job) == "PENDING" and not (
                    self._inputs_satisfied(task, job, active, made)
                    and self._dependencies_satisfied(job, states, set(unsatisfiable_jobs.values()), made)
                ):
                    unsatisfiable_jobs[task.id] = job
                elif job in states:
                    active[task.id] = job
        return active, unsatisfiable_jobs

    def _inputs_satisfied(
        self, task: Task, job: str, active: Mapping[str, str], made: Mapping[str, str]
    ) -> bool:
        """True if each input of the task exists, or is made by a job submitted before its own."""
        return all(
            client.job_number(active[up.id]) < client.job_number(job) if up.id in active else up.id in made
            for up in task.upstream()
        )

    def _dependencies_satisfied(
        self, job: str, states: Mapping[str, str], unsatisfiable_jobs: Set[str], made: Mapping[str, str]
    ) -> bool:
        """True if every array task in the job's dependency list is done or will be."""
        entries = {entry["job"]: entry for entry in self.record}
        own_array, _, place = job.partition("_")
        each = entries[own_array].get("after_each")
        for dependency in (*entries[own_array].get("after", ()), *([f"{each}_{place}"] if each else ())):
            array = dependency.partition("_")[0]
            for n, (task, key) in enumerate(entries[array]["tasks"].items()):
                array_task = f"{array}_{n}"
                is_satisfied = (
                    array_task not in unsatisfiable_jobs if array_task in states else made.get(task) == key
                )
                if dependency in (array, array_task) and not is_satisfied:
                    return False
        return True

    def _queued_when_settled(self) -> list[client.QueuedJob]:
        """The queued jobs, once none is COMPLETING, a state that ends as done, cancelled or requeued."""
        deadline = time.monotonic() + _ENDING_SECONDS
        jobs = self._queued()
        while any(job.state == "COMPLETING" for job in jobs) and time.monotonic() < deadline:
            time.sleep(1)
            jobs = self._queued()
        return jobs

    def _queued(self) -> list[client.QueuedJob]:
        """This run's queued jobs; Slurm is not queried if none was ever submitted."""
        submitted_jobs = {int(entry["job"]) for entry in self.record}
        return [job for job in client.queued() if job.job in submitted_jobs] if submitted_jobs else []

    def jobs_of(self, task: Task) -> list[str]:
        """The array tasks submitted for a task's present key, the latest last: ["17_3"]."""
        return [
            f"{entry['job']}_{list(entry['tasks']).index(task.id)}"
            for entry in self.record
            if entry["tasks"].get(task.id) == self.work.key(task)
        ]

    def log_of(self, task: Task, job: str) -> Path:
        return self.work.place("logs", f"slurm-{self.work.recipe.name}.{task.step.name}-{job}.log")

    def cancel(self) -> list[str]:
        """Cancel every job of this run that is pending or running. Returns their ids."""
        jobs = [str(job) for job in sorted({job.job for job in self._queued()})]
        if later := left.read(self.folder):
            jobs.append(later.job)
            left.drop(self.folder)
        client.cancel(jobs)
        return jobs

    def _read_record(self) -> list[dict[str, Any]]:
        """The entries of jobs.json. Raises TiebreakError if it is damaged."""
        path = self.folder / "jobs.json"
        if not path.exists():
            return []
        try:
            require_regular(path)
            entries = _RECORD.validate_json(path.read_bytes())
        except (OSError, TiebreakError, ValidationError) as error:
            problem = " ".join(str(error).split())[:200]
        else:
            numbers = {entry.job for entry in entries}
            before = {
                name.partition("_")[0] for entry in entries for name in (*entry.after, entry.after_each)
            }
            unknown = before - numbers - {""}
            if not unknown:
                return [entry.model_dump(exclude_unset=True) for entry in entries]
            problem = f"jobs wait for {', '.join(sorted(unknown))}, which it does not list"
        raise TiebreakError(
            f"{path}, the record of this run's jobs, is damaged: {problem}. See `squeue --me` for jobs that are on their "
            "way, and when there are none delete the file: finished tasks are known by their artifacts"
        )

    def _record_submission(
        self, planned: Submission, job: str, dependencies: Sequence[str]
    ) -> dict[str, Any]:
        keys = {task: self.work.key(self.work.find(task)) for task in planned.tasks}
        entry = {
            "job": job,
            "step": planned.step,
            "tasks": keys,
            "after": [] if planned.after_each else list(dependencies),
            "after_each": dependencies[0] if planned.after_each else "",
            "submitted": time.time(),
        }
        self.record.append(entry)
        self._write_record()
        return entry

    def _write_record(self) -> None:
        write_atomically(self.folder / "jobs.json", json.dumps(self.record, indent=1))


def tiebreak_command() -> Path:
    """Path of this installation's `tiebreak`, which the jobs call."""
    return Path(sys.executable).parent / "tiebreak"
