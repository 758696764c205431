"""What quantising costs in log loss and logits: GPTQ beside round-to-nearest, by calibration rows.

    python benchmarks/quantize.py [--seeds 2] [--small] [--write]

A seed has its own votes and tiny models, trained as `numerics.py` does it, merged and stored in 16 bits. Each
is then quantised in every way and scores the same held-out votes, whose true probabilities are known: log losses
are expected ones, over the chance in a vote. Prints a table, then one line of JSON; --write keeps both under
benchmarks/results, where what they show is said by hand.

Dimension letters: N votes, C classes.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any
from unittest import mock

import numerics
import numpy as np
import pyarrow as pa
import torch
from compressed_tensors.quantization import QuantizationArgs
from machine import processor
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification

import tiebreak
from tiebreak.judge import gptq
from tiebreak.judge.logits import softmax
from tiebreak.judge.scoring import score
from tiebreak.model import merge
from tiebreak.model.classifier import Classifier, load
from tiebreak.recipe.schema import Prompt
from tiebreak.stats.metrics import Array, Bootstrap, difference, log_loss
from tiebreak.tokens.prompt import TokenizedVotes, tokenize
from tiebreak.votes import synthetic
from tiebreak.votes.schema import LABELS

FAMILIES = ("llama", "gemma2")
BITS = (8, 4)
BOOTSTRAP = Bootstrap(1000)
HELD_OUT_SEED = 1_000
RESULT = Path(__file__).parent / "results" / "quantize-cpu-202611"


@dataclass(frozen=True)
class Scale:
    """votes: that a model is trained on and calibration rows are chosen from. sizes: numbers of such rows."""

    votes: int = 2000
    held_out: int = 1000
    steps: int = 320
    hidden: int = 128
    layers: int = 2
    sizes: tuple[int, ...] = (8, 32, 128, 512)
    size: int = 128  # of the other choices


SMALL = Scale(votes=60, held_out=60, steps=4, hidden=32, layers=1, sizes=(4, 8), size=8)


@dataclass(frozen=True)
class Arm:
    """How the weights are kept. choice: where `rows` calibration rows are from, for GPTQ alone."""

    bits: int
    method: str = "stored"
    choice: str = ""
    rows: int = 0


BASE = Arm(16)
CHOICES = ("longest", "plain texts", "random tokens")


def arms(scale: Scale) -> list[Arm]:
    calibrations = [("random", size) for size in scale.sizes] + [(choice, scale.size) for choice in CHOICES]
    found = [Arm(32), BASE]
    for bits in BITS:
        found += [Arm(bits, "rtn"), *(Arm(bits, "gptq", choice, rows) for choice, rows in calibrations)]
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seeds", type=int, default=2)
    arguments.add_argument("--small", action="store_true", help="one seed at sizes that mean nothing")
    arguments.add_argument("--write", action="store_true")
    chosen = arguments.parse_args()
    scale, seeds = (SMALL, 1) if chosen.small else (Scale(), chosen.seeds)
    began = time.process_time()
    with TemporaryDirectory(prefix="tiebreak-quantize-") as folder:
        rows = run(Path(folder), scale, seeds)
    facts = {
        "seeds": seeds,
        **asdict(scale),
        "cpu_seconds": round(time.process_time() - began),
        "processor": f"{processor()}, one of {os.cpu_count()} cores",
        "python": platform.python_version(),
        "tiebreak": tiebreak.__version__,
        **{name: version(name) for name in ("torch", "transformers", "llmcompressor")},
    }
    table, line = markdown(rows), json.dumps({"benchmark": "quantize", **facts, "rows": rows})
    print(table, line, sep="\n\n")
    if chosen.write:
        RESULT.with_suffix(".json").write_text(line + "\n")
        RESULT.with_suffix(".md").write_text(page(table, facts))


def run(folder: Path, scale: Scale, seeds: int) -> list[dict[str, Any]]:
    """A row for each family and arm, means over seeds."""
    held_out = synthetic.generate(scale.held_out, HELD_OUT_SEED)
    rows: list[dict[str, Any]] = []
    for family in FAMILIES:
        found = [measure(folder / f"{family}{n}", family, held_out, scale, n) for n in range(seeds)]
        rows += summary(family, found, held_out)
    return rows


def measure(
    folder: Path, family: str, held_out: pa.Table, scale: Scale, seed: int
) -> dict[Arm, tuple[Array, float]]:
    """Logits (N, C) of the held-out votes, and the CPU seconds of quantising, of every arm."""
    votes = synthetic.generate(scale.votes, seed).select(synthetic.SCHEMA.names)
    folder.mkdir()
    trained = numerics.prepare(
        folder, family, votes, scale.steps, seed, hidden=scale.hidden, layers=scale.layers
    )
    stored = in_16_bits(trained)
    tokens = tokenize(votes, load(stored).tokenizer, Prompt())
    rows = partial(calibration, tokens=tokens, vocabulary=len(load(stored).tokenizer), seed=seed)
    found = {Arm(32): (logits(load(trained), held_out), 0.0), BASE: (logits(load(stored), held_out), 0.0)}
    for arm in arms(scale)[2:]:
        target, began = Path(mkdtemp(dir=folder)) / "model", time.process_time()
        quantize(stored, target, arm, rows(arm.choice, arm.rows))
        seconds = time.process_time() - began
        found[arm] = (logits(widened(stored, target), held_out), seconds)
        print(f"{family}, seed {seed}: {arm.bits} bits, {arm.method} {arm.choice} {arm.rows}", flush=True)
    return found


def in_16_bits(trained: Path) -> Path:
    """The folder with the decoder in bf16, as step 6 leaves a model; the score head stays in fp32."""
    classifier, target = load(trained), trained.with_name("16-bits")
    classifier.model.model.to(torch.bfloat16)
    classifier.model.config.dtype = torch.bfloat16
    merge.save(classifier, target)
    return target


def calibration(
    choice: str, count: int, *, tokens: TokenizedVotes, vocabulary: int, seed: int
) -> list[NDArray[np.int32]]:
    """Token ids of `count` rows, each (T,): votes in alternating orders, or of another kind at their lengths."""
    random = np.random.default_rng(seed)
    votes = random.permutation(len(tokens))
    if choice == "longest":
        votes = np.argsort([-tokens.length(vote, numerics.TOKENS) for vote in range(len(tokens))])
    rows = [tokens.row(vote, n % 2, numerics.TOKENS) for n, vote in enumerate(votes[:count].tolist())]
    if choice == "plain texts":  # answers alone, without the template
        return [tokens.answers[n % 2][vote] for n, vote in enumerate(votes[:count].tolist())]
    if choice == "random tokens":
        return [random.integers(vocabulary, size=len(row), dtype=np.int32) for row in rows]
    return rows


def quantize(stored: Path, target: Path, arm: Arm, documents: Sequence[NDArray[np.int32]]) -> None:
    """As step 7 does it. Its scheme says 8 bits; other numbers are put there from here, for comparison alone."""
    with mock.patch.object(
        gptq, "QuantizationArgs", lambda **scheme: QuantizationArgs(**scheme | {"num_bits": arm.bits})
    ):
        gptq.quantize(stored, target, documents, method=arm.method)


def widened(stored: Path, quantized: Path) -> Classifier:
    """The stored classifier with the weights that plain transformers makes of the codes, of any bits, in fp32."""
    classifier = load(stored)
    model = AutoModelForSequenceClassification.from_pretrained(quantized, dtype=torch.float32)
    model(input_ids=torch.tensor([[1, 2, 3]]))  # codes become weights at the first forward
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in classifier.model.named_parameters():
            parameter.copy_(parameters[name])
    return classifier


def logits(classifier: Classifier, votes: pa.Table) -> Array:
    """Logits (N, C), answers in the order stored; the sums are fp32's on a CPU."""
    tokens = tokenize(votes, classifier.tokenizer, Prompt())
    rows_R2 = np.stack([np.arange(len(votes)), np.zeros(len(votes), np.int64)], axis=1)
    z_NC = score(classifier, tokens, rows_R2, numerics.TOKENS, 8192, lambda *a, **k: None)
    return z_NC.astype(np.float64)


def summary(
    family: str, found: Sequence[dict[Arm, tuple[Array, float]]], held_out: pa.Table
) -> Iterator[dict[str, Any]]:
    """Each arm's figures, means over seeds; changes are paired by vote, their intervals over votes."""
    true_NC = np.stack([held_out[f"true_{label}"].to_numpy() for label in LABELS], axis=1)
    p = {arm: [softmax(seed[arm][0]) for seed in found] for arm in found[0]}
    for arm in p:
        changes = [rms_change(seed[arm][0], seed[BASE][0]) for seed in found]
        row = {
            "family": family,
            **asdict(arm),
            "log_loss": float(np.mean([log_loss(p_NC, true_NC) for p_NC in p[arm]])),
            "change": asdict(difference(p[arm], p[BASE], true_NC, BOOTSTRAP)),
            "logits_rms": float(np.mean(changes)),
            "logits_rms_of_seeds": changes,
            "cpu_seconds": float(np.mean([seed[arm][1] for seed in found])),
        }
        if arm.method == "gptq":
            from_rtn = difference(p[arm], p[Arm(arm.bits, "rtn")], true_NC, BOOTSTRAP)
            row["change_from_rtn"] = asdict(from_rtn)
        yield row


def rms_change(z_NC: Array, base_NC: Array) -> float:
    """The root mean square of the logits' change, as a share of their standard deviation."""
    return float(np.sqrt(((z_NC - base_NC) ** 2).mean()) / base_NC.std())


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| model | bits | method | calibration | log loss | change from 16 bits (95 %) | from rounding (95 %) "
        "| logits, RMS | CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        calibrated = f"{row['rows']} {row['choice']}" if row["rows"] else ""
        lines.append(
            f"| {row['family']} | {row['bits']} | {row['method']} | {calibrated} | {row['log_loss']:.5f} "
            f"| {interval(row['change'])} | {interval(row.get('change_from_rtn'))} | {row['logits_rms']:.5f} "
            f"| {row['cpu_seconds']:.1f} |"
        )
    return "\n".join(lines)


def interval(change: dict[str, float] | None) -> str:
    return "{value:+.6f} ({low:+.6f} to {high:+.6f})".format(**change) if change else ""


def page(table: str, facts: dict[str, Any]) -> str:
    about = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    return PAGE.format(table=table, about=about, **facts)


PAGE = """# GPTQ beside round-to-nearest

    python benchmarks/quantize.py --seeds {seeds} --write

{about}

Tiny models (hidden {hidden}, {layers} layers), trained on {votes:,} synthetic votes for {steps} steps, merged, and stored
in 16 bits (bf16), from which all else is made: symmetric codes, a scale for each row and group of up to 128 inputs.
All weights are then computed with in fp32, so that only their own rounding is seen. Log loss: expected, on {held_out:,}
held-out votes whose true probabilities are known, the mean over {seeds} seeds of votes and models. Changes are paired by
vote; their intervals are bootstraps over votes (1,000 resamples), the models given. Logits: the root mean square of their
change from 16 bits, as a share of their standard deviation. Calibration rows are training votes: drawn at random, the
longest; or answers alone, without the template (plain texts); or tokens drawn at random, at the lengths of votes.

{table}

Caveats: tiny models on synthetic votes, their random weights changed by adapters alone; a real model's inputs have
outliers that these lack. Rounding moves the logits, and on so few votes a move may lower the log loss as well as raise
it: an interval over votes holds for these very models and says nothing of others, so compare the logits first. Four bits
are here because eight hardly move anything; no step of the recipe uses them. Machine time was shared with other work, so
times are of the processor.
"""


if __name__ == "__main__":
    main()
