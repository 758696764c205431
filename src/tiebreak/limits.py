"""Limits of what is read from files, far beyond what any needs, and the one way to raise them all.

A limit is there so that a file that was made to fill the memory, or is damaged, is an error at once.
"""

import os

from tiebreak.errors import TiebreakError

VARIABLE = "TIEBREAK_LIMITS"
RAISE = f"if it is right, {VARIABLE}=10 in the environment takes ten times as much"


def raised(limit: int) -> int:
    """The limit, times what the environment says.

    Raises TiebreakError for a factor that is no whole number from 1 to 1,000,000.
    """
    factor = os.environ.get(VARIABLE) or "1"
    if not (factor.isascii() and factor.isdigit() and len(factor) < 8 and 1 <= int(factor) <= 1_000_000):
        raise TiebreakError(
            f"{VARIABLE} is {factor!r}; it is the whole number by which limits of what is read are multiplied, 1 to 1000000"
        )
    return limit * int(factor)
