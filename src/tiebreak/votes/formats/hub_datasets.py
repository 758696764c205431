"""Data sets of the Hugging Face hub in place of a file: hub:OWNER/NAME, with @REVISION and :SPLIT.

Rows are streamed through the `datasets` library, an extra: pip install 'tiebreak[hub]'.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiebreak.errors import TiebreakError

_LOCATION = re.compile(r"(?:^|/)hub:([\w.-]+/[\w.-]+)(?:@([\w.-]+))?(?::([\w.-]+))?$")


@dataclass(frozen=True)
class HubDataset:
    """A split of a data set at a revision."""

    name: str
    revision: str | None
    split: str

    def at(self, commit: str) -> Path:
        """The path that names it at a commit."""
        return Path(f"hub:{self.name}@{commit}:{self.split}")


def parse_location(path: Path) -> HubDataset | None:
    """The data set that a path names, whatever folder the path is relative to; None if it names a file."""
    match = _LOCATION.search(path.as_posix())
    return match and HubDataset(match[1], match[2], match[3] or "train")


def records(source: HubDataset, columns: Collection[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Stream rows, numbered from 1, with those of the columns that are there.

    Raises TiebreakError if the library is missing or the data set cannot be read.
    """
    try:
        import datasets  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise TiebreakError("hub: needs the `datasets` library: pip install 'tiebreak[hub]'") from None
    import httpx

    try:
        rows = datasets.load_dataset(
            source.name, split=source.split, revision=source.revision, streaming=True
        )
        if wanted := [name for name in rows.column_names or () if name in columns]:
            rows = rows.select_columns(wanted)
        yield from enumerate(rows, 1)
    except (OSError, ValueError, RuntimeError, httpx.HTTPError) as error:
        raise TiebreakError(
            f"cannot read {source.name}, split {source.split}, from the hub: {error}"
        ) from None
