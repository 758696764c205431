import numpy as np
from quantized import GROUP, documents, stored

from tiebreak.data.packing import pack
from tiebreak.quantize.quality import Change, logit_change, logits_by_method


def test_change_by_hand():
    before = np.array([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
    after = np.array([[0.0, 1.5, 1.0], [3.0, 0.0, 0.0]])
    assert logit_change(before, after) == Change(max=1.0, mean=0.25, flipped=0.5)


def test_rounding_moves_logits_further(tmp_path):
    rows = documents("gemma2", 40, seed=2)
    logits = logits_by_method(
        stored("gemma2"),
        tmp_path,
        documents("gemma2", 20),
        lambda c: c.logits(pack(rows)).detach().numpy(),
        GROUP,
    )
    assert list(logits) == ["stored", "gptq", "rtn"]
    gptq, rtn = (logit_change(logits["stored"], logits[method]) for method in ("gptq", "rtn"))
    assert 0 < gptq.mean < rtn.mean < 0.05 * logits["stored"].std()
