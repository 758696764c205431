"""Verdict of an audit, in sentences: whether to use the judge, and what to know of it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tiebreak.evaluate.variants import LabelledVotes
from tiebreak.evaluate.verdict import SIGNIFICANT, Finding, Verdict, build_verdict
from tiebreak.stats.metrics import MIN_GROUPS, Array, Bootstrap, Estimate

KINDS = {
    "turns": "prompts of turns: {}",
    "script": "prompts in script: {}",
    "answers": "answers of {}",
    "tags": "votes tagged {}",
    "model pair": "answers of {}",
}
"""Names of slices within a sentence, by what votes are sliced by."""

MOST_FLIPS = 0.25
"""The share of choices that may change with the order: half of what tossing a coin would change."""


def audit_verdict(
    found: Mapping[str, Any], p_NC: Array, prior_NC: Array, truth: LabelledVotes, bootstrap: Bootstrap
) -> Verdict:
    """The verdict on an audit's figures, with that on the probabilities (n, 3) against the class shares in it."""
    scored = build_verdict(p_NC, prior_NC, truth, found["bias"], bootstrap)
    people = _people(found["agreement"])
    findings = (*_seen(found), people, *scored.findings, *_others(found))
    if not scored.use or people.holds is None:
        return replace(scored, findings=findings)
    more = "more" if people.holds else "less"
    headline = (
        f"{scored.headline.removesuffix('.')}; it predicts people's votes {more} often than other people do."
    )
    return replace(scored, headline=headline, findings=findings)


def _seen(found: Mapping[str, Any]) -> Iterator[Finding]:
    """Votes that the judge knows, where there are any."""
    if found["seen"]:
        text = (
            f"{found['seen']} of these {found['votes']} votes are on prompts that the judge was trained, calibrated or chosen on: figures "
            "on them are too good. Those on votes that it has not seen are in its run's report."
        )
        yield Finding("seen", False, text)


def _people(agreement: Mapping[str, Any]) -> Finding:
    """How well the judge predicts one person's vote, beside how well another person does."""
    left_out, judge = agreement["leave_one_out"], agreement["with_judge"]
    if judge is None:
        text = "Agreement is not known: no vote has one clear answer, all are shares of several people."
        return Finding("people", None, text)
    if left_out is None:
        text = (
            f"Agrees with {_share(judge['agreement'])} of people's votes, Cohen's kappa {_number(judge['kappa'])}. Nobody's vote can "
            "be compared with another's: no pair has votes of two people."
        )
        return Finding("people", None, text)
    difference = Estimate(**left_out["less_person"])
    text = (
        f"Predicts {_share(left_out['judge'])} of votes where another person's vote on the same pair predicts "
        f"{_share(left_out['person'])}, and the majority of the others {_share(left_out['majority'])}: "
        f"{_points(difference)} from one person. Among people alpha is {_number(agreement['among_people']['alpha'])}."
    )
    return Finding("people", _sign(difference), text, difference)


def _others(found: Mapping[str, Any]) -> Iterator[Finding]:
    yield from _slices(found["calibration"]["slices"])
    yield from _position(found["bias"])
    yield from _length(found["bias"]["longer"])
    yield from _self_preference(found["self_preference"])
    yield from _shift(found["shift"])
    yield _surprises(found)


def _slices(slices: list[Mapping[str, Any]]) -> Iterator[Finding]:
    tested = [row for row in slices if row["p_adjusted"] is not None]
    if len(tested) < 2:
        return
    failed = sorted(
        (row for row in tested if row["p_adjusted"] < SIGNIFICANT), key=lambda row: float(row["p"])
    )
    if not failed:
        yield Finding(
            "slices", True, f"No sign of miscalibration in any of {len(tested)} slices (Holm's correction)."
        )
        return
    worst = failed[0]
    text = (
        f"Not calibrated in {len(failed)} of {len(tested)} slices (Holm's correction), first {KINDS[worst['by']].format(worst['name'])} "
        f"({worst['rows']} votes): confidence less accuracy {_points(Estimate(**worst['overconfidence']))}."
    )
    yield Finding("slices", False, text)


def _position(bias: Mapping[str, Any]) -> Iterator[Finding]:
    judge, people = bias["position"], bias["people_position"]
    of_people = f"People give the answer shown first {_points(Estimate(**people['first']))} of lead"
    if people["unexplained"]:
        of_people += f", {_points(Estimate(**people['unexplained']))} more than the judge sees in the answers"
    if judge is None:
        yield Finding("position", None, f"{of_people}. The judge's own position bias is not known.")
        return
    first = Estimate(**judge["first_advantage"])
    sign = _sign(first)
    text = (
        f"In one order the judge gives the answer shown first {_points(first)} of lead, and changes its choice in "
        f"{_share(judge['flips'])} of votes when they are exchanged. {of_people}."
    )
    if judge["flips"]["value"] > MOST_FLIPS:
        yield Finding("position", False, text)
    else:
        yield Finding("position", None if first.low is None else sign is None, text)


def _length(longer: Mapping[str, Any] | None) -> Iterator[Finding]:
    if longer is None:
        return
    gap = Estimate(**longer["gap"])
    text = (
        f"The longer answer leads by {_points(Estimate(**longer['predicted']))} with the judge and {_points(Estimate(**longer['observed']))} "
        f"with people: a gap of {_points(gap)}."
    )
    yield Finding("length", None if gap.low is None else _sign(gap) is None, text)


def _self_preference(found: Mapping[str, Any] | None) -> Iterator[Finding]:
    if found is None:
        return
    family = "/".join(found["family"])
    if found["lead"] is None:
        what = f"{found['rows']} votes have" if found["models"] else "no votes have"
        text = f"Self-preference is not tested: {what} a model named {family} on one side; {MIN_GROUPS} prompts are needed."
        yield Finding("self-preference", None, text)
        return
    row = found["lead"]
    gap = Estimate(**row["gap"])
    text = (
        f"Models named {family} lead others by {_points(Estimate(**row['predicted']))} with the judge and "
        f"{_points(Estimate(**row['observed']))} with people ({row['rows']} votes): an excess of {_points(gap)}."
    )
    holds = None if gap.low is None else gap.low <= 0
    yield Finding("self-preference", holds, text)


def _shift(found: Mapping[str, Any] | None) -> Iterator[Finding]:
    if found is None:
        text = "Whether these votes look like those it was trained on is not known: the model keeps no summary of them."
        yield Finding("shift", None, text)
        return
    text = (
        f"{_share(found['unusual'])} of the votes are on pairs that look less usual than {100 * found['beyond']:.0f} % of the "
        f"training votes did; without a shift {100 - 100 * found['beyond']:.0f} % would be."
    )
    if found["change"]:
        text += f" Log loss on them is {found['change']['value']:+.4f} from that on the others{_interval(found['change'], '+.4f')}."
    yield Finding("shift", found["holds"], text)


def _surprises(found: Mapping[str, Any]) -> Finding:
    row = found["surprises"][0]
    excess = Estimate(**row["excess"])
    text = (
        f"{_share(row['seen'])} of votes had a probability of {100 * row['up_to']:.0f} % or less, {100 * row['expected']:.1f} % would if the "
        f"probabilities were right. {len(found['disagreements'])} pairs are listed where people choose otherwise."
    )
    return Finding("surprises", None if excess.low is None else excess.low <= 0, text)


def _sign(change: Estimate) -> bool | None:
    """True above 0 by its interval, False below; None where that contains 0 or there is none."""
    if change.low is None or change.high is None or change.low <= 0 <= change.high:
        return None
    return change.low > 0


def _share(estimate: Mapping[str, float | None]) -> str:
    """A share in per cent with its interval."""
    interval = (
        "" if estimate["low"] is None else f" ({100 * estimate['low']:.1f} to {100 * estimate['high']:.1f})"  # type: ignore[operator]
    )
    return f"{100 * estimate['value']:.1f} %{interval}"  # type: ignore[operator]


def _points(change: Estimate) -> str:
    """A difference in percentage points with its interval."""
    interval = (
        ""
        if change.low is None or change.high is None
        else f" ({100 * change.low:+.1f} to {100 * change.high:+.1f})"
    )
    return f"{100 * change.value:+.1f} points{interval}"


def _number(estimate: Mapping[str, float | None]) -> str:
    return f"{estimate['value']:.2f}{_interval(estimate, '.2f')}"


def _interval(estimate: Mapping[str, float | None], form: str) -> str:
    return "" if estimate["low"] is None else f" ({estimate['low']:{form}} to {estimate['high']:{form}})"
