"""What a Slurm cluster allows, beside what a recipe's jobs would ask for."""

import getpass
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from tiebreak.errors import TiebreakError, nearest
from tiebreak.execute import queue
from tiebreak.execute.cluster import Cluster
from tiebreak.execute.finding import Finding
from tiebreak.execute.slurm import Site, cards_of, minutes_in, minutes_of, too_large
from tiebreak.execute.workspace import Workspace
from tiebreak.pipeline import Task


def findings(work: Workspace, tasks: Sequence[Task]) -> Iterator[Finding]:
    """Every limit that the jobs of these tasks meet; Slurm out of reach is an error."""
    try:
        site = Cluster(work).site()
        known = queue.partitions()
        default = next((name for name, found in known.items() if found.is_default), "")
        jobs = {step: minutes_of(step, site) for step in dict.fromkeys(task.step_name for task in tasks)}
        for name in site.variables.get("SBATCH_PARTITION", default).split(","):
            yield partition(name, known, jobs, site)
        if text := too_large(Counter(task.step_name for task in tasks), queue.largest_array()):
            yield Finding("error", "slurm arrays", text)
        yield from account(site.variables, queue.associations(getpass.getuser()))
    except TiebreakError as error:
        yield Finding("error", "slurm", str(error))


def partition(
    name: str, known: Mapping[str, queue.Partition], jobs: Mapping[str, int], site: Site
) -> Finding:
    """Whether a partition is there, has the jobs' cards, and lets them run for as long as they ask."""
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
    asked = f"{jobs[longest]} minutes" if jobs[longest] else "any length"
    if limit is not None and not 0 < jobs[longest] <= limit:
        variable = "SBATCH_TIMELIMIT" in site.variables
        mend = f"SBATCH_TIMELIMIT={limit}" if variable else f"--set slurm.minutes={limit}"
        return Finding(
            "error",
            about,
            f"jobs of {longest} ask for {asked}, the limit is {limit}: they would never start; "
            f"{mend}, since a job that runs out of time is requeued and goes on",
        )
    return Finding("ok", about, f"lets jobs of {asked} run")


def account(variables: Mapping[str, str], known: Mapping[str, set[str]]) -> Iterator[Finding]:
    """Whether SBATCH_ACCOUNT and SBATCH_QOS are this user's, where the cluster keeps accounts."""
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
