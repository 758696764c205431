"""The ways that `benchmarks/gpu.py` compares with: padded batches as published, and flex_attention.

Plain transformers and peft on padded batches: eager attention for Gemma-2, whose soft-cap sdpa drops, sdpa and NF4
for Llama; activations computed again, dropout 0.05. And packed rows through transformers' flex_attention, with
activations kept and without dropout.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

BATCH, ACCUMULATED = 8, 8
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Batch = tuple[dict[str, Tensor], Tensor | None, int]
"""Inputs of the model, each document's last token in a packed row, real tokens."""


def build(config: PreTrainedConfig, attention: str, device: str, nf4: bool, rank: int) -> PreTrainedModel:
    """A classifier with random weights in bf16, with peft's adapters if it has a rank.

    Raises ImportError without peft, and for NF4 without bitsandbytes.
    """
    with torch.device(device):
        model = AutoModelForSequenceClassification.from_config(
            deepcopy(config), attn_implementation=attention, dtype=torch.bfloat16
        )
    if nf4:
        quantise(model, device)
    if not rank:
        return model.eval()
    from peft import LoraConfig, get_peft_model

    is_padded = attention != "flex_attention"
    lora = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.05 * is_padded,
        task_type="SEQ_CLS",
        target_modules=TARGETS,
    )
    model = get_peft_model(model, lora).to(device)
    if is_padded:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    return model.train()


def quantise(model: nn.Module, device: str) -> None:
    """bitsandbytes' layers in place of the decoder's, NF4 with double quantisation."""
    import bitsandbytes

    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear) and name != "score":
                codes = bitsandbytes.nn.Linear4bit(
                    layer.in_features, layer.out_features, bias=layer.bias is not None,
                    compute_dtype=torch.bfloat16, compress_statistics=True, quant_type="nf4", device="meta",
                )  # fmt: skip
                codes.weight = bitsandbytes.nn.Params4bit(
                    layer.weight.data.cpu(), requires_grad=False, quant_type="nf4", compress_statistics=True
                )
                codes.bias = layer.bias
                setattr(parent, name, codes.to(device))


def padded(documents: Sequence[NDArray], device: str) -> Iterator[Batch]:
    """Batches of eight in the order given, right-padded."""
    for start in range(0, len(documents), BATCH):
        rows = [torch.from_numpy(document).long() for document in documents[start : start + BATCH]]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        inputs = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        yield inputs, None, int(lengths.sum())


def packed(documents: Sequence[NDArray], budget: int, device: str) -> Iterator[Batch]:
    """Documents end to end in the order given, filled up to the budget with one more document."""
    rows: list[NDArray] = []
    for document in [*documents, None]:
        if document is None or sum(map(len, rows)) + len(document) > budget:
            yield _one_row(rows, budget, device)
            rows = []
        if document is not None:
            rows.append(document)


def _one_row(rows: Sequence[NDArray], budget: int, device: str) -> Batch:
    lengths = [len(row) for row in rows]
    filler = budget - sum(lengths)
    positions = torch.cat([torch.arange(length) for length in (*lengths, filler)])
    ids = torch.cat([*(torch.from_numpy(row).long() for row in rows), torch.zeros(filler, dtype=torch.long)])
    inputs = {"input_ids": ids[None].to(device), "position_ids": positions[None].to(device)}
    return inputs, (torch.tensor(lengths).cumsum(0) - 1).to(device), sum(lengths)


def logits(model: nn.Module, batch: Batch) -> Tensor:
    inputs, ends, _ = batch
    if ends is None:
        return model(**inputs, use_cache=False).logits.float()
    plain = model.base_model.model if hasattr(model, "peft_config") else model
    hidden = plain.model(**inputs, use_cache=False).last_hidden_state
    return plain.score(hidden[0, ends]).float()


def score(model: nn.Module, batches: Sequence[Batch]) -> int:
    """Score batches; returns their real tokens."""
    with torch.no_grad():
        for batch in batches:
            logits(model, batch)
    return sum(tokens for *_, tokens in batches)


def train(model: nn.Module, batches: Sequence[Batch], optimizer: torch.optim.Optimizer) -> int:
    """Train on batches, a step of the optimizer every eight; returns their real tokens."""
    for n, batch in enumerate(batches, 1):
        z = logits(model, batch)
        F.cross_entropy(z, torch.arange(len(z), device=z.device) % 3).backward()
        if n % ACCUMULATED == 0 or n == len(batches):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return sum(tokens for *_, tokens in batches)
