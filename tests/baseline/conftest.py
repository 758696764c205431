"""Fixtures: a baseline fitted once, and pairs of unusual texts."""

import numpy as np
import pyarrow as pa
import pytest
from learnable_votes import learnable_votes

from tiebreak.baseline import model
from tiebreak.baseline.model import Baseline
from tiebreak.votes.schema import probabilities, table_of

ODD_TEXTS = (
    ([], [], []),
    (["Hi"], [None], ["Hello"]),
    (["Hi"], ["same"], ["same"]),
    (["\ud800 lone"], ["\udfff\0"], ["ok \ud83d"]),
    (["नमस्ते, क्या हाल है?", None], ["ठीक", ""], ["好的，谢谢。", "다음"]),
    (["1", "2", "3"], ["```x```", "**b**\n# h\n- l\n| t |", "I can't"], ["?", "!", "\n" * 500]),
)


@pytest.fixture(scope="session")
def votes() -> pa.Table:
    return learnable_votes(240)


@pytest.fixture(scope="session")
def odd_votes() -> pa.Table:
    """Unlabelled pairs of unusual texts; Arrow holds no lone surrogates, so texts are cleaned as the readers do."""
    clean = [
        [[t and t.encode("utf-8", "replace").decode() for t in side] for side in vote] for vote in ODD_TEXTS
    ]
    return table_of(
        {"id": str(n), "prompt": p, "response_a": a, "response_b": b} for n, (p, a, b) in enumerate(clean)
    )


@pytest.fixture(scope="session")
def baseline(votes) -> Baseline:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(model.TREES, "max_iter", 20)
        return Baseline().fit(votes, probabilities(votes), np.arange(len(votes)) // 2)
