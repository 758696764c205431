import numpy as np
import pyarrow as pa
import pytest

from tiebreak.evaluate.augmentation import tta_tradeoff
from tiebreak.evaluate.variants import LabelledVotes
from tiebreak.judge.logits import mean_over_orders, softmax
from tiebreak.judge.tta import first_order
from tiebreak.stats.metrics import Bootstrap, log_loss
from tiebreak.votes.schema import table_of

N = 90


def votes_and_logits(seed: int, equal: int = 0) -> tuple[pa.Table, np.ndarray]:
    """Votes, the first few with equal answers, and logits in both orders."""
    pairs = (
        {
            "prompt": ["why?"],
            "response_a": [f"{seed} {n}"],
            "response_b": [f"{seed} {n if n < equal else -n}"],
        }
        for n in range(N)
    )
    return table_of(pairs), np.random.default_rng(seed).normal(size=(N, 2, 3))


@pytest.fixture
def truth() -> LabelledVotes:
    return LabelledVotes([str(n) for n in range(N)], np.eye(3)[np.arange(N) % 3], np.arange(N))


def test_tradeoff_equals_a_threshold_set_on_held_out_votes_by_hand(truth):
    (held_votes, held_z), (votes, z) = votes_and_logits(0), votes_and_logits(1, equal=10)
    (found,) = tta_tradeoff((held_votes, held_z), (votes, z), truth, Bootstrap(20), shares=(0.4,))
    top = softmax(held_z[np.arange(N), first_order(held_votes)[0]]).max(axis=1)
    first = softmax(z[np.arange(N), first_order(votes)[0]])
    equal = np.arange(N) < 10
    both = equal | (first.max(axis=1) < np.quantile(top, 0.4))
    p = np.where(both[:, None], mean_over_orders(z), first)
    one = np.where(equal[:, None], mean_over_orders(z), first)
    assert found["share"] == 0.4
    assert found["realised"] == both.mean() != 0.4
    assert found["log_loss"] == pytest.approx(log_loss(p, truth.y_NC))
    assert found["change"]["value"] == pytest.approx(log_loss(p, truth.y_NC) - log_loss(one, truth.y_NC))


def test_the_whole_share_is_both_orders_for_all(truth):
    votes, z = votes_and_logits(1)
    (full,) = tta_tradeoff(votes_and_logits(0), (votes, z), truth, Bootstrap(20), shares=(1.0,))
    assert full["realised"] == 1
    assert full["log_loss"] == pytest.approx(log_loss(mean_over_orders(z), truth.y_NC))
