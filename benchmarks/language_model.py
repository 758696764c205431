"""Base models from nothing: a causal language model of a real family, trained on the rows of given votes.

What tiebreak's recipes start from, hub models in all other places. Plain torch and transformers.
"""

import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiebreak.model import tiny
from tiebreak.recipe.schema import Prompt
from tiebreak.tokens.prompt import tokenize
from tiebreak.votes import splits
from tiebreak.votes.schema import LOCKBOX, read_table


@dataclass(frozen=True)
class Pretraining:
    """epochs: over the votes, each in both orders. tokens: of one sequence. batch: sequences of an optimizer step.

    seconds: training ends by then at the latest, its learning rate too.
    """

    epochs: float
    batch: int = 32
    tokens: int = 768
    learning_rate: float = 2e-3
    warmup_steps: int = 50
    weight_decay: float = 0.1
    gradient_clip: float = 1.0
    seconds: float = math.inf


def make(
    folder: Path,
    family: tiny.Family,
    split: Path,
    pretraining: Pretraining,
    device: str = "cpu",
    seed: int = 0,
    *,
    vocab: int,
    hidden: int,
    layers: int,
    heads: int,
) -> dict[str, float]:
    """Write a language model and its tokenizer as a transformers folder, unless it is there.

    Both are trained on what step 2 put into `split`: votes outside the lockbox, and preference pairs. Returns the loss
    of the last tenth of the steps in nats a token, the number of steps and tokens, and the seconds it took.
    """
    facts = folder.with_name(folder.name + ".json")
    if facts.is_file():
        return dict(json.loads(facts.read_text()))
    began = time.monotonic()
    tables = readable(split)
    texts = [turn for table in tables for turn in turns(table)]
    sample = random.Random(seed).sample(texts, min(len(texts), 30_000))
    tiny.make(folder, family, sample, seed, vocab=vocab, hidden=hidden, layers=layers, heads=heads)
    sequences_NT = packed(folder, tables, pretraining.tokens, seed)
    attention = "eager" if family == "gemma2" else "sdpa"  # torch's kernels know no soft-cap
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention)
    losses = train(model.to(device), sequences_NT, pretraining, seed)
    model.save_pretrained(folder)
    made = {
        "loss": round(float(np.mean(losses[-math.ceil(len(losses) / 10) :])), 3),
        "steps": len(losses),
        "tokens": len(losses) * pretraining.batch * pretraining.tokens,
        "seconds": round(time.monotonic() - began, 1),
    }
    facts.write_text(json.dumps(made) + "\n")
    return made


def readable(split: Path) -> tuple[pa.Table, pa.Table]:
    """The votes outside the lockbox, and the preference pairs, of which step 2 dropped those on a vote's prompt."""
    rows = read_table(split / "rows.parquet")
    return splits.training_votes(rows, LOCKBOX), read_table(split / "preferences.parquet")


def turns(votes: pa.Table) -> Iterator[str]:
    for column in ("prompt", "response_a", "response_b"):
        yield from (turn for turn in votes[column].combine_chunks().flatten().to_pylist() if turn)


def packed(folder: Path, tables: Sequence[pa.Table], tokens: int, seed: int) -> Tensor:
    """The votes as the rows that a classifier reads, whole and in both orders, end to end in sequences (N, T)."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for table in tables:
        votes = tokenize(table, tokenizer, Prompt())
        rows += [votes.row(vote, order, 1 << 30) for vote in range(len(votes)) for order in (0, 1)]
    random.Random(seed).shuffle(rows)
    stream = np.concatenate(rows)
    return torch.from_numpy(stream[: len(stream) // tokens * tokens].reshape(-1, tokens))


def train(model: torch.nn.Module, sequences_NT: Tensor, pretraining: Pretraining, seed: int) -> list[float]:
    """Learn to predict each next token; the loss of each step."""
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=0.0, betas=(0.9, 0.95), weight_decay=pretraining.weight_decay, fused=True
    )
    steps = steps_of(len(sequences_NT), pretraining, seed)
    losses, began = [], time.monotonic()
    for step, members in enumerate(steps):
        done = max(step / len(steps), (time.monotonic() - began) / pretraining.seconds)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = pretraining.learning_rate * share_of_rate(step, done, pretraining.warmup_steps)
        ids = sequences_NT[members].to(device, torch.int64)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), pretraining.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return torch.stack(losses).tolist()


def steps_of(sequences: int, pretraining: Pretraining, seed: int) -> list[Tensor]:
    """The sequences of each optimizer step: whole epochs in random order, the last one cut short."""
    generator = torch.Generator().manual_seed(seed)
    epochs = [torch.randperm(sequences, generator=generator) for _ in range(math.ceil(pretraining.epochs))]
    order = torch.cat(epochs)[: int(sequences * pretraining.epochs)]
    return list(torch.split(order, pretraining.batch))


def share_of_rate(step: int, done: float, warmup_steps: int) -> float:
    """Linear warm-up, times a cosine from 1 down to a tenth."""
    return min(1, (step + 1) / warmup_steps) * (0.55 + 0.45 * math.cos(math.pi * done))
