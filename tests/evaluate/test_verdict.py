import numpy as np
import pytest

from tiebreak.evaluate.bias import slice_metrics
from tiebreak.evaluate.variants import LabelledVotes
from tiebreak.evaluate.verdict import Verdict, build_verdict
from tiebreak.stats.metrics import Bootstrap, log_loss, prior_prediction

PRIOR = np.array([0.4, 0.35, 0.25])


def world(votes: int, seed: int = 0) -> tuple[np.ndarray, LabelledVotes]:
    """True probabilities and votes drawn from them, each on its own prompt."""
    random = np.random.default_rng(seed)
    true = random.dirichlet(8 * PRIOR, size=votes)
    y = (random.random(votes)[:, None] > true.cumsum(axis=1)[:, :2]).sum(axis=1)
    return true, LabelledVotes([str(n) for n in range(votes)], np.eye(3)[y], np.arange(votes))


def judged(
    p: np.ndarray, truth: LabelledVotes, baseline: tuple[np.ndarray, ...] = (), **parts: list
) -> Verdict:
    return build_verdict(p, prior_prediction(PRIOR, len(p)), truth, parts, Bootstrap(200), baseline)


def test_a_judge_of_noise_is_not_to_be_used():
    """Noise about the class shares, as of a judge trained on 1,000 votes."""
    _, truth = world(200)
    noise = prior_prediction(PRIOR, 200) * np.exp(np.random.default_rng(1).normal(scale=0.05, size=(200, 3)))
    noise /= noise.sum(axis=1, keepdims=True)
    found = judged(noise, truth)
    shares = found.findings[0]
    assert abs(shares.change.value) < 0.01
    assert not found.use
    assert found.headline == "Do not use: not clearly better than the class shares on 200 votes."
    assert shares.holds is None
    assert f"{log_loss(noise, truth.y_NC):.4f}" in shares.text


def test_a_perfect_judge_is_better_and_calibrated():
    true, truth = world(1000)
    found = judged(true, truth)
    assert found.use
    shares, calibration = found.findings
    assert (shares.holds, calibration.holds) == (True, True)
    assert found.headline == "Better than the class shares, no sign of miscalibration on 1000 votes."
    expected = log_loss(true, truth.y_NC) - log_loss(prior_prediction(PRIOR, 1000), truth.y_NC)
    assert shares.change.value == pytest.approx(expected)
    assert f"{shares.resolvable:.4f} would show with 80 % power" in shares.text


def test_an_overconfident_judge_is_named():
    true, truth = world(1000)
    sure = true**3 / (true**3).sum(axis=1, keepdims=True)
    found = judged(sure, truth, (true, true))
    shares, baseline, calibration = found.findings
    assert found.headline.startswith("Do not use: worse than the class shares")
    assert (shares.holds, baseline.holds, calibration.holds) == (False, False, False)
    assert baseline.change.value == pytest.approx(log_loss(sure, truth.y_NC) - log_loss(true, truth.y_NC))
    assert "too sure of itself" in calibration.text
    assert 2 < calibration.test.temperature < 4


def test_the_baseline_is_named_in_the_headline():
    true, truth = world(1000)
    weak = 0.5 * true + 0.5 * PRIOR
    worse = judged(weak, truth, (true,))
    assert "worse than the baseline" in worse.headline
    assert worse.findings[1].text.endswith("Use the baseline, which needs no GPU, or more votes.")
    assert "better than the baseline" in judged(true, truth, (weak,)).headline
    assert "not clearly better than the baseline" in judged(true, truth, (true,)).headline


def test_a_blend_that_is_all_baseline_is_called_so():
    true, truth = world(1000)
    shipped = 0.999 * true + 0.001 * prior_prediction(PRIOR, 1000)
    _, baseline, _ = judged(shipped, truth, (true,)).findings
    assert baseline.holds is None
    gap = f"{np.abs(shipped - true).mean():.4f}"
    assert f"As shipped it hardly differs from it: by {gap} in probability" in baseline.text
    assert baseline.text.endswith("Use the baseline, which needs no GPU, or more votes.")


def test_a_judge_that_is_clearly_better_is_so_however_near_the_baseline():
    true, truth = world(2000)
    worse = true.copy()
    wrong = truth.y_NC[:, 0] == 1
    worse[wrong] = (true[wrong] - [0.004, -0.002, -0.002]).clip(1e-6)
    worse /= worse.sum(axis=1, keepdims=True)
    assert np.abs(true - worse).mean() < 0.002
    _, baseline, _ = judged(true, truth, (worse,)).findings
    assert baseline.holds is True
    assert "hardly differs" not in baseline.text


def test_the_class_shares_themselves_are_not_better_than_they_are():
    _, truth = world(100)
    found = judged(prior_prediction(PRIOR, 100), truth, (prior_prediction(PRIOR, 100),))
    assert found.headline == "Do not use: not clearly better than the class shares on 100 votes."
    assert found.findings[1].text.endswith(
        "not clearly better than the class shares either: more votes are needed."
    )


def test_few_prompts_are_undecided():
    true, truth = world(29)
    found = judged(true, truth)
    assert not found.use
    assert found.headline == "Do not use: too few prompts to tell it from the class shares on 29 votes."
    assert [finding.holds for finding in found.findings] == [None, None]
    assert "fewer than 30 prompts" in found.findings[0].text


def test_the_weakest_slice_is_the_one_that_gains_least():
    true, truth = world(900)
    names = np.repeat(["Latin", "Cyrillic", "Greek"], 300)
    p = np.where((names == "Greek")[:, None], true[:, ::-1], true)
    cut = slice_metrics(names, p, PRIOR, truth, Bootstrap(100))
    found = judged(
        p, truth, script=cut, turns=slice_metrics(np.full(900, "1"), p, PRIOR, truth, Bootstrap(100))
    )
    weakest = found.findings[-1]
    assert (weakest.about, weakest.holds) == ("weakest slice", False)
    assert weakest.text.startswith("Weakest of 3 slices: prompts in script: Greek (300 votes)")
    assert judged(p, truth, script=cut[:1]).findings[-1].about == "calibration", "one slice is no division"
