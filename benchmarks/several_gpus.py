"""A step shared by the GPUs of one machine: a 9B student and 70B teachers, by 1, 2, 4 or 8 cards.

    python benchmarks/several_gpus.py --cards 1 2 4 [--arms student ...] [--rows FILE] [--small] [--write]

Random weights at the models' real sizes, rows as long as those of arena votes (see benchmarks/gpu.py), the product's
own training loop; the first two optimizer steps are not timed.

    student          Gemma-2-9B in 16 bits, whole on each card (data parallel), 64 rows a step by all cards together
    teacher          Llama-3-70B, all 80 layers with an FP8 base, whole on each card, 32 rows a step and card
    teacher, spread  the same, its frozen weights spread over the cards by FSDP2, 16 rows a step and card
    16 bits, spread  as many of its layers in 16 bits as the cards hold together, spread, 16 rows a step and card
    Qwen2-72B        all 80 layers with an FP8 base, whole on each card, 32 rows a step and card

Models that are spread begin with two cards. FILE keeps each measured row: the same command goes on where it was stopped, and
several may run at once on different cards (CUDA_VISIBLE_DEVICES). Prints a table, then one line of JSON; --write keeps both
under benchmarks/results. --small runs tiny models, on CPUs over gloo too: a test of this script, no measurement.
"""

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from clock import peak_tflops
from gpu import our_training
from machine import table
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
RANK, BUDGET = 64, 8192
USED = 0.85
"""The share of the cards' memory that layers in 16 bits may take, activations included."""
COLUMNS = (
    "arm",
    "cards",
    "layers",
    "rows_a_step",
    "tokens_per_s",
    "tokens_per_s_a_card",
    "of_linear",
    "tflops_a_card",
    "of_peak",
    "gib",
    "layers_computed_again",
)


@dataclass(frozen=True)
class Arm:
    """A model, how its frozen weights are held, and the optimizer steps of which all but two are timed."""

    family: str
    kind: str
    rows: int
    a_card: bool = True
    spread: bool = False
    steps: int = 4

    def rows_a_step(self, cards: int) -> int:
        return self.rows * cards if self.a_card else self.rows


ARMS = {
    "student": Arm("gemma2", "dense", 64, a_card=False, steps=6),
    "teacher": Arm("llama", "fp8", 32),
    "teacher, spread": Arm("llama", "fp8", 16, spread=True),
    "16 bits, spread": Arm("llama", "dense", 16, spread=True),
    "Qwen2-72B": Arm("qwen2", "fp8", 32),
}


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
        own.fill_(float(name != "bias"))
    elif name == "lora_B":
        own.zero_()
    else:
        own.normal_(std=std)


def layers_that_fit(config: PreTrainedConfig, device: str, cards: int) -> int:
    """How many layers in 16 bits the cards hold together, each computed again in the backward."""
    if device == "cpu":
        return config.num_hidden_layers
    memory = torch.cuda.get_device_properties(0).total_memory
    for layers in range(config.num_hidden_layers, 0, -1):
        shape = decoder_shape(config.to_dict() | {"num_hidden_layers": layers})
        needed = memory_of(shape, "bf16", RANK, BUDGET, training=True, kept_layers=0)
        if needed.weights / cards + needed.adapters + needed.activations <= USED * memory:
            return layers
    raise SystemExit("not even one layer fits")


def measure(name: str, small: bool) -> dict[str, Any]:
    """One arm by the processes of this job: tokens/s of all together, and what the first card held at the peak."""
    where, arm = distributed.process_info(os.environ), ARMS[name]
    cards, device = where.world_size, "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.cuda.set_device(where.local_rank)
    peak = peak_tflops(device, 8192 if device == "cuda" else 256)
    config = config_of(arm.family, layers_of(arm, device, cards, small), small)
    rank, budget, rows = (16, 512, 4) if small else (RANK, BUDGET, arm.rows_a_step(cards))
    votes = votes_of(arm.steps * rows // 2, config.vocab_size, PROMPT_SHARE, 64 if small else LONGEST)
    with distributed.process_group(where, device, arm.spread) if cards > 1 else nullcontext():
        if arm.spread:
            classifier = spread(config, arm.kind, rank, device)
        else:
            classifier = build(config, arm.kind, rank, device, kernels=True, compiled=True)
        found = our_training(classifier, votes, rows, arm.steps, budget, 0.0)
    tflops = 4 * decoder_shape(config.to_dict()).matrices * found["tokens_per_s"] / 1e12
    return {
        "arm": name, "cards": cards, "layers": config.num_hidden_layers, "rows_a_step": rows,
        "tokens_per_s": round(found["tokens_per_s"], 1),
        "tokens_per_s_a_card": round(found["tokens_per_s"] / cards, 1),
        "tflops_a_card": round(tflops / cards, 3), "of_peak": round(tflops / cards / peak, 3),
        "bf16_peak_tflops": round(peak, 1), "gib": round(found["gib"], 1),
        "layers_computed_again": found["layers_computed_again"],
        "card": torch.cuda.get_device_name() if device == "cuda" else "CPU",
    }  # fmt: skip


def layers_of(arm: Arm, device: str, cards: int, small: bool) -> int:
    """All of the model's layers, or those in 16 bits that the cards hold together."""
    layers = 2 if small else 42 if arm.family == "gemma2" else 80
    if arm.spread and arm.kind == "dense":
        return layers_that_fit(config_of(arm.family, layers, small), device, cards)
    return layers


def run(name: str, cards: int, small: bool, file: Path) -> None:
    """Measure an arm by as many processes, which append its row to a file."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(cards)]
    command = [sys.executable, *(torchrun if cards > 1 else []), __file__, "--measure", name]
    environment = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"} | os.environ  # as the commands do
    subprocess.run(
        [*command, "--rows", str(file), *(["--small"] if small else [])], check=True, env=environment
    )


def rows_in(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def with_share_of_linear(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by arm and cards, each with its speed a card over that of the arm on its fewest cards."""
    ordered = sorted(rows, key=lambda row: (list(ARMS).index(row["arm"]), row["cards"]))
    fewest = {row["arm"]: row["tokens_per_s_a_card"] for row in reversed(ordered)}
    return [row | {"of_linear": round(row["tokens_per_s_a_card"] / fewest[row["arm"]], 3)} for row in ordered]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cards", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--rows", type=Path, help="a file that keeps each row as it is measured")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--measure", choices=ARMS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        row = measure(chosen.measure, chosen.small)
        if int(os.environ.get("RANK", "0")) == 0:
            with chosen.rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
        return
    if not torch.cuda.is_available() and not chosen.small:
        sys.exit("no GPU here; --small tries the script on a CPU")
    if chosen.small and chosen.write:
        sys.exit("--small measures nothing, so there is nothing to --write")
    with TemporaryDirectory() as scratch:
        file = chosen.rows or Path(scratch) / "rows.jsonl"
        for cards in chosen.cards:
            for name in chosen.arms:
                is_measured = (name, cards) in {(row["arm"], row["cards"]) for row in rows_in(file)}
                if not is_measured and (cards > 1 or not ARMS[name].spread):
                    run(name, cards, chosen.small, file)
        rows = with_share_of_linear(rows_in(file))
    about = {
        "benchmark": "several_gpus",
        "card": rows[0]["card"],
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers")},
        "date": f"{date.today():%Y-%m-%d}",
    }
    shown, line = table(COLUMNS, rows), json.dumps(about | {"rows": rows})
    print(shown, line, sep="\n\n")
    if chosen.write:
        kind = about["card"].removeprefix("NVIDIA ").split()[0].lower()
        result = RESULTS / f"several-gpus-{kind}-{about['date'][:7].replace('-', '')}"
        result.with_suffix(".json").write_text(line + "\n")
        command = f"    python benchmarks/several_gpus.py {' '.join(sys.argv[1:])}"
        facts = "\n".join(f"- {key}: {value}" for key, value in about.items())
        result.with_suffix(".md").write_text(f"# A step shared by GPUs\n\n{command}\n\n{facts}\n\n{shown}\n")


if __name__ == "__main__":
    main()
