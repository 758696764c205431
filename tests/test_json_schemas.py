"""The JSON schemas of the documentation, against what the commands write."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from bench_files import judgebench

from tiebreak.engine import progress

pytestmark = pytest.mark.slow
SCHEMAS = Path(__file__).resolve().parents[1] / "docs" / "reference" / "schemas"


def assert_valid(name: str, found: Any) -> None:
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    problems = [
        f"{list(error.instance_path)}: {error.message}"
        for error in jsonschema_rs.validator_for(schema).iter_errors(found)
    ]
    assert not problems


def test_files_of_a_run(tiny_run: Any) -> None:
    assert_valid("tiebreak", json.loads((tiny_run.model / "tiebreak.json").read_text()))
    manifests = list(tiny_run.folder.glob("run/artifacts/*/*/manifest.json"))
    assert manifests
    for path in manifests:
        assert_valid("manifest", json.loads(path.read_text()))
    (metrics,) = tiny_run.folder.glob("run/artifacts/evaluate/*/metrics.json")
    assert_valid("metrics", json.loads(metrics.read_text()))


def test_progress(tmp_path: Path) -> None:
    report = progress.Reporter(tmp_path, lambda line: None, 1)
    report("training", 3, 20, "steps", loss=1.0)
    assert_valid("progress", json.loads((tmp_path / "progress.json").read_text()))


@pytest.mark.parametrize(
    ("schema", "arguments"),
    [
        ("status", ("status", "{run}")),
        ("card", ("check", "{votes}")),
        ("card", ("check", "{run}")),
        ("audit", ("audit", "{run}", "{votes}", "--samples", "20")),
        ("audit", ("audit", "{run}", "{votes}", "--samples", "20", "--family", "a,b")),
        ("comparison", ("compare", "{run}", "{votes}")),
        ("comparison", ("compare", "{run}", "{votes}", "--votes", "{votes}")),
        ("bench", ("bench", "{run}", "{run}", "--suite", "{suite}")),
    ],
)
def test_outputs_of_commands(
    tiebreak: Callable[..., tuple[int, str, str]],
    tiny_run: Any,
    tmp_path: Path,
    schema: str,
    arguments: tuple[str, ...],
) -> None:
    items = [("livecodebench", f"x{n}" + "!" * (n % 3), "y!", "A>B") for n in range(40)]
    places = {
        "run": tiny_run.folder,
        "votes": tiny_run.folder / "data" / "votes.parquet",
        "suite": judgebench(tmp_path / "suite", items) if schema == "bench" else "",
    }
    code, out, err = tiebreak(*(part.format(**places) for part in arguments), "--json")
    assert code == 0, err
    assert_valid(schema, json.loads(out))


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda path: path.name)
def test_a_schema_refuses_what_is_not_its_own(path: Path) -> None:
    validator = jsonschema_rs.validator_for(json.loads(path.read_text()))
    assert not validator.is_valid({"nothing": "of the kind"})
