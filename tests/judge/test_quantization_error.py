import numpy as np
import pytest
from quantized_models import documents, quantized, stored

from tiebreak.judge import int8
from tiebreak.judge.quantization_error import LogitChange, logit_change
from tiebreak.model import classifier
from tiebreak.tokens.packing import pack

pytestmark = pytest.mark.slow


def test_change_by_hand():
    before = np.array([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
    after = np.array([[0.0, 1.5, 1.0], [3.0, 0.0, 0.0]])
    assert logit_change(before, after) == LogitChange(max=1.0, mean=0.25, flipped=0.5)


def test_rounding_moves_logits_further():
    rows = pack(documents("gemma2", 40, seed=2))

    def logits(loaded: classifier.Classifier) -> np.ndarray:
        return loaded.logits(rows).detach().numpy()

    before = logits(classifier.load(stored("gemma2")))
    gptq, rtn = (
        logit_change(before, logits(int8.load_classifier(quantized("gemma2", method))))
        for method in ("gptq", "rtn")
    )
    assert 0 < gptq.mean < rtn.mean < 0.05 * before.std()
