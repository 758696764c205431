"""Verdict on a judge: better than class shares and baseline or not, calibrated or not, and its weakest slice.

Dimension letters: N votes, C classes (a, b, tie).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from tiebreak.evaluate.variants import LabelledVotes
from tiebreak.stats.calibration import TEMPERATURES
from tiebreak.stats.calibration_test import CalibrationTest, calibration_test
from tiebreak.stats.metrics import (
    MIN_GROUPS,
    Array,
    Bootstrap,
    Estimate,
    difference,
    log_loss,
    minimum_detectable,
)

SIGNIFICANT = 0.05
"""Significance level of the calibration test."""

SAME = 0.002
"""Mean difference in probability below which a judge hardly differs from the baseline, as a blend that is all baseline."""

About = Literal[
    "class shares", "baseline", "calibration", "weakest slice",  # of any judge
    "seen", "people", "slices", "position", "length", "self-preference", "shift", "surprises",  # of an audit
]  # fmt: skip

NAMES = {"class shares": "the class shares", "baseline": "the baseline, a model of word counts and features"}
"""Names of the comparisons, within a sentence."""

SLICES = {
    "turns": "prompts of turns: {}",
    "script": "prompts in script: {}",
    "answers": "answers of {}",
    "tags": "votes tagged {}",
}
"""Names of the bias report's slices, by its keys."""


@dataclass(frozen=True)
class Finding:
    """One finding of a verdict, with its sentence.

    holds: True if the judge is better, or calibrated; None if these votes do not decide. change: of log loss from the
    comparison. resolvable: the difference in log loss that these votes would detect with 80 % power.
    """

    about: About
    holds: bool | None
    text: str
    change: Estimate | None = None
    resolvable: float | None = None
    test: CalibrationTest | None = None


@dataclass(frozen=True)
class Verdict:
    """Verdict on a judge. use: it is clearly better than the class shares; if not, the headline is "Do not use"."""

    use: bool
    headline: str
    findings: tuple[Finding, ...]


def build_verdict(
    p_NC: Array,
    prior_NC: Array,
    truth: LabelledVotes,
    slices: Mapping[str, Sequence[Mapping[str, Any]]],
    bootstrap: Bootstrap,
    baseline: Sequence[Array] = (),
) -> Verdict:
    """Build the verdict on predictions for unseen votes.

    prior_NC: the class shares. slices: from `bias.slices_by_kind`. baseline: predictions of the baseline, or of one
    per fold, if any.
    """
    shares = _comparison_finding("class shares", p_NC, [prior_NC], truth, bootstrap)
    baseline_findings = [_baseline_finding(p_NC, baseline, prior_NC, truth, bootstrap)] if baseline else []
    calibration = _calibration_finding(p_NC, truth)
    headline = _headline(shares, baseline_findings, calibration, len(truth.ids))
    return Verdict(
        bool(shares.holds), headline, (shares, *baseline_findings, calibration, *_weakest_slice(slices))
    )


def _comparison_finding(
    about: About, p_NC: Array, others: Sequence[Array], truth: LabelledVotes, bootstrap: Bootstrap
) -> Finding:
    change = difference([p_NC], others, truth.y_NC, bootstrap, truth.groups_N)
    detectable, loss = minimum_detectable(change, bootstrap.confidence), log_loss(p_NC, truth.y_NC)
    against = f"{NAMES[about]}: log loss {loss:.4f} against {loss - change.value:.4f}"
    if detectable is None:
        text = f"Not to be told from {against}; fewer than {MIN_GROUPS} prompts allow no interval."
        return Finding(about, None, text, change)
    holds = _is_below_zero(change)
    verdict = {True: "Better than", False: "Worse than", None: "Not clearly better than"}[holds]
    text = f"{verdict} {against}, {_format_change(change)}. A true difference of {detectable:.4f} would show with 80 % power."
    return Finding(about, holds, text, change, detectable)


def _baseline_finding(
    p_NC: Array, baseline: Sequence[Array], prior_NC: Array, truth: LabelledVotes, bootstrap: Bootstrap
) -> Finding:
    """The comparison with the baseline, with advice where the judge is not clearly better."""
    finding = _comparison_finding("baseline", p_NC, baseline, truth, bootstrap)
    if finding.holds or finding.resolvable is None:
        return finding
    gain = difference(baseline, [prior_NC], truth.y_NC, bootstrap, truth.groups_N)
    gap = max(float(np.abs(p_NC - other_NC).mean()) for other_NC in baseline)
    advice = "Use the baseline, which needs no GPU, or more votes."
    if not _is_below_zero(gain):
        advice = "The baseline is not clearly better than the class shares either: more votes are needed."
    elif finding.holds is None and gap < SAME:
        advice = f"As shipped it hardly differs from it: by {gap:.4f} in probability, on average. {advice}"
    return replace(finding, text=f"{finding.text} {advice}")


def _calibration_finding(p_NC: Array, truth: LabelledVotes) -> Finding:
    test = calibration_test(p_NC, truth.y_NC, truth.groups_N)
    if test.p is None:
        text = f"Calibration is not tested: fewer than {MIN_GROUPS} prompts."
        return Finding("calibration", None, text, test=test)
    if test.p >= SIGNIFICANT:
        text = f"No sign of miscalibration ({_format_p(test.p)})."
        return Finding("calibration", True, text, test=test)
    return Finding("calibration", False, f"Not calibrated ({_format_p(test.p)}): {_cause(test)}.", test=test)


def _cause(test: CalibrationTest) -> str:
    match test.worst:
        case "sharpness" if test.temperature >= TEMPERATURES[1]:
            return "these votes do not follow its probabilities at all"
        case "sharpness":
            sure = "too sure" if test.temperature > 1 else "not sure enough"
            return f"{sure} of itself, a temperature of {test.temperature:.2f} would fit these votes"
        case "ties":
            return f"P(tie) is {test.tie_gap:+.3f} off the share of ties"
        case "sides":
            return f"P(A) - P(B) is {test.lead_gap:+.3f} off that of the votes"


def _weakest_slice(slices: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Finding]:
    """The slice with the least gain over the class shares, among kinds with several slices."""
    known = [(by, row) for by in SLICES if len(slices.get(by, ())) > 1 for row in slices[by]]
    if not known:
        return []
    by, row = max(known, key=lambda item: float(item[1]["change"]["value"]))
    change = Estimate(**row["change"])
    text = (
        f"Weakest of {len(known)} slices: {SLICES[by].format(row['name'])} ({row['rows']} votes), log loss "
        f"{row['log_loss']['value']:.4f}, {_format_change(change)} from the class shares."
    )
    return [Finding("weakest slice", _is_below_zero(change), text, change)]


def _headline(shares: Finding, baseline_findings: Sequence[Finding], calibration: Finding, votes: int) -> str:
    if not shares.holds:
        undecided = (
            "too few prompts to tell it from" if shares.resolvable is None else "not clearly better than"
        )
        reason = "worse than" if shares.holds is False else undecided
        return f"Do not use: {reason} the class shares on {votes} votes."
    parts = ["Better than the class shares"]
    for finding in baseline_findings:
        better = {True: "better than", False: "worse than", None: "not clearly better than"}
        parts.append(f"{better[finding.holds]} the baseline")
    calibrated = {True: "no sign of miscalibration", False: "not calibrated", None: "calibration not tested"}
    return f"{', '.join([*parts, calibrated[calibration.holds]])} on {votes} votes."


def _is_below_zero(change: Estimate) -> bool | None:
    """Sign of a change by its interval; None where that contains 0 or there is none."""
    if change.low is None or change.high is None or change.low <= 0 <= change.high:
        return None
    return change.high < 0


def _format_change(change: Estimate) -> str:
    interval = "" if change.low is None else f" ({change.low:+.4f} to {change.high:+.4f})"
    return f"{change.value:+.4f}{interval}"


def _format_p(value: float) -> str:
    return f"p = {value:.2g}" if value >= 1e-4 else "p < 0.0001"
