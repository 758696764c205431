"""What frozen weights in FP8, NF4 and bf16 change beside fp32: logits, gradients, and a whole training.

    python benchmarks/numerics.py [--votes 2000] [--steps 120] [--write]

Tiny models are trained on synthetic votes in fp32 first, so that their weights are no longer random, and then
trained further from there, once in every precision, with the same rows in the same order. The codes are those
of a GPU; sums are fp32 on a CPU, so that only the rounding of FP8, NF4 and bf16 is seen. Prints tables, then one
line of JSON; --write keeps both under benchmarks/results.
"""

import argparse
import json
import platform
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from tiebreak.judge.scoring import both_orders, score
from tiebreak.model import merge, tiny
from tiebreak.model.classifier import Classifier, load, load_adapted
from tiebreak.model.lora import adapter_state, save_adapter
from tiebreak.recipe.models import Lora
from tiebreak.recipe.schema import Prompt, Training
from tiebreak.runtime import Runtime
from tiebreak.tokens.prompt import TokenizedVotes, tokenize
from tiebreak.training.fit import fit
from tiebreak.training.losses import Loss
from tiebreak.training.rows import TrainingRows, labels_of
from tiebreak.votes import synthetic

FAMILIES = ("llama", "gemma2")
PRECISIONS = ("fp32", "bf16", "fp8", "nf4")
LORA = Lora(rank=16, alpha=32, dropout=0.0)
TOKENS = 256
RESULT = Path(__file__).parent / "results" / "numerics-cpu-202611"


def prepare(
    folder: Path,
    family: str,
    votes: pa.Table,
    steps: int,
    seed: int = 0,
    *,
    hidden: int = 128,
    layers: int = 4,
) -> Path:
    """A tiny model that was trained in fp32, its adapters merged into it: what stands for a pretrained one."""
    texts = [
        text for column in ("prompt", "response_a") for turns in votes[column].to_pylist() for text in turns
    ]
    tiny.make(folder / family, family, texts, seed, hidden=hidden, layers=layers, heads=4)
    classifier = load_adapted(folder / family, LORA, None, "fp32", "cpu")
    train(classifier, votes, steps)
    plain = load(folder / family, "fp32")
    merge.merge(plain, adapter_state(classifier.model, with_head=True), LORA)
    merge.save(plain, folder / f"{family}-trained")
    return folder / f"{family}-trained"


def train(classifier: Classifier, votes: pa.Table, steps: int) -> list[float]:
    training = Training(
        epochs=50, max_steps=steps, learning_rate=1e-3, head_rate=10, rows_per_step=32, max_tokens=TOKENS,
        warmup_steps=10,
    )  # fmt: skip
    with TemporaryDirectory() as scratch:
        return fit(classifier, votes, Prompt(), training, Runtime("cpu", Path(scratch), 4096), seed=1)


def compare(base: Path, votes: pa.Table, held_out: pa.Table, steps: int) -> Iterator[dict[str, Any]]:
    """Each precision beside fp32: with the same trained adapter, and trained by itself from the same start."""
    adapter = Path(mkdtemp(dir=base.parent))
    reference: dict[str, Any] = {}
    for precision in PRECISIONS:
        if precision == "nf4" and find_spec("bitsandbytes") is None:
            continue
        learner = load_adapted(base, LORA, None, precision, "cpu")
        curve = train(learner, votes, steps)
        own = logits(learner, held_out)
        if precision == "fp32":
            save_adapter(adapter_state(learner.model, with_head=True), LORA, adapter)
        given = load_adapted(base, LORA, adapter, precision, "cpu")
        z_RC, gradient = logits(given, held_out), gradient_of(given, held_out)
        if precision == "fp32":
            reference = {"z": z_RC, "gradient": gradient, "curve": curve}
        difference = z_RC - reference["z"]
        yield {
            "precision": precision,
            "logits_rms": float(np.sqrt((difference**2).mean()) / reference["z"].std()),
            "logits_max": float(np.abs(difference).max() / reference["z"].std()),
            "gradient_cosine": float(
                torch.cosine_similarity(gradient.double(), reference["gradient"].double(), dim=0)
            ),
            "log_loss_same_adapter": log_loss(z_RC, held_out),
            "log_loss_trained_so": log_loss(own, held_out),
            "curve": [round(value, 4) for value in curve],
            "curve_distance": float(np.abs(np.array(curve) - reference["curve"]).mean()),
        }


def logits(classifier: Classifier, votes: pa.Table) -> np.ndarray:
    tokens = tokenize(votes, classifier.tokenizer, Prompt())
    return score(classifier, tokens, both_orders(np.arange(len(votes))), TOKENS, 8192, lambda *a, **k: None)


def gradient_of(classifier: Classifier, votes: pa.Table) -> Tensor:
    """The gradient of all adapters as one vector, in the order of their names in the files."""
    tokens: TokenizedVotes = tokenize(votes, classifier.tokenizer, Prompt())
    rows = TrainingRows(tokens, labels_of(votes), None, TOKENS)
    for packed, targets in rows.batches(both_orders(np.arange(64)), 4096):
        Loss()(classifier.logits(packed), targets).backward()
    for parameter in classifier.trainable().values():
        parameter.data, parameter.grad = parameter.grad, None  # so that the files' names put them in order
    state = adapter_state(classifier.model, with_head=False)
    return torch.cat([state[name].flatten() for name in sorted(state)])


def log_loss(z_RC: np.ndarray, votes: pa.Table) -> float:
    labels_RC = labels_of(votes).reshape(-1, 3)
    z_RC = z_RC - z_RC.max(1, keepdims=True)
    log_p_RC = z_RC - np.log(np.exp(z_RC).sum(1, keepdims=True))
    return float(-(labels_RC * log_p_RC).sum(1).mean())


def run(folder: Path, families: tuple[str, ...], count: int, steps: int) -> list[dict[str, Any]]:
    votes = synthetic.generate(count, seed=0).select(synthetic.SCHEMA.names)
    held_out = synthetic.generate(max(100, count // 4), seed=1).select(synthetic.SCHEMA.names)
    return [
        {"family": family, **row}
        for family in families
        for row in compare(prepare(folder, family, votes, steps), votes, held_out, steps)
    ]


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| model | precision | logits, RMS | largest | gradient, cosine | log loss, same adapter | trained so "
        "| loss of a step, mean distance |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['family']} | {r['precision']} | {r['logits_rms']:.4f} | {r['logits_max']:.3f} "
        f"| {r['gradient_cosine']:.5f} | {r['log_loss_same_adapter']:.4f} | {r['log_loss_trained_so']:.4f} "
        f"| {r['curve_distance']:.4f} |"
        for r in rows
    ]
    families = dict.fromkeys(r["family"] for r in rows)
    for family in families:
        own = [r for r in rows if r["family"] == family]
        lines += ["", f"Loss curve of {family}, means of ten steps:", ""]
        lines += [
            "| steps | " + " | ".join(r["precision"] for r in own) + " |",
            "|---" * (len(own) + 1) + "|",
        ]
        lines += [
            f"| {start + 1}-{start + 10} | "
            + " | ".join(f"{np.mean(r['curve'][start : start + 10]):.4f}" for r in own)
            + " |"
            for start in range(0, len(own[0]["curve"]), 10)
        ]
    return "\n".join(lines)


PAGE = """# FP8, NF4 and bf16 beside fp32

    python benchmarks/numerics.py --write

{table}

Tiny models (hidden 128, 4 layers), trained in fp32 on {votes:,} synthetic votes for {steps} steps and merged, then
trained for {steps} steps more in each precision from the same start. Logits: of {held_out} held-out votes in both
orders, with the adapter that fp32 trained; the difference as a share of the logits' standard deviation. Gradient:
of all adapters, on 64 rows. The last column is the mean over steps of |loss - loss in fp32|.

{versions}.
A CPU computes with the codes of FP8 and NF4 but sums in fp32 (bf16: in bf16 on the whole), so this says what rounding the weights, activations and gradients does, and nothing of a GPU's sums or its speed. Steps of 32 rows are
noisy, and trainings drift apart without being worse: compare the log losses, and the curves as a whole. Tiny
models have narrow layers, over which rounding averages out less than over those of a 9B.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--votes", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    with TemporaryDirectory(prefix="tiebreak-numerics-") as folder:
        rows = run(Path(folder), FAMILIES, chosen.votes, chosen.steps)
    names = ("torch", "transformers", *(["bitsandbytes"] if find_spec("bitsandbytes") else []))
    versions = {"python": platform.python_version()} | {name: version(name) for name in names}
    facts = {"votes": chosen.votes, "steps": chosen.steps, "versions": versions}
    text, line = table(rows), json.dumps({"benchmark": "numerics", **facts, "rows": rows})
    print(text, line, sep="\n\n")
    if chosen.write:
        about = ", ".join(f"{name} {number}" for name, number in versions.items())
        page = PAGE.format(
            table=text,
            votes=chosen.votes,
            steps=chosen.steps,
            held_out=max(100, chosen.votes // 4),
            versions=about,
        )
        RESULT.with_suffix(".md").write_text(page)
        RESULT.with_suffix(".json").write_text(line + "\n")


if __name__ == "__main__":
    main()
