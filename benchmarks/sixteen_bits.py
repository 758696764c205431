"""What 16 bits and the kernels change beside fp32 on a pretrained model, what the check says of them, and the speed.

    python benchmarks/sixteen_bits.py FOLDER [--write]

FOLDER: a decoder with pretrained weights: massive activations, which make gradients ill-conditioned, are learned. Logits
and gradients of LoRA adapters on a few short texts, relative to fp32 in the Euclidean norm; one of the ways is fp32
itself whose embeddings have noise of the size of bf16's rounding, once. Then how far attentions and layers are from
fp32 one by one, which is what decides whether the kernels are used, and a LoRA step's speed at two sizes of forwards.
Prints a table, then one line of JSON; --write keeps both under benchmarks/results. A CPU runs plain ways only.
"""

import argparse
import gc
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clock import peak_gib, timed
from gpu import facts
from torch import Tensor

from tiebreak.model.classifier import Classifier, load_adapted
from tiebreak.model.fast import compile, kernel_check
from tiebreak.model.fast.kernel_variants import Deviation, compare_layers
from tiebreak.model.lora import adapted_layers, adapter_state
from tiebreak.recipe.models import Lora
from tiebreak.tokens.packing import Packed, fixed_length, pack

LORA = Lora(rank=64, alpha=128, dropout=0.0)
B_STD = 0.002
"""Of the adapters' B, as a short training leaves it."""
ROUNDING = 2.0**-9
BUDGETS = {"cuda": (16384, 65536), "cpu": (2048,)}
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Way:
    """name: its row. noise: on the embeddings."""

    name: str
    precision: str
    kernels: bool
    noise: float = 0.0


WAYS = (
    Way("fp32", "fp32", False),
    Way("fp32, noise of 2^-9 on embeddings", "fp32", False, ROUNDING),
    Way("bf16, plain", "bf16", False),
    Way("bf16, kernels", "bf16", True),
    Way("fp16, kernels", "fp16", True),
    Way("fp8, kernels", "fp8", True),
)


def build(folder: Path, way: Way, device: str) -> Classifier:
    classifier = load_adapted(folder, LORA, None, way.precision, device)
    with torch.no_grad():
        for number, (_, layer) in enumerate(sorted(adapted_layers(classifier.model))):
            layer.lora_B.copy_(B_STD * _normal(layer.lora_B, number))
        embeddings = classifier.model.get_input_embeddings().weight
        if way.noise:
            embeddings.mul_(1 + way.noise * _normal(embeddings, 0))
    if not way.kernels:
        classifier.fixed = False
        compile.uncompile_layers(classifier.model)
    classifier.model.train()
    return classifier


def _normal(like: Tensor, seed: int) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed)).to(like)


def outcome(classifier: Classifier) -> tuple[Tensor, Tensor]:
    """Logits of the check's texts, and the adapters' gradient as one vector, in the order of the files' names."""
    documents = kernel_check.sample_documents(classifier)
    tokens = fixed_length(sum(map(len, documents)), BUDGETS["cuda"][0]) if classifier.fixed else None
    z_DC = classifier.logits(pack(documents, tokens).to(classifier.device))
    (z_DC * torch.linspace(-1, 1, z_DC.numel(), device=z_DC.device).view_as(z_DC)).sum().backward()
    kept = {name: p.data for name, p in classifier.trainable().items()}
    for p in classifier.trainable().values():
        p.data, p.grad = p.grad, None  # so that the files' names put them in order
    state = adapter_state(classifier.model, with_head=False)
    for name, p in classifier.trainable().items():
        p.data = kept[name]
    return z_DC.detach().cpu(), torch.cat([state[name].flatten() for name in sorted(state)])


def beside_fp32(way: Way, ours: tuple[Tensor, Tensor], exact: tuple[Tensor, Tensor]) -> dict[str, float]:
    (z, gradient), (exact_z, exact_gradient) = ours, exact
    return {
        "logits_off": float((z - exact_z).norm() / exact_z.norm()),
        "gradient_off": float((gradient - exact_gradient).norm() / exact_gradient.norm()),
        "gradient_cosine": float(torch.cosine_similarity(gradient, exact_gradient, dim=0)),
    }


def judged(classifier: Classifier, budget: int) -> dict[str, Any]:
    """Whether the check keeps the kernels, and the largest distances that it saw."""
    began = time.perf_counter()
    parts = list(compare_layers(classifier, kernel_check.sample_documents(classifier), budget, training=True))
    of_kind = {kind: [part for part in parts if part.kind == kind] for kind in kernel_check.FLOORS}
    return {
        "accepted": all(kernel_check.excess(part) <= 0 for part in parts),
        "worst": _said(max(parts, key=kernel_check.excess)),
        "check_s": round(time.perf_counter() - began, 1),
        **{f"{kind}_kernels": max(part.kernels for part in own) for kind, own in of_kind.items()},
        **{f"{kind}_plain": max(part.plain for part in own) for kind, own in of_kind.items()},
    }


def _said(part: Deviation) -> str:
    return f"{part.kind} {part.number}, {part.tensor}: {part.kernels:.4f} beside {part.plain:.4f}"


def full(classifier: Classifier, budget: int) -> tuple[Packed, int]:
    """A full forward of rows of usual lengths, and its own tokens."""
    generator = np.random.default_rng(0)
    lengths = np.clip(generator.lognormal(6.2, 0.6, budget // 64), 32, min(1024, budget)).astype(int)
    lengths = lengths[np.cumsum(lengths) <= budget]
    vocabulary = classifier.model.config.vocab_size
    rows = [generator.integers(0, vocabulary, length).astype(np.int32) for length in lengths]
    return pack(rows, budget if classifier.fixed else None).to(classifier.device), int(lengths.sum())


def speed(classifier: Classifier, budget: int, steps: int) -> float:
    """Tokens a second of a forward and backward."""
    packed, tokens = full(classifier, budget)

    def step() -> None:
        classifier.logits(packed).sum().backward()

    for _ in range(3):
        step()
    return steps * tokens / timed(lambda: [step() for _ in range(steps)])


def measure(folder: Path, device: str) -> Iterator[dict[str, Any]]:
    exact: tuple[Tensor, Tensor] | None = None
    for way in WAYS if device == "cuda" else [way for way in WAYS if not way.kernels]:
        classifier = build(folder, way, device)
        ours = outcome(classifier)
        exact = exact or ours
        row: dict[str, Any] = {"way": way.name} | beside_fp32(way, ours, exact)
        if way.kernels:
            row |= judged(classifier, BUDGETS[device][0])
        if not way.noise and way.precision != "fp16":
            row["tokens_per_s"] = {b: round(speed(classifier, b, 6)) for b in BUDGETS[device]}
            row["gib"] = round(peak_gib(), 1)
        yield row
        del classifier, ours
        gc.collect()
        torch.cuda.empty_cache()


def table(rows: list[dict[str, Any]], budgets: tuple[int, ...]) -> str:
    heads = ("logits off by", "gradient off by", "cosine", "kernels are kept")
    heads += tuple(f"tokens/s, {budget:,} a forward" for budget in budgets)
    lines = ["| way | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for row in rows:
        cells = [f"{row[key]:.4f}" for key in ("logits_off", "gradient_off", "gradient_cosine")]
        cells.append(("yes" if row["accepted"] else "no: " + row["worst"]) if "accepted" in row else "")
        cells += [f"{row['tokens_per_s'][b]:,}" if "tokens_per_s" in row else "" for b in budgets]
        lines.append(f"| {row['way']} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| way | attentions off by, plain | with kernels | layers, plain | with kernels |",
        "|---" * 5 + "|",
    ]
    lines += [
        f"| {row['way']} | {row['attention_plain']:.4f} | {row['attention_kernels']:.4f} "
        f"| {row['layer_plain']:.4f} | {row['layer_kernels']:.4f} |"
        for row in rows
        if "accepted" in row
    ]
    return "\n".join(lines)


def page(text: str, about: dict[str, Any]) -> str:
    return (
        f"# 16 bits beside fp32, pretrained weights\n\n    python benchmarks/sixteen_bits.py FOLDER --write\n\n"
        f"{text}\n\nBase: {about['base']}; {about['card']}; {about['versions']}; commit {about['commit']}, "
        f"{about['date']}. What the columns are is said in `benchmarks/sixteen_bits.py`. The second table has the\n"
        "largest mean relative error of a row in any output or gradient of an attention or a layer.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if chosen.write and device == "cpu":
        sys.exit("a CPU runs plain ways only, so there is nothing to --write")
    rows = []
    for row in measure(chosen.folder, device):
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    about = {"base": chosen.folder.name} | facts(device, 0.0)
    del about["bf16_peak_tflops"]  # not measured here
    text, line = (
        table(rows, BUDGETS[device]),
        json.dumps({"benchmark": "sixteen_bits", **about, "rows": rows}),
    )
    print(text, line, sep="\n\n")
    if chosen.write:
        result = RESULTS / f"sixteen-bits-{about['card'].removeprefix('NVIDIA ').split()[0].lower()}-202611"
        result.with_suffix(".json").write_text(line + "\n")
        result.with_suffix(".md").write_text(page(text, about))


if __name__ == "__main__":
    main()
