"""What the shipped judge decides on the lockbox for a few maximum errors, and how often it is wrong there."""

from collections.abc import Iterator
from typing import Any

from tiebreak.evaluate.variants import LabelledVotes
from tiebreak.stats.clustered import share
from tiebreak.stats.guarantees import Guarantees, decide
from tiebreak.stats.metrics import Array

MAX_ERRORS = (0.1, 0.2, 0.3, 0.4, 0.5)


def decided_shares(guarantees: Guarantees, p_NC: Array, lockbox: LabelledVotes) -> Iterator[dict[str, Any]]:
    """For each maximum error the share of lockbox votes decided and the expected error seen among them.

    certain_from is None where the unseen votes do not show the maximum. low and high: a 95 % interval of the error seen
    that takes the votes on one prompt together; None for fewer than 20 prompts. Votes count alike here, prompts in the bound.
    """
    choice_N, certainty_N = decide(p_NC)
    wrong_N = 1 - lockbox.y_NC[range(len(p_NC)), choice_N]
    for max_error in MAX_ERRORS:
        certain_from = guarantees.certain_from(max_error)
        row: dict[str, Any] = {"max_error": max_error, "certain_from": certain_from}
        if certain_from is not None:
            decided_N = certainty_N >= certain_from
            seen = share(wrong_N[decided_N], decided_N[decided_N].astype(float), lockbox.groups_N[decided_N])
            row |= {"decided": float(decided_N.mean()), "error": seen.value if decided_N.any() else None}
            row |= {"low": seen.low, "high": seen.high} if seen.has_interval else {"low": None, "high": None}
        yield row
