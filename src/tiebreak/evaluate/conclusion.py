"""The verdict on a judge: is it better than something simple, are its probabilities true, where is it worst?

Dimension letters: N votes, C classes (a, b, tie).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tiebreak.evaluate.calibrated import CalibrationTest, calibration_test
from tiebreak.evaluate.calibration import TEMPERATURES
from tiebreak.evaluate.ladder import Truth
from tiebreak.evaluate.metrics import MIN_GROUPS, Array, Bootstrap, Estimate, difference, log_loss, resolvable

SIGNIFICANT = 0.05
"""A calibration test's p below this says that probabilities are not calibrated."""

About = Literal["class shares", "baseline", "calibration", "weakest slice"]

NAMES = {"class shares": "the class shares", "baseline": "the baseline, a model of word counts and features"}
"""What a judge is compared with, in a sentence."""

SLICES = {"turns": "prompts of turns: {}", "script": "prompts in script: {}", "answers": "answers of {}"}
"""What slices of the bias report are called, by its keys."""


@dataclass(frozen=True)
class Finding:
    """One sentence of a verdict.

    holds: is it so as one hopes, better or calibrated? None where these votes cannot tell. change: of log loss
    from what the judge is compared with. resolvable: the difference in log loss that these votes would show
    with 80 % power.
    """

    about: About
    holds: bool | None
    text: str
    change: Estimate | None = None
    resolvable: float | None = None
    test: CalibrationTest | None = None


@dataclass(frozen=True)
class Conclusion:
    """use: is the judge clearly better than the class shares? Otherwise the headline says "Do not use"."""

    use: bool
    headline: str
    findings: tuple[Finding, ...]


def conclude(
    p_NC: Array,
    prior_NC: Array,
    truth: Truth,
    slices: Mapping[str, Sequence[Mapping[str, Any]]],
    bootstrap: Bootstrap,
    baseline: Sequence[Array] = (),
) -> Conclusion:
    """Judge predictions by votes that had no part in them.

    prior_NC: the class shares. slices: as `bias.sliced` makes them. baseline: predictions of a simple model, or of
    one a fold, where there is one.
    """
    shares = _compared("class shares", p_NC, [prior_NC], truth, bootstrap)
    simple = [_beside_baseline(p_NC, baseline, prior_NC, truth, bootstrap)] if baseline else []
    calibration = _calibration(p_NC, truth)
    headline = _headline(shares, simple, calibration, len(truth.ids))
    return Conclusion(bool(shares.holds), headline, (shares, *simple, calibration, *_weakest(slices)))


def _compared(
    about: About, p_NC: Array, others: Sequence[Array], truth: Truth, bootstrap: Bootstrap
) -> Finding:
    change = difference([p_NC], others, truth.y_NC, bootstrap, truth.groups_N)
    found, loss = resolvable(change, bootstrap.confidence), log_loss(p_NC, truth.y_NC)
    against = f"{NAMES[about]}: log loss {loss:.4f} against {loss - change.value:.4f}"
    if found is None:
        text = f"Not to be told from {against}; fewer than {MIN_GROUPS} prompts allow no interval."
        return Finding(about, None, text, change)
    holds = _is_below_zero(change)
    verdict = {True: "Better than", False: "Worse than", None: "Not clearly better than"}[holds]
    text = (
        f"{verdict} {against}, {_shown(change)}. A true difference of {found:.4f} would show with 80 % power."
    )
    return Finding(about, holds, text, change, found)


def _beside_baseline(
    p_NC: Array, baseline: Sequence[Array], prior_NC: Array, truth: Truth, bootstrap: Bootstrap
) -> Finding:
    """The comparison with the baseline, and what to do where the judge is not clearly better."""
    finding = _compared("baseline", p_NC, baseline, truth, bootstrap)
    if finding.holds or finding.resolvable is None:
        return finding
    gain = difference(baseline, [prior_NC], truth.y_NC, bootstrap, truth.groups_N)
    advice = "Use the baseline, which needs no GPU, or more votes."
    if not _is_below_zero(gain):
        advice = "The baseline is not clearly better than the class shares either: more votes are needed."
    return replace(finding, text=f"{finding.text} {advice}")


def _calibration(p_NC: Array, truth: Truth) -> Finding:
    test = calibration_test(p_NC, truth.y_NC, truth.groups_N)
    if test.p is None:
        text = f"Calibration is not tested: fewer than {MIN_GROUPS} prompts."
        return Finding("calibration", None, text, test=test)
    if test.p >= SIGNIFICANT:
        text = f"No sign of miscalibration ({_p(test.p)})."
        return Finding("calibration", True, text, test=test)
    return Finding("calibration", False, f"Not calibrated ({_p(test.p)}): {_cause(test)}.", test=test)


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


def _weakest(slices: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Finding]:
    """The slice that gains least over the class shares, among kinds of slices that divide the votes."""
    known = [(by, row) for by in SLICES if len(slices.get(by, ())) > 1 for row in slices[by]]
    if not known:
        return []
    by, row = max(known, key=lambda item: float(item[1]["change"]["value"]))
    change = Estimate(**row["change"])
    text = (
        f"Weakest of {len(known)} slices: {SLICES[by].format(row['name'])} ({row['rows']} votes), log loss "
        f"{row['log_loss']['value']:.4f}, {_shown(change)} from the class shares."
    )
    return [Finding("weakest slice", _is_below_zero(change), text, change)]


def _headline(shares: Finding, simple: Sequence[Finding], calibration: Finding, votes: int) -> str:
    if not shares.holds:
        untold = "too few prompts to tell it from" if shares.resolvable is None else "not clearly better than"
        reason = "worse than" if shares.holds is False else untold
        return f"Do not use: {reason} the class shares on {votes} votes."
    parts = ["Better than the class shares"]
    for finding in simple:
        better = {True: "better than", False: "worse than", None: "not clearly better than"}
        parts.append(f"{better[finding.holds]} the baseline")
    calibrated = {True: "no sign of miscalibration", False: "not calibrated", None: "calibration not tested"}
    return f"{', '.join([*parts, calibrated[calibration.holds]])} on {votes} votes."


def _is_below_zero(change: Estimate) -> bool | None:
    """By its interval; None where that holds 0 or there is none."""
    if change.low is None or change.high is None or change.low <= 0 <= change.high:
        return None
    return change.high < 0


def _shown(change: Estimate) -> str:
    interval = "" if change.low is None else f" ({change.low:+.4f} to {change.high:+.4f})"
    return f"{change.value:+.4f}{interval}"


def _p(value: float) -> str:
    return f"p = {value:.2g}" if value >= 1e-4 else "p < 0.0001"
