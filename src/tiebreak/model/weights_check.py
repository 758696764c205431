"""Check of a loaded model whose family is not verified: packed documents against plain transformers, on its own weights.

`model.self_check` looks at a tiny random model of the same class, before any work. What shows only with a model's own
sizes, layers and weights is seen here: of small models before any work, in fp32, and of all at each load, as they are
held there. A verified family costs nothing.

Dimension letters: D documents, C classes.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tiebreak.model import families
from tiebreak.model.classifier import Classifier, load
from tiebreak.model.fast import elementwise
from tiebreak.tokens.packing import Document, pack

TEXTS = (
    "Why is the sky blue?",
    "Pourquoi le ciel est-il bleu ?",
    "1. Wash the rice. 2. Boil 500 ml of water. 3. Simmer.",
    "Sunlight is scattered by the air, and short waves are scattered more than long ones: that is why the sky looks blue "
    "at noon and red in the evening. def mean(values): return sum(values) / len(values)",
)
"""Three short texts and a long one."""
TOLERANCES = {"fp32": 1e-3, "16 bits": 0.25, "FP8": 1.0}
"""The largest difference allowed of a logit, in its standard deviations over the documents (docs/decisions.md)."""
SMALL = 1 << 30
"""The most bytes of a model's files that are loaded before any work."""


def require_small(folder: Path) -> None:
    """Load a small model of a family that is not verified in fp32 on the CPU, where `require` looks at it."""
    if sum(file.stat().st_size for file in folder.glob("*.safetensors")) <= SMALL:
        load(folder, "fp32")


def require(classifier: Classifier, folder: Path) -> None:
    """Compare a loaded classifier, not yet compiled, with plain transformers, unless its family is verified.

    Raises TiebreakError that says how far it is off, and for which documents.
    """
    config = classifier.model.config.to_dict()
    if families.is_verified(config):
        return
    if why := next(differences(classifier), ""):
        raise families.refusal(str(folder), config.get("model_type"), f"with its own weights, {why}")


@torch.no_grad()
def differences(classifier: Classifier) -> Iterator[str]:
    """What differs between packed documents and plain ones by more than the tolerance."""
    documents = [np.array(classifier.tokenizer(text)["input_ids"], np.int32) for text in TEXTS]
    kind, short = _kind(classifier), documents[:-1]
    got = {  # before the plain ones, since it prepares adapters
        "documents packed together": _packed(classifier, short),
        "short documents before a long one": _packed(classifier, documents),
        "short documents after a long one": _packed(classifier, documents[::-1]).flip(0),
    }
    expected_DC = torch.cat([_plain(classifier, document) for document in documents])
    scale_C = expected_DC.std(dim=0)
    for case, got_DC in got.items():
        off = float(((got_DC - expected_DC[: len(got_DC)]) / scale_C).abs().max())
        if not off < TOLERANCES[kind]:  # nor is NaN
            yield (
                f"for {case} its logits are {off:.2g} standard deviations off plain transformers', "
                f"where rounding in {kind} is below {TOLERANCES[kind]}"
                + " (precision bf16 rounds less)"
                * (kind == "FP8")
            )


def _kind(classifier: Classifier) -> str:
    """What a model computes in."""
    if any(parameter.dtype == elementwise.CODES for parameter in classifier.model.parameters()):
        return "FP8"
    return "fp32" if classifier.model.dtype == torch.float32 else "16 bits"


def _packed(classifier: Classifier, documents: list[Document]) -> Tensor:
    return classifier.logits(pack(documents).to(classifier.device))


def _plain(classifier: Classifier, document: Document) -> Tensor:
    """The logits (1, C) of a document by itself, with transformers' own attention on the same weights."""
    model = classifier.model
    ours = model.config._attn_implementation
    try:
        model.config._attn_implementation = "eager"
        ids = torch.from_numpy(document)[None].long().to(classifier.device)
        last_1X = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, -1]
    finally:
        model.config._attn_implementation = ours
    logits_1C: Tensor = model.score(last_1X.float())
    return logits_1C
