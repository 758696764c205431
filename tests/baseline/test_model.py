import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from tiny_models import swapped

from tiebreak.baseline import model
from tiebreak.baseline.inputs import Inputs
from tiebreak.baseline.model import PARTS, Baseline
from tiebreak.errors import TiebreakError
from tiebreak.stats.metrics import log_loss, prior_prediction
from tiebreak.votes.schema import probabilities, swap_answers

pytestmark = pytest.mark.slow


def test_it_learns_what_the_votes_show(votes, baseline) -> None:
    y = probabilities(votes)
    prior = log_loss(prior_prediction(y.mean(axis=0), len(y)), y)
    assert log_loss(baseline.out_of_fold_, y) < prior - 0.2


def test_swapping_the_answers_swaps_the_probabilities_to_the_last_bit(votes, odd_votes, baseline) -> None:
    for table in (votes, odd_votes):
        assert np.array_equal(
            baseline.predict_proba(swapped(table)), swap_answers(baseline.predict_proba(table))
        )


def test_equal_answers_are_equally_likely(baseline, votes) -> None:
    same = votes.set_column(votes.schema.names.index("response_b"), "response_b", votes["response_a"])
    p = baseline.predict_proba(same)
    assert np.array_equal(p[:, 0], p[:, 1])


def test_a_prediction_does_not_depend_on_other_rows(baseline, votes, odd_votes) -> None:
    for table in (votes.slice(0, 12), odd_votes):
        alone = [baseline.predict_proba(table.slice(n, 1))[0] for n in range(len(table))]
        assert np.array_equal(alone, baseline.predict_proba(table))


def test_no_votes_have_no_probabilities(baseline, votes) -> None:
    assert baseline.predict_proba(votes.slice(0, 0)).shape == (0, 3)


def fixed_blend(blend: model.LogBlend, x_NMC: np.ndarray, _: object) -> model.LogBlend:
    blend.weights_ = np.full(x_NMC.shape[1], 1 / 3)
    return blend


def test_out_of_fold_predictions_do_not_depend_on_own_labels(votes, baseline, monkeypatch) -> None:
    """Changed labels of one prompt change the out-of-fold predictions of others, but not its own."""
    monkeypatch.setitem(model.TREES, "max_iter", 5)
    monkeypatch.setattr(model.LogBlend, "fit", fixed_blend)  # its weights are fitted on all labels
    y = probabilities(votes)
    groups = np.arange(len(votes)) // 2
    before = Baseline().fit(votes, y, groups)
    y[:2] = swap_answers(y[:2])
    after = Baseline().fit(votes, y, groups)
    assert np.array_equal(after.out_of_fold_[:2], before.out_of_fold_[:2])
    assert not np.array_equal(after.out_of_fold_[2:], before.out_of_fold_[2:])


@pytest.mark.parametrize("kinds", [[2], [0, 2], [0]])
def test_classes_that_do_not_occur_are_unlikely_and_no_error(votes, kinds, monkeypatch) -> None:
    monkeypatch.setitem(model.TREES, "max_iter", 5)
    y = np.eye(3)[np.random.default_rng(0).choice(kinds, size=100)]
    found = Baseline().fit(votes.slice(0, 100), y, np.arange(100)).predict_proba(votes.slice(0, 100))
    assert np.isfinite(found).all()
    assert found[:, 2].mean() > 0.3 if 2 in kinds else found[:, 2].mean() < 0.2


def test_weights_and_soft_labels_count(votes, monkeypatch) -> None:
    """A vote of weight 0 has no effect on what is fitted to labels."""
    monkeypatch.setitem(model.TREES, "max_iter", 5)
    y, seen = probabilities(votes) * 0.8 + 0.2 / 3, Inputs.of(votes)
    weights = np.r_[np.zeros(40), np.full(200, 0.5)]
    prior = model.Parts.fit(seen, y, weights).prior_C
    expected = weights @ y + 1
    np.testing.assert_allclose(prior, (expected + swap_answers(expected)) / (2 * expected.sum()))
    other = np.where(weights[:, None] == 0, swap_answers(y), y)
    with_these, with_others = (model.Parts.fit(seen, labels, weights).predict(seen) for labels in (y, other))
    np.testing.assert_allclose(with_these, with_others, atol=1e-12)


def test_one_prompt_is_too_few(votes) -> None:
    with pytest.raises(TiebreakError, match=r"two prompts or more.*baseline.enabled=false"):
        Baseline().fit(votes, probabilities(votes), np.zeros(len(votes), dtype=int))


def test_two_fits_are_the_same(votes, monkeypatch) -> None:
    monkeypatch.setitem(model.TREES, "max_iter", 5)
    fits = [Baseline().fit(votes, probabilities(votes), np.arange(len(votes))) for _ in range(2)]
    assert np.array_equal(*(fit.predict_proba(votes) for fit in fits))


def test_it_is_imported_without_torch() -> None:
    code = "import sys, json, tiebreak.baseline.files; print(json.dumps('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False


def test_weights_name_the_parts(baseline) -> None:
    assert list(baseline.weights()) == [f"weight_{part}" for part in PARTS]


def test_on_real_votes_it_beats_the_class_shares(shared_data) -> None:
    from tiebreak.votes.formats.readers import read_all
    from tiebreak.votes.near_duplicates import prompt_groups

    votes: pa.Table = read_all([shared_data / "pairs" / "pandalm_human.parquet"])[0].slice(0, 900)
    y, groups = probabilities(votes), prompt_groups(votes)
    found = Baseline().fit(votes, y, groups).out_of_fold_
    assert log_loss(found, y) < log_loss(prior_prediction(y.mean(axis=0), len(y)), y) - 0.03
