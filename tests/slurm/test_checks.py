"""Checks of jobs against the limits of a cluster, without a cluster."""

from pathlib import Path

import pytest

from tiebreak.engine.finding import Finding
from tiebreak.recipe.execution import Slurm
from tiebreak.slurm.checks import check_account, check_partition
from tiebreak.slurm.client import Partition
from tiebreak.slurm.sbatch_script import Site

SITE = Site(
    "judge",
    Path("/run"),
    Path("/run/recipe.yaml"),
    None,
    {},
    Slurm(),
    gpu_steps=frozenset({"teach"}),
    tiebreak="tiebreak",
)
KNOWN = {
    "main": Partition(None, gpus=2, is_default=True, is_up=True),
    "short": Partition("5:00", gpus=2, is_default=False, is_up=True),
    "old": Partition("1-00:00:00", gpus=0, is_default=False, is_up=True),
    "broken": Partition(None, gpus=2, is_default=False, is_up=False),
}
JOBS = {"split": 60, "teach": 1440}


def test_no_limit_is_fine() -> None:
    assert check_partition("main", KNOWN, JOBS, SITE) == Finding(
        "ok", "slurm partition main", "lets jobs of 1440 minutes run"
    )
    assert check_partition("main", KNOWN, {}, SITE).level == "ok"


def test_jobs_without_a_limit_are_the_longest() -> None:
    endless = Site(**(vars(SITE) | {"variables": {"SBATCH_TIMELIMIT": "0"}}))
    found = check_partition("short", KNOWN, JOBS | {"split": 0}, endless)
    assert found.text.startswith(
        "jobs of split ask for any length, the limit is 5: they would never start; SBATCH_TIMELIMIT=5, since"
    )
    assert check_partition("main", KNOWN, JOBS | {"split": 0}, endless).level == "ok"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mian", "there is none of that name; did you mean 'main'?"),
        (
            "short",
            "jobs of teach ask for 1440 minutes, the limit is 5: they would never start; --set slurm.minutes=5",
        ),
        ("old", "jobs ask for 1 GPUs a node, its nodes have 0"),
        ("broken", "it is down"),
    ],
)
def test_jobs_that_could_never_start_are_an_error(name: str, text: str) -> None:
    found = check_partition(name, KNOWN, JOBS, SITE)
    assert found.level == "error"
    assert text in found.text


def test_a_task_wants_its_processes_cards_on_a_node() -> None:
    four = Site(**(vars(SITE) | {"processes": 4}))
    assert "4 GPUs a node, its nodes have 2" in check_partition("main", KNOWN, JOBS, four).text
    on_two_nodes = Site(**(vars(four) | {"settings": Slurm(nodes=2)}))
    assert check_partition("main", KNOWN, JOBS, on_two_nodes).level == "ok"


def test_a_partition_without_gpus_is_fine_for_jobs_without() -> None:
    assert check_partition("old", KNOWN, {"split": 60, "average": 60}, SITE).level == "ok"


ASSOCIATIONS = {"lab": {"normal", "high"}, "course": {"normal"}}


@pytest.mark.parametrize(
    ("variables", "known", "level"),
    [
        ({}, ASSOCIATIONS, None),
        ({"SBATCH_ACCOUNT": "lab", "SBATCH_QOS": "high"}, ASSOCIATIONS, "ok"),
        ({"SBATCH_QOS": "high"}, ASSOCIATIONS, "ok"),
        ({"SBATCH_ACCOUNT": "lap"}, ASSOCIATIONS, "error"),
        ({"SBATCH_ACCOUNT": "course", "SBATCH_QOS": "high"}, ASSOCIATIONS, "error"),
        ({"SBATCH_ACCOUNT": "lab"}, {}, "warning"),
    ],
)
def test_account_and_qos(variables: dict[str, str], known: dict[str, set[str]], level: str | None) -> None:
    levels = [found.level for found in check_account(variables, known)]
    assert levels == ([level] if level else [])
