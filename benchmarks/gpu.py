"""Every way of scoring and training on one card beside the published one, in one process.

    python benchmarks/gpu.py [ARM ...] [--into FILE] [--minutes 9] [--small] [--list] [--write]

Random weights at the models' real sizes: speed depends on shapes, not on values. Rows are as long as those of arena
votes (lognormal around 620 tokens, at most 1024, a tenth of them the prompt), each vote in both orders. First the
logits of every arm are compared with fp32 on a small model of the same family. Arms are named WORK/ARM, a work
alone means all its arms. Each prints as it ends and is appended to --into, which a later call goes on from; after
--minutes no further arm is begun. Prints a table, then one line of JSON; --write keeps both under
benchmarks/results, and the rates into the table that `tiebreak plan --card` reads. --small runs tiny models, on a CPU too: a test of this script, no measurement.

tokens/s counts the rows' own tokens: padding does not count, a prompt that both orders share counts twice.
TFLOP/s: 2 N operations a scored token, 4 N a trained one (no gradients of frozen weights), N the parameters of the
layers' matrices; what is computed again does not count.
"""

import argparse
import gc
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import published
import torch
from against_fp32 import attention_of, batches_of, difference_from_fp32
from clock import begun, peak_gib, peak_tflops, synchronised, timed
from sizes import LONGEST, PROMPT_SHARE, build, config_of, votes_of
from transformers import PreTrainedModel

from tiebreak.hardware.memory_model import decoder_shape
from tiebreak.judge.scoring import both_orders, score
from tiebreak.model.classifier import Classifier
from tiebreak.model.fast import graphs
from tiebreak.model.fast.graphs import MOST_WORK
from tiebreak.recipe.schema import Training
from tiebreak.runtime import SCORE_TOKENS, Runtime
from tiebreak.tokens.prompt import TokenizedVotes
from tiebreak.training.loop import train
from tiebreak.training.losses import Loss
from tiebreak.training.rows import TrainingRows, optimizer_steps

LIMITS = {"dense": 0.05, "int8": 0.1, "fp8": 0.3, "nf4": 0.6}
"""By how much rounding alone may move logits; a document that sees another one moves them by more than 1."""
RATES = Path(__file__).resolve().parents[1] / "src" / "tiebreak" / "hardware" / "throughput.json"
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Work:
    """What is to be done. steps: optimizer steps of 64 rows, of which the first two warm up, or 64 rows scored.

    budget: tokens of a forward; None is what the product takes by itself.
    """

    title: str
    family: str
    layers: int
    training: bool
    budget: int | None
    steps: int


WORKS = {
    "gemma-score": Work("Gemma-2-9B scoring", "gemma2", 42, False, 16384, 8),
    "gemma-step": Work("Gemma-2-9B LoRA step", "gemma2", 42, True, 8192, 6),
    "llama-step": Work("Llama-3-70B, 12 of 80 layers, LoRA step", "llama", 12, True, 8192, 6),
    "llama-all-step": Work("Llama-3-70B LoRA step", "llama", 80, True, 16384, 4),
    "llama-all-score": Work("Llama-3-70B scoring", "llama", 80, False, 16384, 4),
    "smollm2-step": Work("SmolLM2-135M LoRA step", "smollm2", 30, True, None, 40),
    "smollm2-score": Work("SmolLM2-135M scoring", "smollm2", 30, False, None, 40),
    "qwen-step": Work("Qwen2.5-0.5B LoRA step", "qwen2.5-0.5b", 24, True, None, 24),
    "qwen-score": Work("Qwen2.5-0.5B scoring", "qwen2.5-0.5b", 24, False, None, 24),
}


@dataclass(frozen=True)
class Arm:
    """One way of doing a work. kind: how frozen weights are held, as in `tiebreak.model.fast.fused_linears`, or int8."""

    work: str
    name: str
    way: str  # published, flex or ours
    kind: str = "dense"
    kernels: bool = True
    compiled: bool = True
    shared_prompts: bool = True
    graphs: bool = True

    @property
    def id(self) -> str:
        return f"{self.work}/{self.name}"


ARMS = (
    Arm("gemma-score", "reference", "published"),
    Arm("gemma-score", "bf16", "ours"),
    Arm("gemma-score", "fp8", "ours", "fp8"),
    Arm("gemma-step", "reference", "published"),
    Arm("gemma-step", "bf16", "ours"),
    Arm("gemma-step", "fp8", "ours", "fp8"),
    Arm("llama-step", "reference", "published", "nf4"),
    Arm("llama-step", "fp8", "ours", "fp8"),
    Arm("gemma-score", "flex", "flex"),
    Arm("gemma-step", "flex", "flex"),
    Arm("gemma-score", "bf16-orders-apart", "ours", shared_prompts=False),
    Arm("gemma-step", "bf16-orders-apart", "ours", shared_prompts=False),
    Arm("gemma-score", "bf16-no-kernels", "ours", kernels=False),
    Arm("gemma-step", "bf16-no-kernels", "ours", kernels=False),
    Arm("gemma-step", "bf16-not-compiled", "ours", compiled=False),
    Arm("gemma-score", "int8", "ours", "int8"),
    Arm("llama-step", "nf4", "ours", "nf4"),
    Arm("llama-all-step", "fp8", "ours", "fp8"),
    Arm("llama-all-score", "fp8", "ours", "fp8"),
    *(
        Arm(work, name, way, graphs=name != "bf16-no-graphs")
        for work in ("smollm2-step", "smollm2-score", "qwen-step", "qwen-score")
        for name, way in (("reference", "published"), ("bf16", "ours"), ("bf16-no-graphs", "ours"))
    ),
)


def measure(arm: Arm, small: bool, device: str) -> dict[str, float]:
    """tokens/s, GiB at the peak, and seconds until everything is built and compiled."""
    work = WORKS[arm.work]
    config = config_of(work.family, 2 if small else work.layers, small)
    rank, longest = (0 if not work.training else 16 if small else 64), 64 if small else LONGEST
    rows_a_step = 8 if small else 64
    votes = votes_of(
        work.steps * rows_a_step // 2, config.vocab_size, PROMPT_SHARE * arm.shared_prompts, longest
    )
    budget = 512 if small else work.budget
    began = time.perf_counter()
    if arm.way == "ours":
        graphs.MOST_WORK = MOST_WORK if arm.graphs else 0.0
        classifier = build(config, arm.kind, rank, device, arm.kernels, arm.compiled)
        run = our_training if work.training else _our_scoring
        return run(classifier, votes, rows_a_step, work.steps, budget, began)
    model = published.build(config, attention_of(arm.way, work.family), device, arm.kind == "nf4", rank)
    rows = both_orders(np.random.default_rng(1).permutation(len(votes)))
    documents = [votes.row(vote, order, LONGEST) for vote, order in rows.tolist()]
    budget = budget or SCORE_TOKENS
    flex_budget = budget // 2 if work.training else budget  # what fits with all activations kept
    batches = batches_of(arm.way, documents, flex_budget, device)
    if arm.way == "flex":
        for layer in (model.base_model.model if rank else model).model.layers:
            layer.compile(dynamic=False)
    return _their_work(model, batches, bool(rank), began)


def _our_scoring(
    classifier: Classifier, votes: TokenizedVotes, rows: int, steps: int, budget: int | None, began: float
) -> dict[str, float]:
    order = both_orders(np.arange(len(votes)))

    def once() -> None:
        score(classifier, votes, order, LONGEST, budget or SCORE_TOKENS, lambda *a, **k: None)

    for _ in range(2):  # to compile, and to record graphs
        once()
    setup = time.perf_counter() - began
    seconds = timed(once)
    tokens = 2 * sum(votes.length(vote, LONGEST) for vote in range(len(votes)))
    return {
        "tokens_per_s": tokens / seconds,
        "gib": peak_gib(),
        "setup_s": setup,
        "kernels": classifier.fixed,
    }


def our_training(
    classifier: Classifier, votes: TokenizedVotes, rows: int, steps: int, budget: int | None, began: float
) -> dict[str, float]:
    """The product's own loop, twice over the same steps: the first time compiles.

    The loop queues a step before it reads the loss of the one before; the clock starts when the card has done the
    first two steps, which are not counted.
    """
    training = Training(epochs=1, rows_per_step=rows, max_steps=steps, max_tokens=LONGEST)
    labels = np.full((len(votes), 2, 3), 1 / 3, np.float32)
    start = end = setup = 0.0

    def report(phase: str, done: int, total: int, unit: str, **figures: float) -> None:
        nonlocal start, end
        if done == 1:
            start = begun()
        if done == total:  # before the last checkpoint is written
            end = synchronised()

    for _ in range(2):
        with TemporaryDirectory() as scratch:
            runtime = Runtime(classifier.device, Path(scratch), train_tokens=budget, report=report)
            train(classifier, TrainingRows(votes, labels, None, LONGEST), Loss(), training, runtime, seed=0)
        setup = setup or start - began
    seconds = end - start
    members = np.concatenate(optimizer_steps(len(votes), training, 0)[2:])
    tokens = sum(votes.length(vote, LONGEST) for vote in members[:, 0].tolist())
    again = sum(bool(layer.gradient_checkpointing) for layer in classifier.model.model.layers)
    return {
        "tokens_per_s": tokens / seconds, "gib": peak_gib(), "setup_s": setup, "kernels": classifier.fixed,
        "layers_computed_again": again,
    }  # fmt: skip


def _their_work(
    model: PreTrainedModel, batches: list[published.Batch], training: bool, began: float
) -> dict[str, float]:
    work: Callable[[list[published.Batch]], int]
    if training:
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)

        def work(some: list[published.Batch]) -> int:
            return published.train(model, some, optimizer)
    else:

        def work(some: list[published.Batch]) -> int:
            return published.score(model, some)

    work(batches[:2])
    setup = time.perf_counter() - began
    rest = batches[2:18] or batches
    seconds = timed(lambda: work(rest))
    return {"tokens_per_s": sum(b[2] for b in rest) / seconds, "gib": peak_gib(), "setup_s": setup}


def run(arm: Arm, small: bool, device: str, peak: float) -> dict[str, Any]:
    """One row of the table; an arm that fails says why and stops nobody."""
    row: dict[str, Any] = {"work": arm.work, "arm": arm.name}
    try:
        if device == "cpu" and arm.way == "flex" and WORKS[arm.work].training:
            return row | {"skipped": "flex_attention has no backward on a CPU"}
        family = WORKS[arm.work].family
        row["logits_off"] = round(difference_from_fp32(family, arm.way, arm.kind, arm.kernels, device), 4)
        if not row["logits_off"] < LIMITS[arm.kind]:
            raise ValueError(
                f"logits are off by {row['logits_off']}, more than {LIMITS[arm.kind]}: not timed"
            )
        found = measure(arm, small, device)
    except Exception as error:
        return row | {"error": f"{type(error).__name__}: {str(error)[:300]}"}
    finally:
        gc.collect()
        if device == "cuda":
            torch.compiler.reset()
            torch.cuda.empty_cache()
    work = WORKS[arm.work]
    config = config_of(work.family, 2 if small else work.layers, small)
    per_token = (4 if work.training else 2) * decoder_shape(config.to_dict()).matrices
    tflops = per_token * found["tokens_per_s"] / 1e12
    rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}
    return row | rounded | {
        "tflops": round(tflops, 3), "of_peak": round(tflops / peak, 3)
    }  # fmt: skip


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row with its speed as a multiple of its work's reference, where that was measured."""
    base = {r["work"]: r["tokens_per_s"] for r in rows if r["arm"] == "reference" and "tokens_per_s" in r}
    return [
        r | {"ratio": round(r["tokens_per_s"] / base[r["work"]], 2)}
        if r["work"] in base and "tokens_per_s" in r
        else r
        for r in rows
    ]


def table(rows: list[dict[str, Any]]) -> str:
    columns = ("tokens_per_s", "tflops", "of_peak", "gib", "ratio", "setup_s", "logits_off")
    head = ("tokens/s", "TFLOP/s", "of peak", "GiB", "ratio", "set-up s", "logits off by")
    lines = ["| work | arm | " + " | ".join(head) + " |", "|---" * (len(head) + 2) + "|"]
    for r in rows:
        cells = [f"{r[c]:,}" if c in r else "" for c in columns]
        note = r.get("error") or r.get("skipped") or ("" if r.get("kernels", True) else "without kernels")
        lines.append(f"| {r['work']} | {r['arm']} {note} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def refreshed(rates: dict[str, Any], rows: list[dict[str, Any]], about: dict[str, Any]) -> dict[str, Any]:
    """The table of `tiebreak.hardware.throughput` with what was measured here in place of older entries."""
    card = max((name for name in rates["peaks"] if name in about["card"].replace(" ", "")), key=len)
    source = f"benchmarks/results/{result_name(about)}.md"
    peaks = rates["peaks"] | {
        card: {"tflops": round(about["bf16_peak_tflops"]), "source": f"measured: {source}"}
    }
    entries = {(e["card"], e["work"], e["held"], round(e["parameters"], -8)): e for e in rates["rates"]}
    for row in rows:
        if row["arm"] in ("bf16", "fp8", "nf4") and "tflops" in row and row["kernels"]:
            work = WORKS[row["work"]]
            config = config_of(work.family, 80 if work.family == "llama" else work.layers, small=False)
            size = round(decoder_shape(config.to_dict()).matrices, -8)
            key = (card, "train" if work.training else "score", row["arm"], size)
            names = ("card", "work", "held", "parameters")
            entries[key] = dict(zip(names, key, strict=True)) | {
                "tflops": round(row["tflops"]), "source": f"measured: {source}, {work.title}"
            }  # fmt: skip
    return {"peaks": peaks, "rates": list(entries.values())}


def in_lines(rates: dict[str, Any]) -> str:
    """As JSON, an entry a line."""
    peaks = ",\n".join(
        f"    {json.dumps(card)}: {json.dumps(entry)}" for card, entry in rates["peaks"].items()
    )
    entries = ",\n".join(f"    {json.dumps(entry)}" for entry in rates["rates"])
    return f'{{\n  "peaks": {{\n{peaks}\n  }},\n  "rates": [\n{entries}\n  ]\n}}\n'


def result_name(about: dict[str, Any]) -> str:
    name = about["card"].removeprefix("NVIDIA ").split()[0].lower()
    return f"gpu-{name}-{about['date'][:7].replace('-', '')}"


def chosen_arms(names: Sequence[str]) -> list[Arm]:
    known = {arm.id: [arm] for arm in ARMS} | {w: [a for a in ARMS if a.work == w] for w in WORKS}
    if unknown := set(names) - set(known):
        sys.exit(f"no arm {sorted(unknown)[0]!r}; valid: {', '.join(known)}")
    return [arm for name in names for arm in known[name]] if names else list(ARMS)


def facts(device: str, peak: float) -> dict[str, Any]:
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=RESULTS, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    names = ("torch", "transformers", "triton", "peft", "bitsandbytes")
    return {
        "card": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "bf16_peak_tflops": round(peak, 1),
        "versions": {"python": platform.python_version()} | {n: v for n in names if (v := _version(n))},
        "commit": commit,
        "date": f"{date.today():%Y-%m-%d}",
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except ModuleNotFoundError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("arms", nargs="*", metavar="ARM")
    parser.add_argument("--into", type=Path, help="a file of rows to go on from and to add to")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    arms = chosen_arms(chosen.arms)
    if chosen.list:
        print(*(f"{arm.id:32} {asdict(arm)}" for arm in arms), sep="\n")
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not chosen.small:
        sys.exit("no GPU here; --small tries the script on a CPU")
    if chosen.small and chosen.write:
        sys.exit("--small measures nothing, so there is nothing to --write")
    began, peak = time.monotonic(), peak_tflops(device, 8192 if device == "cuda" else 256)
    lines = chosen.into.read_text().splitlines() if chosen.into and chosen.into.exists() else []
    rows = [row for row in map(json.loads, lines) if "error" not in row]
    done = {(row["work"], row["arm"]) for row in rows}
    for arm in arms:
        if (arm.work, arm.name) in done:
            continue
        if time.monotonic() - began > 60 * chosen.minutes:
            print(f"time is over before {arm.id}", file=sys.stderr)
            break
        rows.append(run(arm, chosen.small, device, peak))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        if chosen.into:
            chosen.into.parent.mkdir(parents=True, exist_ok=True)
            with chosen.into.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    rows = with_ratios(rows)
    about = facts(device, peak)
    text, line = table(rows), json.dumps({"benchmark": "gpu", **about, "arms": rows})
    print(text, line, sep="\n\n")
    if chosen.write:
        result = RESULTS / result_name(about)
        result.with_suffix(".json").write_text(line + "\n")
        result.with_suffix(".md").write_text(page(text, about))
        RATES.write_text(in_lines(refreshed(json.loads(RATES.read_text()), rows, about)))


def page(text: str, about: dict[str, Any]) -> str:
    titles = "\n".join(f"- `{name}`: {work.title}" for name, work in WORKS.items())
    return (
        f"# Scoring and training on one {about['card']}\n\n    python benchmarks/gpu.py --write\n\n{titles}\n\n"
        f"{text}\n\n{about['card']}, {about['bf16_peak_tflops']} TFLOP/s in a bf16 product of 8192; {about['versions']}; "
        f"commit {about['commit']}, {about['date']}. Random weights at real sizes. What the figures count is said in\n"
        "`benchmarks/gpu.py`.\n"
    )


if __name__ == "__main__":
    main()
