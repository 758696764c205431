"""Decisions for pairs of answers: a, b or tie, or none where the judge is not certain enough."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tiebreak.errors import TiebreakError
from tiebreak.judge.package import Package
from tiebreak.pages import notebook
from tiebreak.stats.guarantees import CONFIDENCE, Guarantees


@dataclass(frozen=True)
class Decisions:
    """A label for each pair, None where the judge abstains, and the certainty from which it decides."""

    labels: list[str | None]
    certain_from: float

    @property
    def share(self) -> float:
        """The share of the pairs that are decided; NaN of none."""
        return float(np.mean([label is not None for label in self.labels])) if self.labels else float("nan")

    def _repr_html_(self) -> str:
        """How many pairs are decided for what, for a notebook."""
        rows = [(label or "left to people", count) for label, count in Counter(self.labels).most_common()]
        heading = f"{self.share:.0%} of {len(self.labels)} pairs decided, from a certainty of {self.certain_from:.2f}"
        return notebook.fragment(heading, [notebook.Table(("decision", "pairs"), rows)])


def certain_from(package: Package, folder: Path, max_error: float) -> float:
    """The certainty from which a model decides so that its error is below max_error.

    Raises TiebreakError for a max_error not between 0 and 1, a model without counts of unseen votes, and one whose
    unseen votes do not show it.
    """
    if not 0 < max_error < 1:
        raise TiebreakError(f"a maximum error is between 0 and 1, such as 0.2, not {max_error:g}")
    unseen = guarantees(package, folder)
    found = unseen.certain_from(max_error)
    if found is None:
        smallest = unseen.smallest_max_error()
        least = "no bound below 1" if smallest is None else f"{smallest:g} at the least"
        raise TiebreakError(
            f"an error below {max_error:g} is not shown by the {unseen.voters} unseen votes of different prompts that the "
            f"model in {folder} was calibrated on, whatever it leaves undecided. With {CONFIDENCE:.0%} confidence they "
            f"show {least}; more votes, or a larger split.calibration_share, would show less"
        )
    return found


def likely_from(package: Package, folder: Path, coverage: float) -> float:
    """The probability from which a class is in a model's prediction sets.

    Raises TiebreakError for a coverage not between 0 and 1, and a model without counts of unseen votes.
    """
    if not 0 < coverage < 1:
        raise TiebreakError(f"a coverage is between 0 and 1, such as 0.9, not {coverage:g}")
    return guarantees(package, folder).likely_from(coverage)


def guarantees(package: Package, folder: Path) -> Guarantees:
    """A model's counts of unseen voters. Raises TiebreakError if it has none."""
    if package.guarantees is None:
        raise TiebreakError(
            f"the model in {folder} holds no counts of unseen votes, which a bound on its error needs: it is of an older "
            "version, or of a run without a calibration side. Run its recipe again: tiebreak run RECIPE --set "
            "split.calibration_share=0.1"
        )
    return Guarantees.from_json(package.guarantees)
