"""Hashes of files, by which damage is known."""

import hashlib
from pathlib import Path

from tiebreak.regular_file import require_regular


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal. Raises TiebreakError for what is no file."""
    require_regular(path, "remove it")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
