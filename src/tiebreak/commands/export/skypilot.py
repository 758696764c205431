"""Export of a run as a SkyPilot task: one machine of a cloud, which runs the whole recipe."""

import shlex
from pathlib import Path

import yaml

from tiebreak import __version__
from tiebreak.engine.workspace import Workspace
from tiebreak.output import write_atomically

_PLACE = "~/judge"
_BUCKET = "/artifacts"
_DISK_GB = 500


def export(work: Workspace, path: Path, card: str, spot: bool, bucket: str | None = None) -> Path:
    """Write the task. card: as SkyPilot names it, such as H100. bucket: where artifacts outlive the machine, such as s3://mine.

    The recipe's folder is copied to the machine, so its files are to lie there. Returns the path.
    """
    run_dir = f"{_BUCKET}/run" if bucket else "run"
    recipe = f"{_PLACE}/{work.path.name}"
    mounts = {_BUCKET: {"source": bucket, "mode": "MOUNT"}} if bucket else {}
    task = {
        "name": work.recipe.name,
        "resources": {
            "accelerators": f"{card}:{work.recipe.compute.processes}",
            "use_spot": spot,
            "disk_size": _DISK_GB,
        },
        "file_mounts": {_PLACE: str(work.root), **mounts},
        "setup": f"pip install {shlex.quote(f'tiebreak[quantize,qlora]=={__version__}')}",
        "run": f"tiebreak run {recipe} --set {shlex.quote(f'run_dir={run_dir}')}",
    }
    write_atomically(path, yaml.safe_dump(task, sort_keys=False))
    return path.resolve()
