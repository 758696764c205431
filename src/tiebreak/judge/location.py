"""Where a judge is: a folder of this machine, or a model of the Hugging Face hub, OWNER/NAME or OWNER/NAME@REVISION.

Of a model of the hub, tiebreak.json is read and the files whose hashes it records: safetensors, JSON and a tokenizer's
texts. Loading compares them with these hashes, as those of any folder.
"""

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from tiebreak.arguments import checked
from tiebreak.errors import TiebreakError
from tiebreak.judge import package
from tiebreak.model import hub

log = logging.getLogger(__name__)

REPOSITORY = re.compile(r"(?=.{,96}$)[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_WEIGHTS = "model*.safetensors"
_ENDINGS = frozenset(
    ".csv .tsv .json .jsonl .ndjson .parquet .txt .md .html .yaml .yml .gz .zst .bz2 .xz .zip .gguf".split()
)
"""Names that end like files are no models, so that a mistyped one is not asked for."""


@dataclass(frozen=True)
class Located:
    """A model's folder, and of one from the hub where it came from: `hub`, its name there, and `commit`."""

    folder: Path
    origin: dict[str, str] = field(default_factory=dict)

    def recorded(self, shipped: package.Package) -> package.Package:
        """The package with where it came from in its provenance."""
        return shipped.model_copy(update={"provenance": shipped.provenance | self.origin})


def hub_name(location: Path | str) -> tuple[str, str | None] | None:
    """The repository and revision that a location names; None if it is no such name, or something is here under it."""
    repo, _, revision = str(location).partition("@")
    is_name = REPOSITORY.fullmatch(repo) and Path(repo).suffix.lower() not in _ENDINGS
    return (repo, revision or None) if is_name and not Path(location).exists() else None


@checked
def locate(location: Path | str, revision: str | None = None, weights: bool = True) -> Located:
    """The folder of a judge; one of the hub is downloaded unless the local cache has it.

    A folder that is here comes before a model of the hub. The commit that the cache has for a revision comes before the
    hub's current one, and offline nothing else is used (model.hub). weights: of the model, without which all else is
    downloaded. Raises TiebreakError for a revision of a folder, and
    for a model of the hub that is gated, unknown, out of reach, or not one that tiebreak made.
    """
    name = hub_name(location)
    if name is None:
        if revision is not None:
            raise TiebreakError(
                f"revision {revision!r} is of a model of the hub, and {location} is a folder; name the hub's as "
                "OWNER/NAME@REVISION"
            )
        return Located(Path(location))
    repo, named = name
    if revision is not None and named is not None:
        raise TiebreakError(f"{location} names a revision, and {revision!r} is another; give one")
    found = hub.commit(repo, revision or named)
    folder = hub.download_files(repo, found, [package.NAME])
    files = package.read(folder).files
    require_readable(files, repo)
    hub.download_files(repo, found, sorted(name for name in files if weights or not fnmatch(name, _WEIGHTS)))
    log.info("%s: commit %s of the hub", repo, found)
    return Located(folder, {"hub": repo, "commit": found})


def require_readable(files: Collection[str], place: str) -> None:
    """Raise TiebreakError if a package lists no files, or others than a model is read from."""
    if not files:
        raise TiebreakError(f"{place} records no hashes in {package.NAME}: an older tiebreak wrote it")
    if others := [name for name in files if not is_read(name)]:
        raise TiebreakError(f"{place} lists {others[0]!r} in {package.NAME}, which is no file of a model")


def is_read(name: str) -> bool:
    """True for a file that a model is read from, by its name."""
    return any(fnmatch(name, pattern) for pattern in hub.PATTERNS)
