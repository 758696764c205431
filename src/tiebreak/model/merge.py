"""Merging of an adapter into its base, one layer at a time in fp32, then cast back."""

import json
from pathlib import Path

import torch
from torch import Tensor

from tiebreak.errors import TiebreakError
from tiebreak.model import tokenizer_facts
from tiebreak.model.classifier import Classifier
from tiebreak.model.lora import HEAD, PREFIX
from tiebreak.output import write_atomically
from tiebreak.recipe.models import Lora


@torch.no_grad()
def merge(classifier: Classifier, state: dict[str, Tensor], lora: Lora) -> None:
    """Merge an adapter in place: W <- cast(fp32(W) + alpha / rank B A) for each adapted layer of a plain model.

    The score head is replaced. Raises TiebreakError if the adapter has no score head.
    """
    if PREFIX + HEAD not in state:
        raise TiebreakError("the adapter holds no score head; merge adapters of step 3 or 5, not of step 1")
    parameters = dict(classifier.model.named_parameters())
    for name in (n for n in state if n.endswith("lora_A.weight")):
        weight = parameters[name.removeprefix(PREFIX).replace(".lora_A", "")]
        b, a = state[name.replace("lora_A", "lora_B")], state[name]
        delta = (b.to(weight.device) @ a.to(weight.device)) * (lora.alpha / lora.rank)
        weight.copy_((weight.float() + delta).to(weight.dtype))
    parameters[HEAD].copy_(state[PREFIX + HEAD])
    classifier.head_trained = True


def save(classifier: Classifier, folder: Path) -> None:
    """Write a folder that plain transformers reads as a sequence classifier, with the tokenizer."""
    classifier.model.save_pretrained(folder)
    tokenizer_facts.save(classifier.tokenizer, folder)
    if getattr(classifier.model.config, "attn_logit_softcapping", None):
        prefer_eager(folder)


def prefer_eager(folder: Path) -> None:
    """Make eager attention the folder's default: sdpa in transformers silently ignores Gemma-2's soft-cap."""
    path = folder / "config.json"
    config = json.loads(path.read_bytes()) | {"attn_implementation": "eager"}
    write_atomically(path, json.dumps(config, indent=2, sort_keys=True) + "\n")
