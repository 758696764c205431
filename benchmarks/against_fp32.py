"""How far the ways of `benchmarks/gpu.py` are off: logits beside fp32, on a small model of the same family."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import published
import torch
from sizes import LONGEST, PROMPT_SHARE, build, config_of, votes_of

from tiebreak.judge.scoring import both_orders, score
from tiebreak.model.lora import adapted_layers


@cache
def difference_from_fp32(family: str, way: str, kind: str, kernels: bool, device: str) -> float:
    """How far logits are off on a small model: the root of their mean square, as a share of their spread in fp32.

    Ours has adapters that do something; they are merged into the weights of the reference.
    """
    config = config_of(family, 4, small=True)
    votes, rows = votes_of(4, config.vocab_size, PROMPT_SHARE, 200), both_orders(np.arange(4))
    documents = [votes.row(vote, order, LONGEST) for vote, order in rows.tolist()]
    torch.manual_seed(0)
    truth = published.build(config, "eager", device, nf4=False, rank=0).float()
    with torch.no_grad():
        for p in truth.parameters():
            p.normal_(std=0.05 if p.dim() > 1 else 0.02).add_(float(p.dim() == 1 and family == "llama"))
    weights = {name: p.clone() for name, p in truth.state_dict().items()}
    if way == "ours":
        ours = build(config, kind, 0 if kind == "int8" else 16, device, kernels, False, weights)
        with torch.no_grad():
            for name, layer in adapted_layers(ours.model):
                layer.lora_B.normal_(std=0.05)
                truth.get_submodule(name).weight += layer.scale * layer.lora_B @ layer.lora_A
        found = score(ours, votes, rows, LONGEST, 4096, lambda *a, **k: None)
    else:
        model = published.build(config, attention_of(way, family), device, nf4=False, rank=0)
        model.load_state_dict(weights)
        if kind == "nf4":
            published.quantise(model, device)
        with torch.no_grad():
            parts = [published.logits(model, batch) for batch in batches_of(way, documents, 4096, device)]
        found = torch.cat(parts).cpu().numpy()
    with torch.no_grad():
        expected = [published.logits(truth, batch) for batch in published.padded(documents, device)]
    z_RC = torch.cat(expected).cpu().numpy()
    return float(np.sqrt(((found - z_RC) ** 2).mean()) / z_RC.std())


def attention_of(way: str, family: str) -> str:
    if way == "flex":
        return "flex_attention"
    return "eager" if family == "gemma2" else "sdpa"


def batches_of(way: str, documents: Sequence[Any], budget: int, device: str) -> list[published.Batch]:
    if way == "flex":
        return list(published.packed(documents, budget, device))
    return list(published.padded(documents, device))
