"""Errors meant for people: what was wrong, the value, the valid options, the command that fixes it."""

from collections.abc import Iterable
from difflib import get_close_matches


class TiebreakError(Exception):
    """Something the user can fix. The command line prints it without a traceback and exits with 2."""


class Interrupted(Exception):
    """A task was asked to stop and has saved what it needs to go on."""


def nearest(word: str, valid: Iterable[str]) -> str:
    """A hint that lists the valid options, the nearest one first: `did you mean 'folds'? Valid: ...`."""
    options = sorted(valid)
    close = get_close_matches(word, options, n=1, cutoff=0.5)
    return (f"did you mean {close[0]!r}? " if close else "") + "Valid: " + ", ".join(options)
