"""Golden outputs of every step on a frozen tiny run, and which step's VERSION has to rise where they changed.

    make golden

A key holds a step's VERSION, its settings and its inputs' keys, but none of the code that steps share (template, packing,
near-duplicates). So each output of the demo on 300 votes has a fingerprint here: a digest of what is exact, and of numbers
their count, mean, root mean square and projection on a fixed vector, alike on any CPU but for rounding. Reports and model cards
are told by the figures they are made from.
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from forked import Tiebreak
from numpy.typing import NDArray
from safetensors import safe_open

from tiebreak.engine.workspace import Workspace

FILE = Path(__file__).with_suffix(".json")
TOLERANCE = 1e-3
"""Of a difference, relative to the root mean square: a hundred times what AVX2 instead of AVX-512 does to a training."""

Fingerprint = dict[str, Any]
"""Of an artifact: `version` of its step, `upstream` tasks, and a fingerprint of each part of each file."""


def fingerprints(recipe: Path) -> dict[str, Fingerprint]:
    """Those of the inputs and of every task's artifact of a finished run, in topological order."""
    work = Workspace(recipe)
    votes = sorted((recipe.parent / "data").glob("*.parquet"))
    found: dict[str, Fingerprint] = {
        "inputs": {"version": 0, "upstream": [], "files": file_fingerprints(votes)}
    }
    for task in work.tasks:
        folder = work.folder(task)
        files = [path for path in sorted(folder.rglob("*")) if path.name != "manifest.json"]
        upstream = [item.id for item in task.upstream()] or ["inputs"]
        found[task.id] = {
            "version": task.step.version,
            "upstream": upstream,
            "files": file_fingerprints(files),
        }
    return found


def changed(golden: Mapping[str, Fingerprint], now: Mapping[str, Fingerprint]) -> list[str]:
    """The tasks whose outputs differ, or that are new or gone."""
    return [
        task
        for task in dict.fromkeys((*golden, *now))
        if task not in golden or task not in now or not same(golden[task]["files"], now[task]["files"])
    ]


def unversioned(golden: Mapping[str, Fingerprint], now: Mapping[str, Fingerprint]) -> list[str]:
    """Steps whose VERSION has to rise: an output differs, although VERSION and all that the task read do not."""
    differ = changed(golden, now)
    raised = [task for task in now if task in golden and now[task]["version"] != golden[task]["version"]]
    return sorted(
        {
            task.partition("/")[0]
            for task in differ
            if task in golden and task in now and task != "inputs" and task not in raised
            if not {*differ, *raised} & {*now[task]["upstream"]}
        }
    )


def file_fingerprints(paths: Iterable[Path]) -> dict[str, Any]:
    readers = {".parquet": _table, ".safetensors": _tensors, ".json": _json}
    return {
        path.name: dict(readers[path.suffix](path))
        for path in paths
        if path.suffix in readers and path.is_file()
    }


def _table(path: Path) -> Iterator[tuple[str, Any]]:
    table = pq.read_table(path)
    for name, column in zip(table.column_names, table.columns, strict=True):
        exact = not pa.types.is_floating(column.type)
        yield name, _digest(column.to_pylist()) if exact else _summary(column.to_numpy())


def _tensors(path: Path) -> Iterator[tuple[str, Any]]:
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    yield "tensors", _digest([(name, str(t.dtype), list(t.shape)) for name, t in tensors.items()])
    yield "values", _summary(np.concatenate([t.double().numpy().ravel() for t in tensors.values()]))


def _json(path: Path) -> Iterator[tuple[str, Any]]:
    leaves = dict(_leaves(json.loads(path.read_text("utf-8"))))
    yield "keys", _digest(sorted(leaves))
    yield "values", _summary(np.array([v for v in leaves.values() if isinstance(v, int | float)]))


def _leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    else:
        yield prefix, tree
    for name, item in items:
        yield from _leaves(item, f"{prefix}.{name}")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()[:16]


def _summary(values: NDArray[Any]) -> list[float]:
    """Count, mean, root mean square, and the projection on a fixed vector over the square root of the count."""
    x = np.nan_to_num(values.astype(np.float64).ravel())
    if not len(x):
        return [0.0] * 4
    projection = x @ np.cos(np.arange(len(x)) ** 2) / np.sqrt(len(x))
    return [float(f"{v:.6g}") for v in (len(x), x.mean(), np.sqrt(np.mean(x**2)), projection)]


def same(golden: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return golden.keys() == now.keys() and all(
        golden[file].keys() == now[file].keys()
        and all(_alike(golden[file][part], now[file][part]) for part in golden[file])
        for file in golden
    )


def _alike(golden: str | Sequence[float], now: str | Sequence[float]) -> bool:
    if isinstance(golden, str) or isinstance(now, str):
        return golden == now
    return golden[0] == now[0] and bool(np.allclose(golden, now, rtol=0, atol=TOLERANCE * golden[2]))


def main() -> int:
    """Renew the golden file, unless a step's VERSION has to rise first."""
    with TemporaryDirectory() as folder:
        Tiebreak("demo", Path(folder) / "demo", "--votes", "300").finish()
        now = fingerprints(Path(folder) / "demo" / "recipe.yaml")
    golden = json.loads(FILE.read_text("utf-8")) if FILE.is_file() else {}
    if steps := unversioned(golden, now):
        print(advice(steps, changed(golden, now)), file=sys.stderr)
        return 2
    differ = changed(golden, now)
    if differ or golden != now:
        FILE.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    print(f"renewed {', '.join(differ)}" if differ else "nothing changed but rounding or versions")
    return 0


def advice(steps: Sequence[str], differ: Sequence[str] = ()) -> str:
    """What to do about steps that `unversioned` names. Of later steps, whose inputs changed too, it cannot tell."""
    files = ", ".join(f"src/tiebreak/pipeline/steps/{step}.py" for step in steps)
    later = dict.fromkeys(step for task in differ if (step := task.partition("/")[0]) not in steps)
    also = f"; and of {', '.join(later)} if what you changed is theirs too (a template, say)" if later else ""
    return f"other output for the same settings: raise VERSION in {files}{also}; then: make golden"


if __name__ == "__main__":
    sys.exit(main())
