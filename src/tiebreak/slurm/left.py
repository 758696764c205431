"""Tasks that a limit of the site keeps out of the queue, and the job that submits them when others have ended.

<run_dir>/slurm/left.json has them, until that job takes them on.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel

from tiebreak.output import write_atomically


class Left(BaseModel):
    """Tasks that are left, the flags of sbatch and the retries that they are submitted with, and the job that does it."""

    tasks: list[str]
    options: list[str]
    retries: int
    job: str


def read(folder: Path) -> Left | None:
    path = folder / "left.json"
    return Left.model_validate_json(path.read_bytes()) if path.is_file() else None


def store(folder: Path, tasks: Iterable[str], options: Sequence[str], retries: int, job: str) -> None:
    left = Left(tasks=list(tasks), options=list(options), retries=retries, job=job)
    write_atomically(folder / "left.json", left.model_dump_json(indent=1))


def drop(folder: Path) -> None:
    (folder / "left.json").unlink(missing_ok=True)
