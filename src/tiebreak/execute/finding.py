"""What a pre-flight says of one thing."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One line. An error would stop the run, and its text says what mends it."""

    level: Literal["ok", "warning", "error"]
    about: str
    text: str
