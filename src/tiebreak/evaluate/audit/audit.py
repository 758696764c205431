"""The audit of a judge: every figure of it as one plain dict, ready for JSON.

Dimension letters: I pairs, N votes, O orders, C classes (a, b, tie).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiebreak.evaluate import text_features
from tiebreak.evaluate.audit.calibration import calibration
from tiebreak.evaluate.audit.disagreements import disagreements, slip_rate, surprises
from tiebreak.evaluate.audit.people import agreement
from tiebreak.evaluate.audit.self_preference import self_preference
from tiebreak.evaluate.audit.verdict import audit_verdict
from tiebreak.evaluate.bias import advantage_of, bias_report, lead, lead_gaps, mean_estimates
from tiebreak.evaluate.variants import LabelledVotes
from tiebreak.stats.metrics import Array, Bootstrap, prior_prediction
from tiebreak.votes.annotations import Annotations
from tiebreak.votes.schema import swap_answers


@dataclass(frozen=True)
class Judged:
    """People's votes, and a judge's probabilities (I, 3) of their pairs.

    z_IOC: the raw logits in both orders, swap undone; None where only probabilities are known, and position bias is not.
    symmetric: exchanging the answers exchanges the probabilities.
    """

    annotations: Annotations
    p_IC: Array
    z_IOC: Array | None = None
    symmetric: bool = False

    @property
    def votes(self) -> pa.Table:
        """The pair of each vote, in votes.schema.SCHEMA."""
        return self.annotations.pairs.take(self.annotations.pair_N)

    @property
    def probabilities(self) -> Array:
        """The probabilities of each vote's pair."""
        return self.p_IC[self.annotations.pair_N]

    @property
    def truth(self) -> LabelledVotes:
        """Every vote, grouped by prompt."""
        voted = self.annotations
        return LabelledVotes([str(n) for n in range(len(voted))], voted.y_NC, voted.groups[voted.pair_N])


def audit(
    judged: Judged,
    bootstrap: Bootstrap,
    family: Sequence[str] = (),
    shift: dict[str, Any] | None = None,
    seen: int | None = None,
) -> dict[str, Any]:
    """Audit a judge by people's votes.

    family: words in the names of the judge's own models. shift: of audit.shift, if known. seen: how many of the votes are on prompts
    that the judge was trained, calibrated or chosen on, if known.
    """
    votes, p_NC, truth = judged.votes, judged.probabilities, judged.truth
    shares_C = truth.y_NC.mean(axis=0)
    people = agreement(judged.annotations, judged.p_IC, bootstrap)
    among = people["among_people"]
    rate = slip_rate(among and among["alpha"]["value"])
    listed = disagreements(judged.annotations, judged.p_IC, rate)
    z_NOC = p_NC[:, None] if judged.z_IOC is None else judged.z_IOC[judged.annotations.pair_N]
    found: dict[str, Any] = {
        "votes": len(p_NC),
        "pairs": len(judged.p_IC),
        "prompts": len(np.unique(truth.groups_N)),
        "confidence": bootstrap.confidence,
        "agreement": people,
        "calibration": calibration(votes, p_NC, truth, bootstrap),
        "bias": bias_report(votes, p_NC, z_NOC, shares_C, truth, bootstrap)
        | {"people_position": _position_of_people(judged, truth, bootstrap)}
        | {"longer": _longer(votes, p_NC, truth, bootstrap)},
        "self_preference": self_preference(votes, p_NC, truth, family, bootstrap) if family else None,
        "shift": shift,
        "seen": seen,
        "surprises": surprises(p_NC, truth.y_NC, truth.groups_N, bootstrap),
        "slip_rate": rate,
        "disagreements": listed,
    }
    prior_NC = prior_prediction(shares_C, len(p_NC))
    return {"verdict": asdict(audit_verdict(found, p_NC, prior_NC, truth, bootstrap))} | found


def _position_of_people(judged: Judged, truth: LabelledVotes, bootstrap: Bootstrap) -> dict[str, Any]:
    """The lead that people give to the answer shown first, and what of it the judge does not see in the answers.

    first: P(A) - P(B) of the votes. unexplained: that less the judge's, None unless exchanging the answers exchanges its
    probabilities, so that no position is in them.
    """
    swapped_N: NDArray[np.bool_] = judged.annotations.swapped_N
    first_N, judge_N = (lead(swap_answers(x_NC, swapped_N)) for x_NC in (truth.y_NC, judged.probabilities))
    columns = {"first": first_N, "unexplained": first_N - judge_N}
    found = mean_estimates(columns, truth.groups_N, bootstrap)
    return found if judged.symmetric else found | {"unexplained": None}


def _longer(
    votes: pa.Table, p_NC: Array, truth: LabelledVotes, bootstrap: Bootstrap
) -> dict[str, Any] | None:
    """The lead of the longer answer, whatever the difference, as the judge and as people see it; None for few prompts."""
    sign_N = np.sign(advantage_of(*(text_features.lengths(votes[f"response_{side}"]) for side in "ab")))
    names_N = np.where(sign_N != 0, "longer", "")
    leads = sign_N * lead(p_NC), sign_N * lead(truth.y_NC)
    return next(lead_gaps(names_N, *leads, truth.groups_N, bootstrap), None)
