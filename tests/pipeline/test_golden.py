import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import TinyRun
from golden import FILE, Fingerprint, advice, changed, file_fingerprints, fingerprints, same, unversioned


@pytest.fixture(scope="module")
def golden() -> dict[str, Fingerprint]:
    kept: dict[str, Fingerprint] = json.loads(FILE.read_text("utf-8"))
    return kept


@pytest.mark.slow
def test_no_output_changed_without_its_version(golden: dict[str, Fingerprint], tiny_run: TinyRun) -> None:
    now = fingerprints(tiny_run.recipe)
    steps = unversioned(golden, now)
    assert not steps, advice(steps, changed(golden, now))
    assert {task: kept["version"] for task, kept in golden.items()} == {
        task: kept["version"] for task, kept in now.items()
    }, "a VERSION rose: make golden"
    assert not changed(golden, now), "outputs changed: make golden"


def test_the_first_step_that_changed_is_blamed(golden: dict[str, Fingerprint]) -> None:
    now = deepcopy(golden)
    for task, kept in now.items():
        if task.startswith(("teach/", "score/", "distill/")):
            values = kept["files"]["adapter_model.safetensors" if "score" not in task else "logits.parquet"]
            values["values" if "score" not in task else "z_tie"][1] += 1.0
    assert unversioned(golden, now) == ["teach"]
    for task in now:
        now[task]["version"] += task.startswith("teach/")
    assert not unversioned(golden, now)
    assert "score/llama-fold0-1of1" in changed(golden, now)


def test_made_up_votes_that_changed_are_nobodys_fault(golden: dict[str, Fingerprint]) -> None:
    now = deepcopy(golden)
    now["inputs"]["files"]["votes.parquet"]["prompt"] = "another"
    now["ingest/votes"]["files"]["votes.parquet"]["prompt"] = "another"
    assert changed(golden, now) == ["inputs", "ingest/votes"]
    assert not unversioned(golden, now)


@pytest.mark.parametrize(
    ("column", "alike"),
    [
        (np.array([1.0, 2.0, 3.0]) * (1 + 1e-5), True),
        (np.array([1.0, 2.0, 3.1]), False),
        (np.array([1.0, 3.0, 2.0]), False),
        (np.array([1.0, 2.0]), False),
    ],
)
def test_numbers_may_differ_by_rounding_alone(
    tmp_path: Path, column: np.ndarray[tuple[int], np.dtype[np.float64]], alike: bool
) -> None:
    for name, values in (("a", np.array([1.0, 2.0, 3.0])), ("b", column)):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"z": values}), tmp_path / name / "logits.parquet")
    before, after = (file_fingerprints([tmp_path / name / "logits.parquet"]) for name in "ab")
    assert same(before, after) is alike
