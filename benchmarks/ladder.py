"""What each step of the recipe is worth: log loss above the best possible, on votes whose truth is known.

    python benchmarks/ladder.py --work FOLDER [--seeds 5] [--votes 7000] [--write]

Every variant is the recipe with a few keys set, run through the pipeline itself, so that variants share artifacts
and a stopped benchmark goes on. A seed has its own votes, preference pairs and random models. The excess of a
prediction is its mean KL divergence from the true probabilities over the lockbox: the expected log loss above
the best possible. Steps 1 to 5 are means over the folds' models, answers in the order stored.

Intervals are Student's t over the seeds' own figures, each of them paired by vote: seeds differ in votes and
models, so what varies between them holds the chance of rows too. Prints a table, then one line of JSON.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from machine import processor
from scipy.stats import t as student_t
from scipy.stats import ttest_1samp

import tiebreak
from tiebreak.engine.planner import select
from tiebreak.engine.task_runner import run_task, use_threads
from tiebreak.engine.workspace import Workspace
from tiebreak.evaluate.build_metrics import votes_with_logits
from tiebreak.judge import logits
from tiebreak.judge.logits import ModelLogits
from tiebreak.judge.tta import certainty_threshold, tta_probabilities
from tiebreak.pipeline.graph import Task
from tiebreak.recipe.execution import Compute
from tiebreak.recipe.schema import Tta
from tiebreak.stats.metrics import Array, Estimate, prior_prediction
from tiebreak.votes import synthetic
from tiebreak.votes.schema import LABELS, LOCKBOX, SCHEMA, read_table, rows_of, write_table

VOTES = 7_000
FOLDS = 3
WORLD = replace(synthetic.DEMO, noise=0.3)
OTHER_TASTE = replace(synthetic.DEMO, formatting=0.6, length=0.8, topic=1.3)
"""Whose preference pairs step 1 learns from: judges who weigh the same things a little otherwise, and never err."""

CONFIDENCE = 0.95
RESULT = Path(__file__).parent / "results" / "ladder-cpu-202611"

LORA = {"rank": 16, "alpha": 32, "dropout": 0.0}
TRAINING = {
    "epochs": 1,
    "learning_rate": 1e-3,
    "head_rate": 10,
    "rows_per_step": 32,
    "max_tokens": 256,
    "warmup_steps": 10,
}
STUDENT = {"base": "models/gemma", "precision": "fp32", "lora": LORA}
RECIPE: dict[str, Any] = {
    "name": "ladder",
    "data": {"votes": ["data/votes.parquet"], "preferences": ["data/preferences.parquet"]},
    "models": {
        "teachers": {"llama": {"base": "models/llama", "precision": "fp32", "lora": LORA}},
        "student": STUDENT,
    },
    "prompt": {"prompt_tokens": 64},
    "split": {"count": FOLDS, "lockbox_share": 0.25, "calibration_share": 0.05},
    "post_pretrain": {"training": TRAINING},
    "teach": {"training": TRAINING},
    "logits": {"max_tokens": 256},
    "distill": {"training": TRAINING},
    "average": {"method": "exact"},
    "quantize": {"group": 32, "calibration_rows": 128, "max_tokens": 256},
    "tta": {"max_tokens": 256},
}

ALONE = ("models.teachers=" + json.dumps({"student": STUDENT}), "logits.subset_votes=1")
"""The student in the place of the teacher: it learns from labels alone, and need not score what it learned."""

OURS = (
    "distill.label_weight=0.3",
    "distill.kl_weight=2.8",  # 0.7 T^2
    "distill.cosine_weight=0",
    "distill.temperature=2",
    "distill.average_orders=true",
)
OUT_OF_FOLD = (*OURS, "logits.soft_labels=out_of_fold")
SELF_TAUGHT = (ALONE[0], *OUT_OF_FOLD)
UNLABELLED = 'data.unlabelled=["data/unlabelled.parquet"]'


@dataclass(frozen=True)
class Variant:
    """One way of predicting: what is set, which artifacts hold it, how, and which variant it is compared with.

    share: of the calibration votes, the least certain, which sets the certainty below which both
    orders count.
    """

    name: str
    sets: tuple[str, ...]
    tasks: str
    below: str
    both_orders: bool = False
    calibrated: bool = False
    blended: bool = False
    share: float = 1.0


PUBLISHED, EXACT = "average, published", "average, exact"
VARIANTS = (
    Variant("teacher", (), "score/", "class prior"),
    Variant("simple model", (), "baseline/", "class prior", both_orders=True),
    Variant("student on hard labels", (*ALONE, "post_pretrain.enabled=false"), "score/", "class prior"),
    Variant("+ post-pretraining", ALONE, "score/", "student on hard labels"),
    Variant("+ distillation, published loss", (), "distill/", "+ post-pretraining"),
    Variant("+ our loss", OURS, "distill/", "+ distillation, published loss"),
    Variant("+ out-of-fold soft labels", OUT_OF_FOLD, "distill/", "+ our loss"),
    Variant(
        "+ half as many pairs without votes",
        (*OUT_OF_FOLD, UNLABELLED),
        "distill/",
        "+ out-of-fold soft labels",
    ),
    Variant("students taught by students", SELF_TAUGHT, "distill/", "+ post-pretraining"),
    Variant(
        "students' predictions blended", OUT_OF_FOLD, "distill/", "+ out-of-fold soft labels", blended=True
    ),
    Variant(
        PUBLISHED, (*OUT_OF_FOLD, "average.method=published"), "predict/averaged", "+ out-of-fold soft labels"
    ),
    Variant(EXACT, OUT_OF_FOLD, "predict/averaged", PUBLISHED),
    Variant("+ 8 bits (GPTQ)", OUT_OF_FOLD, "predict/quantized", EXACT),
    Variant(
        "both orders for the least certain 40 %",
        OUT_OF_FOLD,
        "predict/quantized",
        "+ 8 bits (GPTQ)",
        share=0.4,
    ),
    Variant("+ both orders", OUT_OF_FOLD, "predict/quantized", "+ 8 bits (GPTQ)", True),
    Variant("+ temperature", OUT_OF_FOLD, "predict/quantized", "+ both orders", True, True),
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--work", type=Path, required=True, help="folder of what is being made")
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--votes", type=int, default=VOTES, help="fewer are a test of this script")
    arguments.add_argument("--processes", type=int, default=1, help="seeds side by side, a core each")
    arguments.add_argument("--write", action="store_true")
    chosen = arguments.parse_args()
    if chosen.write and chosen.votes != VOTES:
        sys.exit(f"--write is for the figures of {VOTES} votes")
    with ProcessPoolExecutor(chosen.processes, mp_context=get_context("spawn")) as pool:
        each = [pool.submit(cached, chosen.work, seed, chosen.votes) for seed in range(chosen.seeds)]
        found = [seed.result() for seed in each]
    rows = summary([seed["excess"] for seed in found])
    facts = {
        "votes": chosen.votes,
        "relation": WORLD.relation,
        "seeds": len(found),
        "best_possible_log_loss": round(best_possible(), 4),
        "cpu_seconds_a_seed": round(float(np.mean([seed["cpu_seconds"] for seed in found]))),
        "processor": f"{processor()}, one of {os.cpu_count()} cores",
        "python": platform.python_version(),
        "tiebreak": tiebreak.__version__,
        **{name: version(name) for name in ("torch", "transformers", "llmcompressor")},
    }
    table = "\n".join(markdown(rows))
    line = json.dumps({"benchmark": "ladder", **facts, "rows": rows, "found": found})
    print(table, line, sep="\n\n")
    if chosen.write:  # what the figures show is then said by hand, below them
        RESULT.with_suffix(".json").write_text(line + "\n")
        RESULT.with_suffix(".md").write_text(page(table, facts))


def prepare(folder: Path, seed: int, count: int) -> None:
    """Votes, other pairs, tiny models and the recipe of one seed; the recipe comes last."""
    from tiebreak.model import tiny

    if (folder / "recipe.yaml").exists():
        return
    synthetic.write(folder, count, seed, WORLD)
    pairs = synthetic.preferences(count // 2, 3 * seed + 1, OTHER_TASTE)
    write_table(pairs, folder / "data" / "preferences.parquet")
    more = synthetic.generate(count // 2, 10_000 + seed, WORLD).select(SCHEMA.names)
    write_table(more, folder / "data" / "unlabelled.parquet")  # votes in this role are not read
    votes = read_table(folder / "data" / "votes.parquet")
    texts = list(islice(_texts(votes.slice(0, count // 4)), 20_000))
    (folder / "models").mkdir(exist_ok=True)
    tiny.make(folder / "models" / "llama", "llama", texts, seed, hidden=96, layers=3, initializer_range=0.06)
    tiny.make(folder / "models" / "gemma", "gemma2", texts, seed, initializer_range=0.06)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))


def _texts(votes: Any) -> Iterator[str]:
    for column in ("prompt", "response_a", "response_b"):
        yield from votes[column].combine_chunks().flatten().to_pylist()


def cached(work: Path, seed: int, votes: int) -> dict[str, Any]:
    """What `measure` found for a seed, now or before; its artifacts go once it is written down."""
    use_threads(Compute(threads=1))
    path = work / f"seed{seed}.json"
    if not path.exists():
        began = time.process_time()
        excess = measure(work / f"seed{seed}", seed, votes)
        found = {"seed": seed, "cpu_seconds": round(time.process_time() - began), "excess": excess}
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(found))
        partial.replace(path)
        shutil.rmtree(work / f"seed{seed}" / "run")
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def measure(folder: Path, seed: int, votes: int) -> dict[str, float]:
    """The excess of the class prior and of every variant that the pipeline has tasks for, in one seed."""
    prepare(folder, seed, votes)
    truth: dict[str, Array] = {}
    excess: dict[str, float] = {}
    for variant in VARIANTS:
        work = Workspace(folder / "recipe.yaml", variant.sets)
        if not (tasks := needed(work, variant.tasks)):
            continue
        for task in tasks:
            run_task(work, task, lambda line: None, lambda: False, device="cpu")
        if not truth:
            truth = lockbox_truth(work)
            excess["class prior"] = _excess(prior(work, len(truth)), truth, list(truth))
        excess[variant.name] = excess_of(work, variant, truth)
        print(f"seed {seed}: {variant.name} {excess[variant.name]:.5f}", flush=True)
    return excess


def needed(work: Workspace, wanted: str) -> list[Task]:
    """The tasks whose id begins with `wanted`, and all that they read, in order."""
    chosen: dict[str, Task] = {}

    def add(task: Task) -> None:
        for upstream in task.upstream():
            add(upstream)
        chosen.setdefault(task.id, task)

    for task in select(work, ()):
        if task.id.startswith(wanted):
            add(task)
    return list(chosen.values())


def lockbox_truth(work: Workspace) -> dict[str, Array]:
    """True probabilities (3,) of each lockbox vote."""
    rows = read_table(work.folder(work.find("split/votes")) / "rows.parquet")
    lockbox = set(rows.filter(rows["fold"].to_numpy() == LOCKBOX)["id"].to_pylist())
    truth = pq.read_table(work.root / "data" / "truth.parquet").to_pylist()
    return {t["id"]: np.array([t[f"true_{x}"] for x in LABELS]) for t in truth if t["id"] in lockbox}


def prior(work: Workspace, rows: int) -> Array:
    votes = read_table(work.root / "data" / "votes.parquet").select(SCHEMA.names)
    return prior_prediction([votes[f"p_{x}"].to_numpy().mean() for x in LABELS], rows)


def excess_of(work: Workspace, variant: Variant, truth: dict[str, Array]) -> float:
    """The mean over the models of a variant, or the excess of their mean prediction."""
    tasks = [task for task in work.tasks if task.id.startswith(variant.tasks)]
    calibration = None
    if variant.calibrated:
        package = work.folder(work.find("quantize/student")) / "model" / "tiebreak.json"
        calibration = json.loads(package.read_text())["calibration"]
    scored = logits.read([work.folder(task) for task in tasks], calibration)
    ids = list(truth)
    models = [model.aligned(ids) for model in logits.of_split(scored, "lockbox")]
    predictions = [model.probabilities(variant.both_orders, variant.calibrated) for model in models]
    if variant.share < 1:
        predictions = [partly_augmented(work, model, variant.share) for model in models]
    if variant.blended:
        predictions = [np.mean(predictions, axis=0)]
    return float(np.mean([_excess(p_NC, truth, ids) for p_NC in predictions]))


def partly_augmented(work: Workspace, model: ModelLogits, share: float) -> Array:
    """Both orders where one is less certain than what leaves `share` of the calibration votes uncertain."""
    rows = read_table(work.folder(work.find("split/votes")) / "rows.parquet")
    votes = rows_of(rows, model.ids)
    average = logits.read([work.folder(work.find("average/student"))])
    certain_from = certainty_threshold(*votes_with_logits(rows, average), share)
    return tta_probabilities(votes, model.z_NOC, Tta(), certain_from)


def _excess(p_NC: Array, truth: dict[str, Array], ids: Sequence[str]) -> float:
    true_NC = np.stack([truth[vote] for vote in ids])
    return float((true_NC * np.log(true_NC / p_NC)).sum(axis=1).mean())


def summary(found: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Each variant's excess, and its change from the variant it is compared with, over the seeds; p is that of its t
    test, by Holm's correction for all of them (Scandinavian Journal of Statistics 6, 1979).
    """
    rows = [{"variant": "class prior", "excess": asdict(over_seeds([seed["class prior"] for seed in found]))}]
    variants = [variant for variant in VARIANTS if variant.name in found[0]]
    changes = [[seed[variant.name] - seed[variant.below] for seed in found] for variant in variants]
    p = holm([float(ttest_1samp(change, 0).pvalue) for change in changes])
    for variant, change, adjusted in zip(variants, changes, p, strict=True):
        excess = asdict(over_seeds([seed[variant.name] for seed in found]))
        moved = {"below": variant.below, "change": asdict(over_seeds(change)), "p": adjusted}
        rows.append({"variant": variant.name, "excess": excess, **moved})
    return rows


def holm(p: Sequence[float]) -> list[float]:
    """p-values of a family of tests, adjusted so that the chance of one false alarm is kept."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(np.arange(len(p), 0, -1) * np.asarray(p)[order])
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1)
    return [float(x) for x in adjusted]


def over_seeds(values: Sequence[float]) -> Estimate:
    """The mean over seeds with its t interval."""
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = float(student_t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1)) * spread
    return Estimate(mean, mean - half, mean + half)


def markdown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["| step | above the best possible | change (95 %) | from | |", "|---|---|---|---|---|"]
    for row in rows:
        change = "{value:+.5f} ({low:+.5f} to {high:+.5f})".format(**row["change"]) if "change" in row else ""
        value = row["excess"]["value"]
        lines.append(
            f"| {row['variant']} | {value:.5f} | {change} | {row.get('below', '')} | {verdict(row)} |"
        )
    return lines


def verdict(row: Mapping[str, Any]) -> str:
    if "change" not in row:
        return ""
    change = row["change"]
    if change["low"] <= 0 <= change["high"]:
        return "no difference shown"
    found = "helps" if change["high"] < 0 else "harms"
    return found if row["p"] < 1 - CONFIDENCE else f"{found}, not after Holm"


def best_possible() -> float:
    """The expected log loss of the truth in this world, over many votes."""
    return synthetic.best_log_loss(synthetic.generate(200_000, 12345, WORLD))


def page(table: str, facts: Mapping[str, Any]) -> str:
    about = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    return PAGE.format(table=table, about=about, **facts)


PAGE = """# What each step is worth

    python benchmarks/ladder.py --work FOLDER --seeds {seeds} --write

{about}

Synthetic votes whose true probabilities are known, with three in ten cast at random, so that the best possible log
loss is {best_possible_log_loss}; real arena votes allow less, as published models are at 0.88 to 0.95. A share of {relation} of
what decides is a relation between prompt and answers, which word counts cannot see (`tiebreak.votes.synthetic`). A seed has
{votes:,} votes of its own (a quarter of them the lockbox, a twentieth to calibrate on, the rest in three folds), half as many
preference pairs by judges who weigh the same things a little otherwise and never err (no ties, no chance), as many pairs
again without votes, and random models: a Llama of 3 layers and width 96 as the teacher, a
Gemma-2 of 2 layers and width 64 as the student. Figures are means over seeds of the mean KL divergence from the true probabilities on the lockbox: the
expected log loss above the best possible. Up to the averages they are means over the folds' models, answers in the
order stored. A change is paired by vote; its interval is Student's t over the seeds.

{table}

Caveats: tiny random models on a CPU; what a step is worth with pretrained models is another question. Hyperparameters
are one choice for all variants; the weights of "our loss" (label 0.3, KL 0.7 T^2 at T = 2, no cosine, a teacher's mean over
both orders) were chosen after a look at two other seeds. t intervals take the seeds' changes to be normal. An interval is of one change; "not after Holm"
marks those that do not stand a correction for all of them. It knows nothing of seeds that were added after a look.
"""


if __name__ == "__main__":
    main()
