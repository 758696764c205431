"""A judge that loads without torch's compiler, its distributed tensors and scikit-learn, which work when they are called."""

import subprocess
import sys

from tiny_models import base

CODE = """
import sys
from pathlib import Path

import numpy as np
import torch

import tiebreak.judge.judge
from tiebreak.model.classifier import load
from tiebreak.tokens.packing import pack

slow = {"torch._dynamo", "torch.distributed.tensor", "sklearn", "scipy.stats", "scipy.optimize"}
classifier = load(Path(sys.argv[1]))
logits = classifier.logits(pack([np.arange(1, 20, dtype=np.int32)]))
assert not slow & sys.modules.keys(), slow & sys.modules.keys()

from sklearn.metrics import roc_curve
from transformers import masking_utils
from transformers.generation import candidate_generator

truth, scores = np.array([0, 1, 1, 0]), np.array([0.1, 0.9, 0.4, 0.5])
deferred, real = candidate_generator.roc_curve(truth, scores), roc_curve(truth, scores)
assert all(np.array_equal(one, other) for one, other in zip(deferred, real, strict=True))

from torch._dynamo._trace_wrapped_higher_order_op import TransformGetItemToIndex

assert isinstance(masking_utils.TransformGetItemToIndex(), TransformGetItemToIndex)
doubled = torch.compile(lambda x: 2 * x, backend="eager")
assert doubled(torch.ones(2)).tolist() == [2, 2]
assert torch.distributed.is_available()
torch.testing.assert_close(classifier.logits(pack([np.arange(1, 20, dtype=np.int32)])), logits)
print("all of it")
"""


def test_a_judge_loads_without_what_takes_seconds():
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(base("llama"))], capture_output=True, text=True, check=False
    )
    assert done.stdout == "all of it\n", done.stderr
