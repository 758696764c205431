"""Latency of one pair, and what loading a judge spends its seconds on.

    python benchmarks/latency.py [--device cpu] [--shapes tiny 135m] [--times 200] [--write NAME]
    python benchmarks/latency.py --device cuda --shapes tiny 135m 9b

Judges have random weights, in bf16 on a card and fp32 on a CPU, at the dimensions of a tiny Llama, SmolLM2-135M and
Gemma-2-9B. Each is a process of its own. A pair is asked alone, in both orders or the stored one, with short answers (some 60
tokens a row) or long ones (some 1,500). `plain` is the reference in the same run: transformers' own model on the same rows,
padded, with no calibration. On a CPU that others use, set OMP_NUM_THREADS to less than its cores; the load average over the last
1, 5 and 15 minutes, this script among it, is in the result. Load is imports (of a process that has imported nothing), weights (reading and hashing the
folder) and warm-up (the first pair, on a card with its compilation). Prints a table, then one line of JSON.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from machine import processor, table

RESULTS = Path(__file__).parent / "results"
SHAPES: dict[str, tuple[str, dict[str, int]]] = {
    "tiny": ("llama", {"hidden": 64, "layers": 2, "heads": 4}),
    "135m": (
        "llama",
        {
            "hidden_size": 576,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "head_dim": 64,
            "intermediate_size": 1536,
        },
    ),
    "9b": (
        "gemma2",
        {
            "hidden_size": 3584,
            "num_hidden_layers": 42,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 256,
            "intermediate_size": 14336,
        },
    ),
}
WORDS = "why is the sky blue red good answer long short because light water never always code list".split()
LENGTHS = {"short": 20, "long": 480}
"""Words of the prompt and of each answer."""
COLUMNS = ("shape", "pair", "orders", "arm", "tokens", "p50_ms", "p99_ms", "times")
LOADING = ("shape", "imports_s", "weights_s", "warm_up_s")


def write_judge(folder: Path, shape: str, dtype: str, device: str) -> None:
    """A random judge of the shape, packaged as a run would; its words are few, so that the embeddings are small."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    from tiebreak.judge import package
    from tiebreak.model import tiny
    from tiebreak.recipe.schema import Prompt, Tta

    family, sizes = SHAPES[shape]
    small = sizes if shape == "tiny" else {}
    tiny.make(folder / "bare", family, [" ".join(WORDS)] * 20, vocab=400, **small)  # type: ignore[arg-type]
    config = AutoConfig.from_pretrained(folder / "bare")
    config.update({} if shape == "tiny" else sizes)
    config.update({"num_labels": 3, "id2label": {0: "a", 1: "b", 2: "tie"}, "layer_types": None})
    config = type(config)(**{k: v for k, v in config.to_dict().items() if k != "layer_types"})
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, dtype))
    with torch.device(device):  # a card draws nine billion weights in a second
        model = AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(folder / "bare").save_pretrained(folder / "model")
    shipped = package.Package(prompt=Prompt(), tta=Tta(max_tokens=2000), calibration={"temperature": 1.0})
    package.write(shipped, folder / "model")


def pair(length: str) -> dict[str, str]:
    words = [WORDS[n % len(WORDS)] for n in range(LENGTHS[length])]
    return {
        "prompt": " ".join(words),
        "response_a": " ".join(words[::-1]),
        "response_b": " ".join(words[1:] + words[:1]),
    }


def measure(folder: Path, device: str, times: int) -> dict[str, Any]:
    """Seconds of loading and percentiles of one pair, in this process."""
    start = time.perf_counter()
    import tiebreak.judge.judge

    imported = time.perf_counter()
    judge = tiebreak.load(folder, device=device)
    loaded = time.perf_counter()
    judge.predict([pair("short")])
    warm = time.perf_counter()
    loading = {
        "imports_s": round(imported - start, 2),
        "weights_s": round(loaded - imported, 2),
        "warm_up_s": round(warm - loaded, 2),
    }
    rows = []
    for length in LENGTHS:
        for orders in (2, 1):
            asked = [pair(length)]
            arms: dict[str, Callable[[], object]] = {
                "tiebreak": lambda asked=asked, both=orders == 2: judge.predict(asked, both),
                "plain": plain(judge, asked, orders),
            }
            tokens = len(judge._tokens(tiebreak.judge.inputs.as_table(asked)[0]).row(0, 0, 2000))
            for arm, ask in arms.items():
                figures = percentiles(ask, times)
                rows.append({"pair": length, "orders": orders, "arm": arm, "tokens": tokens, **figures})
    return {"loading": loading, "rows": rows}


def plain(judge: Any, asked: list[dict[str, str]], orders: int) -> Callable[[], object]:
    """Transformers' own model on the same rows: tokens are made anew each time, as the judge does."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from tiebreak.judge.inputs import as_table
    from tiebreak.tokens.prompt import tokenize

    device, folder = judge.classifier.device, judge.folder
    dtype = torch.float32 if str(device) == "cpu" else torch.bfloat16
    model = AutoModelForSequenceClassification.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation="eager" if "Gemma" in type(judge.classifier.model).__name__ else "sdpa",
    ).to(device)
    pad = model.config.pad_token_id = model.config.pad_token_id or 0

    def ask() -> object:
        votes = tokenize(as_table(asked)[0], judge.classifier.tokenizer, judge.package.prompt)
        rows = [torch.from_numpy(votes.row(0, order, 2000)).long() for order in range(orders)]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        with torch.inference_mode():
            return (
                model(ids.to(device), attention_mask=mask.to(device), use_cache=False)
                .logits.softmax(-1)
                .cpu()
            )

    return ask


def percentiles(ask: Callable[[], object], times: int) -> dict[str, Any]:
    """Median and 99th percentile in ms, of `times` calls or as many as fit in 30 s, after one."""
    import numpy as np

    ask()
    seconds: list[float] = []
    while len(seconds) < times and sum(seconds) < 30:
        start = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - start)
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    return {"p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2), "times": len(seconds)}


def run(shape: str, device: str, times: int) -> dict[str, Any]:
    with TemporaryDirectory(prefix="tiebreak-latency-") as name:
        write_judge(Path(name), shape, "float32" if device == "cpu" else "bfloat16", device)
        command = [
            sys.executable,
            __file__,
            "--measure",
            f"{name}/model",
            "--device",
            device,
            "--times",
            str(times),
        ]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["tiny", "135m"])
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--write", help="a name under benchmarks/results, such as latency-cpu-202611")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(Path(arguments.measure), arguments.device, arguments.times)))
        return
    found = {shape: run(shape, arguments.device, arguments.times) for shape in arguments.shapes}
    rows = [{"shape": shape, **row} for shape, one in found.items() for row in one["rows"]]
    loading = [{"shape": shape, **one["loading"]} for shape, one in found.items()]
    about = {
        "benchmark": "latency",
        "date": date.today().isoformat(),
        "device": arguments.device,
        "processor": processor(),
        "cores": os.cpu_count(),
        "load average": [round(load, 1) for load in os.getloadavg()],
        "threads": os.environ.get("OMP_NUM_THREADS", "as many as torch takes"),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers")},
    }
    if arguments.device != "cpu":
        import torch

        about["card"] = torch.cuda.get_device_name(arguments.device)
    shown = f"{table(COLUMNS, rows)}\n\n{table(LOADING, loading)}"
    line = json.dumps(about | {"rows": rows, "loading": loading})
    print(shown, line, sep="\n\n")
    if arguments.write:
        (RESULTS / f"{arguments.write}.json").write_text(line + "\n", encoding="utf-8")
        (RESULTS / f"{arguments.write}.md").write_text(page(shown, about, arguments), encoding="utf-8")


CAVEATS = """Weights are random, and the vocabulary has 400 tokens. Where the load average is above the cores, others' work is
in every figure: compare the arms, not the seconds, and of fewer than 20 times not even these. Percentiles of so few calls are
the slowest ones."""


def page(shown: str, about: dict[str, Any], arguments: argparse.Namespace) -> str:
    facts = "\n".join(f"- {name}: {value}" for name, value in about.items())
    shapes = " ".join(arguments.shapes)
    command = f"python benchmarks/latency.py --device {arguments.device} --shapes {shapes} --times {arguments.times}"
    return f"# Latency of one pair\n\n    {command} --write {arguments.write}\n\n{facts}\n\n{CAVEATS}\n\n{shown}\n"


if __name__ == "__main__":
    main()
