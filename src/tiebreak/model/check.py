"""Before kernels and compiled layers are trusted: do they say what plain attention says, on this very card?

A user whose driver, compiler or card they do not suit gets the plain path and one warning.
"""

import logging

import numpy as np
import torch
from torch import Tensor

from tiebreak import distributed
from tiebreak.data.packing import Document, Packed, pack, shape
from tiebreak.errors import TiebreakError
from tiebreak.model import gpu
from tiebreak.model.classifier import Classifier
from tiebreak.model.lora import HEAD
from tiebreak.model.stack import stacks

log = logging.getLogger(__name__)

TOLERANCE, TOLERANCE_FP8 = 0.1, 0.5
"""Largest difference, relative in the Euclidean norm, of logits and of gradients.

After 42 and 80 layers of random weights, two ways that round differently are 0.05 apart at most in bf16 and 0.25 in
FP8 (on a CPU). Documents that see their neighbours are off by 0.76 in logits and 1.0 in gradients.
"""
LENGTHS = (300, 170, 129, 40, 5)


def check(classifier: Classifier, budget: int, training: bool) -> None:
    """Once a classifier: compare logits, and for a training gradients, on a few short documents.

    Where the kernels raise or differ by more than the tolerance, `classifier.fixed` becomes false.
    """
    if not classifier.fixed or classifier.checked:
        return
    classifier.checked = True
    why = _disagreement(classifier, budget, training)
    if distributed.most(why != "")[0]:  # all or none: processes go through the same batches
        log.warning("the GPU kernels %s; going on without them, which is slower", why or "failed elsewhere")
        classifier.fixed = False
        gpu.uncompile_layers(classifier.model)


def _disagreement(classifier: Classifier, budget: int, training: bool) -> str:
    """What the kernels do wrong; nothing if they are right."""
    documents = list(_documents(classifier.model.config.get_text_config().vocab_size))
    tokens = shape(sum(map(len, documents)), max(budget, sum(LENGTHS)))
    try:
        fast = _outcome(classifier, pack(documents, tokens), training)
    except (torch.cuda.OutOfMemoryError, TiebreakError):
        raise
    except Exception as error:  # a compiler may raise anything
        classifier.model.zero_grad(set_to_none=True)
        return f"raise {type(error).__name__}: {next(iter(str(error).splitlines()), '')[:200]}"
    classifier.fixed = False
    with torch.compiler.set_stance("force_eager"):
        plain = _outcome(classifier, pack(documents), training)
    classifier.fixed = True
    tolerance = TOLERANCE_FP8 if any(s.kind == "fp8" for s in stacks(classifier.model)) else TOLERANCE
    differences = [_relative(ours, theirs) for ours, theirs in zip(fast, plain, strict=True)]
    difference = float(torch.tensor(differences).max())  # NaN if any is, unlike Python's max
    if difference <= tolerance:
        return ""
    return f"differ from plain attention by {difference:.2g} (at most {tolerance})"


def _documents(vocabulary: int) -> list[Document]:
    """Short documents; the second begins as the first does, as a vote's other order would."""
    generator = np.random.default_rng(0)
    documents = [generator.integers(0, vocabulary, length).astype(np.int32) for length in LENGTHS]
    documents[1][:100] = documents[0][:100]
    return documents


def _outcome(classifier: Classifier, packed: Packed, training: bool) -> list[Tensor]:
    """Logits, and in a training the adapters' gradients as one vector."""
    torch.manual_seed(0)  # the same dropout in both ways
    with torch.set_grad_enabled(training):
        z_DC = classifier.logits(packed.to(classifier.device))
    outcome = [z_DC.detach()]
    if training:
        _backward((z_DC * torch.linspace(-1, 1, z_DC.numel(), device=z_DC.device).view_as(z_DC)).sum())
        learning = classifier.trainable().items()
        gradients = [p.grad.flatten() for name, p in learning if p.grad is not None and name != HEAD]
        outcome.append(torch.cat(gradients))
        classifier.model.zero_grad(set_to_none=True)
    return outcome


def _backward(total: Tensor) -> None:
    """Raises TiebreakError where weights are spread: after a backward that raised, FSDP2 no longer frees them."""
    try:
        total.backward()  # type: ignore[no-untyped-call]
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:
        if not distributed.shards():
            raise
        raise TiebreakError(
            f"the GPU kernels raise {type(error).__name__} in a backward, after which weights that are spread over "
            "processes cannot go on; take another card, or a precision in which one holds the model, with "
            "--set compute.shard_model=false"
        ) from error


def _relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())
