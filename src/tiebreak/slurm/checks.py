"""Checks of a recipe's jobs against the limits of the Slurm cluster."""

import getpass
import math
from collections.abc import Iterator, Mapping, Sequence

from tiebreak.engine.finding import Finding
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError, nearest
from tiebreak.pipeline.graph import Task
from tiebreak.slurm import client
from tiebreak.slurm.jobs import SlurmJobs
from tiebreak.slurm.sbatch_script import Site, cards_of, minutes_in, minutes_of


def findings(work: Workspace, tasks: Sequence[Task]) -> Iterator[Finding]:
    """Findings on every limit for the jobs of these tasks; an error if Slurm does not answer."""
    try:
        site = SlurmJobs(work).site()
        known = client.partitions()
        default = next((name for name, found in known.items() if found.is_default), "")
        jobs = {step: minutes_of(step, site) for step in dict.fromkeys(task.step.name for task in tasks)}
        for name in site.variables.get("SBATCH_PARTITION", default).split(","):
            yield check_partition(name, known, jobs, site)
        yield from check_account(site.variables, client.associations(getpass.getuser()))
    except TiebreakError as error:
        yield Finding("error", "slurm", str(error))


def check_partition(
    name: str, known: Mapping[str, client.Partition], jobs: Mapping[str, int], site: Site
) -> Finding:
    """Check that a partition exists, has the jobs' GPUs, and allows their time limits."""
    about = f"slurm partition {name}".strip()
    if name not in known:
        return Finding(
            "error", about, f"there is none of that name; {nearest(name, known)} (SBATCH_PARTITION)"
        )
    found = known[name]
    if not found.is_up:
        return Finding("error", about, "it is down; wait, or choose another (SBATCH_PARTITION)")
    cards = max((cards_of(step, site) for step in jobs), default=0)
    if cards > found.gpus:
        return Finding(
            "error",
            about,
            f"jobs ask for {cards} GPUs a node, its nodes have {found.gpus}; choose another (SBATCH_PARTITION), "
            "other compute.processes and slurm.nodes, or compute.device=cpu",
        )
    longest = max(jobs, key=lambda step: jobs[step] or math.inf, default=None)
    if longest is None:
        return Finding("ok", about, "nothing is left to run")
    limit = None if found.limit is None else minutes_in(found.limit)
    requested = f"{jobs[longest]} minutes" if jobs[longest] else "any length"
    if limit is not None and not 0 < jobs[longest] <= limit:
        variable = "SBATCH_TIMELIMIT" in site.variables
        fix = f"SBATCH_TIMELIMIT={limit}" if variable else f"--set slurm.minutes={limit}"
        return Finding(
            "error",
            about,
            f"jobs of {longest} ask for {requested}, the limit is {limit}: they would never start; "
            f"{fix}, since a job that runs out of time is requeued and goes on",
        )
    return Finding("ok", about, f"lets jobs of {requested} run")


def check_account(variables: Mapping[str, str], known: Mapping[str, set[str]]) -> Iterator[Finding]:
    """Check that SBATCH_ACCOUNT and SBATCH_QOS are this user's, if the cluster keeps accounts."""
    wanted, qos = variables.get("SBATCH_ACCOUNT"), variables.get("SBATCH_QOS")
    if not (wanted or qos):
        return
    if not known:
        yield Finding(
            "warning",
            "slurm account",
            "the cluster names no account of yours, so account and qos go unchecked",
        )
    elif wanted and wanted not in known:
        yield Finding(
            "error", f"slurm account {wanted}", f"it is not yours; {nearest(wanted, known)} (SBATCH_ACCOUNT)"
        )
    elif qos and qos not in (allowed := known[wanted] if wanted else set().union(*known.values())):
        yield Finding("error", f"slurm qos {qos}", f"it is not yours; {nearest(qos, allowed)} (SBATCH_QOS)")
    else:
        yield Finding("ok", "slurm account", ", ".join(word for word in (wanted, qos) if word))
