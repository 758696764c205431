"""A step shared by the GPUs of one machine: a 9B student in data parallel, a 70B teacher with its weights spread.

    torchrun --nproc-per-node 2 benchmarks/two_gpus.py [--who student] [--small] [--write]

Random weights at the models' real sizes, rows as long as those of arena votes (see benchmarks/gpu.py), the product's
own training loop: 64 rows an optimizer step of the student over all processes, 32 of the teacher, the first two steps not
timed.

    student, one GPU        Gemma-2-9B, bf16, by the first process alone: the reference
    student, data parallel  the same steps shared
    teacher, FP8            Llama-3-70B, all 80 layers with an FP8 base, spread by FSDP2
    teacher, 16 bits        as many of its layers as the cards hold together, spread by FSDP2

Prints a table, then one line of JSON; --write keeps both under benchmarks/results. --small runs tiny models, on CPUs
over gloo too: a test of this script, no measurement.
"""

import argparse
import gc
import json
import logging
import os
import platform
import sys
from collections.abc import Callable, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from clock import peak_tflops
from gpu import our_training
from sizes import LONGEST, PROMPT_SHARE, build, config_of, votes_of
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedConfig

from tiebreak import distributed
from tiebreak.hardware.memory_model import decoder_shape, memory_of
from tiebreak.model import streaming_loader
from tiebreak.model.classifier import Classifier
from tiebreak.model.fast import compile as kernels
from tiebreak.model.fast.fsdp import shard
from tiebreak.model.fast.fused_linears import FusedLinear, fused_linears
from tiebreak.recipe.models import Lora

log = logging.getLogger(__name__)

RESULTS = Path(__file__).parent / "results"
RANK = 64
STEPS = {"student": 5, "teacher": 3}
ROWS = {"student": 64, "teacher": 32}
USED = 0.85
"""The share of the cards' memory that layers in 16 bits may take, activations included."""


def spread(config: PreTrainedConfig, kind: str, rank: int, device: str) -> Classifier:
    """Random frozen weights, each process making those that it keeps: whole, they fit no card."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = streaming_loader.empty_model(
        config, dtype, "meta", kind, Lora(rank=rank, alpha=2 * rank, dropout=0.05)
    )
    model.model.rotary_emb = type(model.model.rotary_emb)(config, device=device)
    for module in (model.model.embed_tokens, model.model.norm, model.score):
        module.to_empty(device=device)
    model.requires_grad_(False)
    for stack in fused_linears(model):
        stack.unfreeze_adapters()
    fixed = kernels.compile_if_supported(model, device)
    shard(model, device)
    log.info("%d layers are spread", len(model.model.layers))
    with torch.no_grad():
        for module in model.modules():
            for name, p in module.named_parameters(recurse=False):
                randomise(name, p, module.inputs**-0.5 if isinstance(module, FusedLinear) else 0.02)
    model.score.float().requires_grad_(True)
    return Classifier(model, None, head_trained=True, fixed=fixed)  # type: ignore[arg-type]


def randomise(name: str, parameter: nn.Parameter, std: float) -> None:
    """Fill what this process has of a parameter: speed depends on shapes, not on values.

    A stack's std is such that no layer blows up what it is given, as in `sizes.fill`: 80 layers that do are chaos,
    in which the product's check of kernels against plain attention sees rounding alone as a difference.
    """
    own = parameter.to_local() if isinstance(parameter, DTensor) else parameter
    if name == "codes":
        for block in own.view(torch.float8_e4m3fn).split(1024):
            block.copy_((torch.randn(block.shape, device=block.device) * 60).to(torch.float8_e4m3fn))
    elif name in ("scales", "factor"):
        own.fill_(std / 60)
    elif own.ndim < 2:
        own.fill_(1.0)
    elif name == "lora_B":
        own.zero_()
    else:
        own.normal_(std=std)


def layers_that_fit(config: PreTrainedConfig, budget: int, device: str, size: int) -> int:
    """How many layers in 16 bits the cards hold together, each computed again in the backward."""
    if device == "cpu":
        return config.num_hidden_layers
    memory = torch.cuda.get_device_properties(0).total_memory
    for layers in range(config.num_hidden_layers, 0, -1):
        shape = decoder_shape(config.to_dict() | {"num_hidden_layers": layers})
        needed = memory_of(shape, "bf16", RANK, budget, training=True, kept_layers=0)
        if needed.weights / size + needed.adapters + needed.activations <= USED * memory:
            return layers
    raise SystemExit("not even one layer fits")


def measure(classifier: Classifier, who: str, small: bool, budget: int) -> dict[str, float]:
    """tokens/s of all processes together, and what the first one's card held at the peak."""
    rows, steps = 8 if small else ROWS[who], STEPS[who]
    vocabulary = classifier.model.config.vocab_size
    votes = votes_of(steps * rows // 2, vocabulary, PROMPT_SHARE, 64 if small else LONGEST)
    return our_training(classifier, votes, rows, steps, budget, 0.0)


def row(
    arm: str, config: PreTrainedConfig, found: dict[str, float], peak: float, cards: int
) -> dict[str, Any]:
    tflops = 4 * decoder_shape(config.to_dict()).matrices * found["tokens_per_s"] / 1e12
    return {
        "arm": arm, "layers": config.num_hidden_layers, "cards": cards,
        "tokens_per_s": round(found["tokens_per_s"], 1), "tflops_a_card": round(tflops / cards, 3),
        "of_peak": round(tflops / cards / peak, 3), "gib": round(found["gib"], 1),
        "layers_computed_again": found["layers_computed_again"],
    }  # fmt: skip


def together(
    where: distributed.ProcessInfo, device: str, shard_model: bool, work: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """One arm by all processes; its memory is free again afterwards."""
    with distributed.process_group(where, device, shard_model):
        found = work()
    free(device)
    return found


def free(device: str) -> None:
    gc.collect()
    if device == "cuda":
        torch.compiler.reset()
        torch.cuda.empty_cache()


def arms(
    where: distributed.ProcessInfo, who: Sequence[str], small: bool, device: str, peak: float
) -> list[dict[str, Any]]:
    rank, budget = (16, 512) if small else (RANK, 8192)
    size = where.world_size
    student = config_of("gemma2", 2 if small else 42, small)
    teacher = config_of("llama", 4 if small else 80, small)
    dense = config_of("llama", layers_that_fit(teacher, budget, device, size), small)

    def one() -> dict[str, Any]:
        return row(
            "student, one GPU",
            student,
            measure(build(student, "dense", rank, device, True, True), "student", small, budget),
            peak,
            1,
        )

    def shared(arm: str, config: PreTrainedConfig, kind: str, is_spread: bool) -> dict[str, Any]:
        make = spread if is_spread else lambda *a: build(*a, kernels=True, compiled=True)
        who = arm.partition(",")[0]
        return row(arm, config, measure(make(config, kind, rank, device), who, small, budget), peak, size)

    rows = [one()] if where.rank == 0 and "student" in who else []
    if rows:
        print(json.dumps(rows[0]), file=sys.stderr, flush=True)
    free(device)
    plan = [
        ("student, data parallel", student, "dense", False),
        ("teacher, FP8", teacher, "fp8", True),
        ("teacher, 16 bits", dense, "dense", True),
    ]
    for arm, config, kind, is_spread in plan:
        if arm.partition(",")[0] not in who:
            continue
        rows.append(
            together(
                where, device, is_spread, lambda a=arm, c=config, k=kind, s=is_spread: shared(a, c, k, s)
            )
        )
        if where.rank == 0:
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def speed_up(rows: list[dict[str, Any]]) -> float | None:
    """Of the student by all cards over one of them, where it was measured."""
    speed = {r["cards"]: r["tokens_per_s"] for r in rows if r["arm"].startswith("student")}
    return round(speed[max(speed)] / speed[1], 2) if speed else None


def table(rows: list[dict[str, Any]]) -> str:
    head = ("arm", "layers", "cards", "tokens/s", "TFLOP/s a card", "of peak", "GiB", "layers computed again")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(str(value) for value in r.values()) + " |" for r in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--who", choices=tuple(ROWS), help="only these arms")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not chosen.small:
        sys.exit("no GPU here; --small tries the script on a CPU")
    if chosen.small and chosen.write:
        sys.exit("--small measures nothing, so there is nothing to --write")
    where = distributed.process_info(os.environ)
    if where.world_size < 2:
        sys.exit("one process shares nothing; start with: torchrun --nproc-per-node 2 benchmarks/two_gpus.py")
    if device == "cuda":
        torch.cuda.set_device(where.local_rank)
    peak = peak_tflops(device, 8192 if device == "cuda" else 256)
    if where.rank == 0:  # when an arm is built, checked and tried out
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    rows = arms(where, [chosen.who] if chosen.who else list(ROWS), chosen.small, device, peak)
    if where.rank:
        return
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    about = {
        "card": name,
        "cards": where.world_size,
        "bf16_peak_tflops": round(peak, 1),
        "student_speed_up": speed_up(rows),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("torch", "transformers")},
        "date": f"{date.today():%Y-%m-%d}",
    }
    text, line = table(rows), json.dumps({"benchmark": "two_gpus", **about, "rows": rows})
    print(text, line, sep="\n\n")
    if chosen.write:
        kind = name.removeprefix("NVIDIA ").split()[0].lower()
        result = RESULTS / f"two_gpus-{kind}-{about['date'][:7].replace('-', '')}"
        result.with_suffix(".json").write_text(line + "\n")
        command = f"    torchrun --nproc-per-node {where.size} benchmarks/two_gpus.py --write"
        facts = "\n".join(f"- {key}: {value}" for key, value in about.items())
        result.with_suffix(".md").write_text(f"# A step shared by GPUs\n\n{command}\n\n{text}\n\n{facts}\n")


if __name__ == "__main__":
    main()
