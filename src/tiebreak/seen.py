"""Provenance of weights: the groups of votes that they were trained or calibrated on, from the artifacts' manifests.

A group is a part of the split by its name: a fold ("fold0"), "calibration", "lockbox", "extra", the pairs without
votes ("unlabelled"), or those of step 1 ("preferences"). A step records the groups that its own training read; the
engine adds those in the records of all its inputs, so that a student has also learned from its teachers' groups.
"""

from collections.abc import Iterable
from pathlib import Path

from tiebreak import json_files
from tiebreak.errors import TiebreakError
from tiebreak.regular_file import require_regular

MANIFEST = "manifest.json"
Groups = frozenset[str]


def learned_from(folders: Iterable[Path]) -> Groups:
    """The groups that the weights in these artifacts have learned from, directly or through their inputs."""
    return _recorded(folders, "learned_from")


def fitted_on(folders: Iterable[Path]) -> Groups:
    """The groups that anything in these artifacts was calibrated, chosen or counted on."""
    return _recorded(folders, "fitted_on")


ASIDE = "set votes aside with --set split.calibration_share=0.1"


def require_unseen(groups: Iterable[str], seen: Groups, what: str, remedy: str = ASIDE) -> None:
    """Raise TiebreakError, with the remedy, if any of the groups that `what` needs has been seen."""
    if overlap := sorted(seen.intersection(groups)):
        raise TiebreakError(
            f"{what} needs votes that have not been seen, and {', '.join(overlap)} have, directly or through "
            f"teachers; {remedy}"
        )


def _recorded(folders: Iterable[Path], kind: str) -> Groups:
    groups: set[str] = set()
    for folder in folders:
        require_regular(folder / MANIFEST, "make it again")
        try:
            groups.update(json_files.loads((folder / MANIFEST).read_bytes())[kind])
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            raise TiebreakError(
                f"{folder} has no record of the votes that it has seen; make it again"
            ) from None
    return frozenset(groups)
