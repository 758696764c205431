"""Errors with messages for users: the problem, the value, the valid options, the command that fixes it."""

from collections.abc import Iterable
from difflib import get_close_matches

from tiebreak import plain


class TiebreakError(Exception):
    """An error that the user can fix. The command line prints it without a traceback and exits with 2.

    Each of its texts is a line, made plain and cut (tiebreak.plain.message), whatever was put into it.
    """

    def __init__(self, *texts: str) -> None:
        super().__init__("\n".join(map(plain.message, texts)))


class DamagedInput(TiebreakError):
    """An artifact that a task reads is not what was written."""


class ProcessDied(TiebreakError):
    """A process of a task died without an error of its own, which may pass: it was killed, often for memory."""


class Interrupted(Exception):
    """The end of a task that was asked to stop and has saved its checkpoint."""


def nearest(word: str, valid: Iterable[str]) -> str:
    """A hint that lists the valid options, the nearest one first: `did you mean 'folds'? Valid: ...`."""
    options = sorted(valid)
    close = get_close_matches(word, options, n=1, cutoff=0.5)
    return (f"did you mean {close[0]!r}? " if close else "") + "Valid: " + ", ".join(options)
