"""Real votes, real weights: the recipe from a pretrained model, against simple models and other trainers.

    python benchmarks/pretrained.py DATA --base FOLDER_OR_GGUF --work FOLDER [--seeds 3] [--peers] [--write]

DATA (or the environment variable TIEBREAK_TEST_DATA) is a folder that holds lmsys/train.csv and pairs/*.parquet; without it
the benchmark says so and ends. Votes by people on LMSYS, Auto-J, PandaLM, Tulu and LLMEval2 (without its two sources of
automatic labels) are split by prompt into folds, a calibration side and a lockbox; HH-RLHF's chosen and rejected answers are
the preference pairs of step 1. Every arm learns from the votes of the folds, is calibrated on the calibration side, and is
scored on the lockbox. Seeds are of training: the split is the same for all.

FOLDER keeps what is done, and the same command goes on where it was stopped. --peers: also what benchmarks/peers.py wrote into
FOLDER/peers. Prints a table, then one line of JSON; --write puts them beside the other results.
"""

import argparse
import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import date
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from lexical import fold_votes
from machine import processor
from real_votes import BOOTSTRAP, PREFERENCES, SOURCES, write_votes

import tiebreak
from tiebreak.baseline import files
from tiebreak.baseline.inputs import Inputs
from tiebreak.baseline.model import PARTS
from tiebreak.engine.workspace import Workspace
from tiebreak.evaluate.build_metrics import labelled_votes
from tiebreak.evaluate.variants import LabelledVotes
from tiebreak.judge import logits, package
from tiebreak.judge.postprocessing import Postprocessing
from tiebreak.stats.blend import LogBlend
from tiebreak.stats.calibration import TemperatureScaling, from_json
from tiebreak.stats.calibration_test import calibration_error, calibration_test
from tiebreak.stats.metrics import Array, accuracy, difference, ece, log_loss, prior_prediction, summarise
from tiebreak.votes import splits
from tiebreak.votes.schema import read_table

RESULTS = Path(__file__).parent / "results"
FOLDS = 3
ONLY = ("prepare", "shipped", "others", "bounds", "compare")
PEERS = {"trainer": "transformers Trainer", "trl": "TRL RewardTrainer", "pairjudge": "pairjudge"}

Predictions = list[list[Array]]
"""Of an arm: for each seed, of each of its models."""


def recipe(tokens: int, votes: int, device: str) -> dict[str, Any]:
    """The preset `small` but for the split, step 1 and the budget of tokens."""
    training = {
        "epochs": 2,
        "learning_rate": 1e-3,
        "rows_per_step": 64,
        "max_tokens": tokens,
        "warmup_steps": 20,
    }
    model = {"base": "base", "precision": "bf16" if device == "cuda" else "fp32"}
    return {
        "name": "pretrained",
        "data": {"votes": ["votes.parquet"], "preferences": ["preferences.parquet"]},
        "models": {"teachers": {"student": model}, "student": model},
        "prompt": {"prompt_tokens": tokens // 4, "truncation": "balanced"},
        "split": {"count": FOLDS, "lockbox_share": 0.25, "calibration_share": 0.1, "seed": 0},
        "post_pretrain": {
            "enabled": False,
            "subset_votes": votes,
            "training": training | {"epochs": 1, "learning_rate": 3e-4},
        },
        "teach": {"training": training},
        "logits": {"max_tokens": tokens, "soft_labels": "out_of_fold", "subset_votes": 64},
        "distill": {"training": training, "average_orders": True},
        "quantize": {"group": 32, "max_tokens": tokens},
        "tta": {"max_tokens": 2 * tokens},
        "compute": {
            "device": device,
            "workers": FOLDS if device == "cuda" else 1,
            "train_tokens": 16384 if device == "cuda" else 4096,
            "score_tokens": 32768 if device == "cuda" else 4096,
            "checkpoint_minutes": 1,
            "log_every": 1000,
        },
    }


ONE = "distill.students=one"
STEP_1 = "post_pretrain.enabled=true"
IN_SAMPLE = "logits.soft_labels=in_sample"


@dataclass(frozen=True)
class Part:
    """Some steps of the recipe with overrides, for one seed; an empty `steps` is all of them."""

    seed: int
    overrides: tuple[str, ...] = ()
    steps: str = ""

    def workspace(self, folder: Path) -> Workspace:
        return Workspace(folder / "recipe.yaml", (f"seed={self.seed}", *self.overrides))

    def command(self, folder: Path) -> list[str]:
        sets = [word for key in (f"seed={self.seed}", *self.overrides) for word in ("--set", key)]
        steps = ["--steps", self.steps] if self.steps else []
        return [sys.executable, "-m", "tiebreak", "run", str(folder / "recipe.yaml"), *sets, *steps]


def precision(seed: int, name: str) -> Part:
    """The teacher of the first fold in another precision."""
    models = (f"models.{model}.precision={name}" for model in ("teachers.student", "student"))
    return Part(seed, (*models, "teach.folds=[0]"), "teach,score")


def shipped_parts(seed: int) -> list[Part]:
    """What ships: a student a fold, averaged; and one student of all folds."""
    return [Part(seed), Part(seed, (ONE,))]


def other_parts(seed: int, precisions: Sequence[str]) -> list[Part]:
    """What that is compared with."""
    step_1 = Part(seed, (STEP_1,), "post_pretrain,teach,score")
    in_sample = Part(seed, (IN_SAMPLE, "logits.subset_votes=-1"), "score,distill")
    return [step_1, in_sample, *(precision(seed, name) for name in precisions)]


FEWER = ((2, 2), (4, 2), (8, 2), (2, 4), (1, 4))
"""One in how many of the votes, and for how many epochs: half of the votes twice as often are as many steps."""


def fewer_votes(seed: int, share: int, epochs: int, votes: int) -> Part:
    """The first fold's teacher on one in `share` of the votes of the other folds."""
    sets = (f"teach.subset_votes={votes // share}", f"teach.training.epochs={epochs}")
    return Part(seed, ("teach.folds=[0]", *sets), "teach,score")


def longer_rows(seed: int, tokens: int) -> Part:
    """One student and its teachers of rows twice as long."""
    sections = ("teach.training", "logits", "distill.training", "quantize")
    return Part(seed, (ONE, *(f"{section}.max_tokens={2 * tokens}" for section in sections)))


def more_teachers(seed: int, model: Mapping[str, Any]) -> Part:
    """One student of three teachers a fold; those of one base differ by the ranks of their adapters."""
    others = {rank: {**model, "lora": {"rank": rank, "alpha": 2 * rank}} for rank in (48, 96)}
    return Part(
        seed, (ONE, *(f"models.teachers.rank{rank}={json.dumps(made)}" for rank, made in others.items()))
    )


def bound_parts(seed: int, folder: Path) -> list[Part]:
    """What may bound the result: the votes, the length of rows, the soft labels."""
    made = yaml.safe_load((folder / "recipe.yaml").read_text())
    votes = outside_first_fold(Part(0).workspace(folder))
    return [
        *(fewer_votes(seed, share, epochs, votes) for share, epochs in FEWER),
        more_teachers(seed, made["models"]["student"]),
        longer_rows(seed, made["logits"]["max_tokens"]),
    ]


def outside_first_fold(work: Workspace) -> int:
    """The number of votes that the first fold's teacher learns from."""
    fold_N = read_table(work.folder(work.find("split/votes")) / "rows.parquet")["fold"].to_numpy()
    return int((fold_N > 0).sum())


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("data", nargs="?", default=os.environ.get("TIEBREAK_TEST_DATA"), type=Path)
    arguments.add_argument(
        "--base", type=Path, required=True, help="folder of the pretrained model, or GGUF file"
    )
    arguments.add_argument("--work", type=Path, required=True, help="folder of what is being made")
    arguments.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument(
        "--precisions", nargs="*", default=[], help="of fp32, fp8: also train the first fold's teacher so"
    )
    arguments.add_argument(
        "--only", choices=ONLY, help="that part alone, so that two cards may share the work"
    )
    arguments.add_argument("--peers", action="store_true")
    arguments.add_argument("--votes", type=int, default=-1, help="tries the script; measures nothing")
    arguments.add_argument("--tokens", type=int, default=1024)
    arguments.add_argument("--write", action="store_true")
    chosen = arguments.parse_args()
    if chosen.data is None or not (chosen.data / PREFERENCES).is_file():
        print(
            f"skipped: {chosen.data} holds no {PREFERENCES}; name the data as argument or in TIEBREAK_TEST_DATA"
        )
        return
    if chosen.votes > 0 and chosen.write:
        sys.exit("--votes measures nothing, so there is nothing to --write")
    source_of = prepare(chosen)
    if chosen.only in (None, "shipped", "others", "bounds"):
        train(chosen)
    if chosen.only not in (None, "compare"):
        return
    rows = compare(chosen, source_of)
    facts = facts_of(chosen)
    table = "\n".join(markdown(rows))
    line = json.dumps({"benchmark": "pretrained", **facts, "rows": rows})
    print(table, line, sep="\n\n")
    if chosen.write:
        name = facts["card"].removeprefix("NVIDIA ").split()[0].lower()
        result = RESULTS / f"pretrained-{name}-{facts['date'][:7].replace('-', '')}"
        result.with_suffix(".json").write_text(line + "\n", encoding="utf-8")
        result.with_suffix(".md").write_text(page(table, facts), encoding="utf-8")


def prepare(chosen: argparse.Namespace) -> dict[str, str]:
    """Write votes, pairs, base and recipe into the work folder; split, and train the baseline. Returns each vote's source."""
    work: Path = chosen.work
    work.mkdir(parents=True, exist_ok=True)
    source_of = write_votes(chosen.data, work, chosen.votes)
    made = recipe(chosen.tokens, chosen.votes, chosen.device)
    base = work / "base"
    if chosen.base.suffix == ".gguf":
        for model in (made["models"]["student"], made["models"]["teachers"]["student"]):
            model["base"] = str(chosen.base.resolve())
    elif not base.exists():
        shutil.copytree(chosen.base, base)
    (work / "recipe.yaml").write_text(yaml.safe_dump(made), encoding="utf-8")
    run([Part(0, (), "ingest,split")], work)
    return source_of


def train(chosen: argparse.Namespace) -> None:
    """Run the parts, the seeds side by side, and note how long each took."""
    seeds = range(chosen.seeds)
    parts = {
        "shipped": [shipped_parts(seed) for seed in seeds],
        "others": [other_parts(seed, chosen.precisions) for seed in seeds],
        "bounds": [bound_parts(seed, chosen.work) for seed in seeds],
    }
    wanted = [parts[chosen.only]] if chosen.only else [*parts.values()]
    with ThreadPoolExecutor(len(seeds) if chosen.device == "cuda" else 1) as threads:
        list(threads.map(lambda some: run(some, chosen.work), chain.from_iterable(wanted)))


def run(some: Iterable[Part], folder: Path) -> None:
    """Run parts one after another. TF32, which fp32 products do not use by default, is exact enough and quicker."""
    environment = os.environ | {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}
    for part in some:
        began = time.monotonic()
        subprocess.run(part.command(folder), check=True, env=environment)
        note(
            folder / "seconds.json",
            f"seed {part.seed} {' '.join((*part.overrides, part.steps))}".strip(),
            began,
        )


def note(file: Path, name: str, began: float) -> None:
    """Add what a part took, unless it was there already, to a file of seconds by name."""
    with file.open("a+") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        opened.seek(0)
        seconds = {name: round(time.monotonic() - began, 1)} | json.loads(opened.read() or "{}")
        opened.truncate(0)
        opened.write(json.dumps(seconds))


def compare(chosen: argparse.Namespace, source_of: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every arm on the lockbox, and what changes from the words' arm."""
    first = Part(0).workspace(chosen.work)
    rows = read_table(first.folder(first.find("split/votes")) / "rows.parquet")
    lockbox, aside = splits.lockbox(rows), splits.calibration(rows)
    arms = {
        name: predictions for name, predictions in arms_of(chosen, rows) if predictions and all(predictions)
    }
    every = {
        f"{name}/{seed}/{n}": p_NC
        for name, predictions in arms.items()
        for seed, many in enumerate(predictions)
        for n, p_NC in enumerate(many)
    }
    np.savez_compressed(chosen.work / "lockbox.npz", **every)
    truth, source_N = (
        labelled_votes(lockbox),
        np.array([source_of[vote] for vote in lockbox["id"].to_pylist()]),
    )
    words = flat(arms["words"])
    found = []
    for name, predictions in arms.items():
        row = measured(predictions, truth, source_N)
        row["change_from_tf_idf"] = asdict(
            difference(flat(predictions), words, truth.y_NC, BOOTSTRAP, truth.groups_N)
        )
        found.append({"arm": name, "rows": len(lockbox), "calibration_rows": len(aside), **row})
    return found


def measured(predictions: Predictions, truth: LabelledVotes, source_N: Any) -> dict[str, Any]:
    """Log loss with its interval, accuracy, calibration error and its test, log loss by source; spread over seeds."""
    many = flat(predictions)
    by_seed = [float(np.mean([log_loss(p_NC, truth.y_NC) for p_NC in seed])) for seed in predictions]
    return {
        "models": len(many),
        "log_loss": asdict(summarise(many, truth.y_NC, BOOTSTRAP, truth.groups_N)["log_loss"]),
        "log_loss_by_seed": by_seed,
        "seed_spread": float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None,
        "accuracy": float(np.mean([accuracy(p_NC, truth.y_NC) for p_NC in many])),
        "ece": float(np.mean([ece(p_NC, truth.y_NC) for p_NC in many])),
        **calibration_of(many, truth),
        "by_source": {
            name: float(
                np.mean([log_loss(p_NC[source_N == name], truth.y_NC[source_N == name]) for p_NC in many])
            )
            for name in SOURCES
            if (source_N == name).any()
        },
    }


def arms_of(chosen: argparse.Namespace, rows: pa.Table) -> Iterator[tuple[str, Predictions]]:
    """Each arm's predictions of the lockbox votes."""
    lockbox, aside = splits.lockbox(rows), splits.calibration(rows)
    models = LockboxPredictions(chosen.work, lockbox, aside)
    seeds = range(chosen.seeds)
    prior_C = labelled_votes(fold_votes(rows)).y_NC.mean(axis=0)
    yield "class prior", [[prior_prediction(prior_C, len(lockbox))]]
    plain = [Part(seed).workspace(chosen.work) for seed in seeds]
    yield from simple_arms(plain[0], lockbox)
    yield "hard labels, one order", [models.of(work, "score", both=False) for work in plain]
    yield "hard labels", [models.of(work, "score") for work in plain]
    yield "hard labels, first fold", [models.of(work, "score")[:1] for work in plain]
    for name in chosen.precisions:
        others = [precision(seed, name).workspace(chosen.work) for seed in seeds]
        yield f"hard labels, first fold, {name}", [models.of(work, "score") for work in others]
    step_1, in_sample = zip(*(other_parts(seed, ()) for seed in seeds), strict=True)
    yield "+ step 1", [models.of(part.workspace(chosen.work), "score") for part in step_1]
    yield (
        "+ in-sample distillation",
        [models.of(part.workspace(chosen.work), "distill") for part in in_sample],
    )
    yield "+ out-of-fold distillation", [models.of(work, "distill") for work in plain]
    yield "folds' blend", [[np.mean(many, axis=0)] for work in plain if (many := models.of(work, "distill"))]
    for name, works in (
        ("folds' average", plain),
        ("one student", [Part(seed, (ONE,)).workspace(chosen.work) for seed in seeds]),
    ):
        yield name, [models.of(work, "predict/averaged") for work in works]
        yield f"{name}, 8 bits", [models.of(work, "predict/quantized") for work in works]
        yield f"{name}, calibrated", [models.shipped(work, alone=True) for work in works]
        yield f"{name}, as shipped", [models.shipped(work) for work in works]
        yield f"{name}, log blend with the baseline", [models.blended(work) for work in works]
    bounds = list(zip(*(bound_parts(seed, chosen.work) for seed in seeds), strict=True))
    for share, parts in zip(FEWER, bounds, strict=False):
        works = [part.workspace(chosen.work) for part in parts]
        yield (
            f"hard labels, first fold, 1 / {share} of the votes",
            [models.of(work, "score") for work in works],
        )
    for name, parts in zip(
        ("three teachers", f"rows of {2 * chosen.tokens:,} tokens"), bounds[-2:], strict=True
    ):
        works = [part.workspace(chosen.work) for part in parts]
        yield f"one student, {name}", [models.of(work, "predict/averaged") for work in works]
        yield f"one student, {name}, as shipped", [models.shipped(work) for work in works]
    if chosen.peers:
        for name, title in PEERS.items():
            if not (chosen.work / "peers" / f"{name}.json").is_file():
                continue
            yield from peer_arms(chosen.work / "peers" / f"{name}.npz", title, labelled_votes(aside).y_NC)


@dataclass(frozen=True)
class LockboxPredictions:
    """Predictions of the lockbox by the models of a work folder."""

    folder: Path
    lockbox: pa.Table
    aside: pa.Table

    def of(self, work: Workspace, task: str, both: bool = True) -> list[Array]:
        """Probabilities by each model that a step (`score`) or task (`predict/averaged`) wrote logits of."""
        tasks = [t for t in work.tasks if task in (t.step.name, t.id)]
        if any(work.manifest(t) is None for t in tasks):
            return []  # not trained, as the time was too short
        models = logits.of_split(logits.read([work.folder(t) for t in tasks]), "lockbox")
        aligned = [model.aligned(self.lockbox["id"].to_pylist()) for model in models]
        return [model.probabilities(both_orders=both, calibrated=False) for model in aligned]

    def shipped(self, work: Workspace, alone: bool = False) -> list[Array]:
        """What the package says, if it is there; alone: without the baseline that may be blended in."""
        task = work.find("predict/quantized")
        if work.manifest(task) is None:
            return []
        (model,) = logits.of_split(logits.read([work.folder(task)]), "lockbox")
        folder = work.folder(work.find("quantize/student")) / "model"
        z_NOC = model.aligned(self.lockbox["id"].to_pylist()).z_NOC
        shipped = Postprocessing.from_package(package.read(folder), folder)
        chosen = replace(shipped, baseline_blend=None) if alone else shipped
        return [chosen.to_probabilities(self.lockbox, z_NOC)]

    def blended(self, work: Workspace) -> list[Array]:
        """The calibrated model and the baseline as `average.blend=log` would ship them, whatever `auto` found."""
        alone, simple = self.shipped(work, alone=True), work.folder(work.find("baseline/lexical"))
        if not alone:
            return []
        average = work.folder(work.find("average/student"))
        calibration = from_json(package.read(average / "model").calibration)
        aside_NC = self._on("calibration", average, self.aside, both=True)
        x_NMC = np.stack(
            [calibration.predict_proba(aside_NC), self._on("calibration", simple, self.aside)], axis=1
        )
        blend = LogBlend().fit(x_NMC, labelled_votes(self.aside).y_NC)
        return [blend.predict_proba(np.stack([alone[0], self._on("lockbox", simple, self.lockbox)], axis=1))]

    @staticmethod
    def _on(split: str, folder: Path, votes: pa.Table, both: bool = False) -> Array:
        (model,) = logits.of_split(logits.read([folder]), split)
        return model.aligned(votes["id"].to_pylist()).probabilities(both, calibrated=False)


def simple_arms(work: Workspace, lockbox: pa.Table) -> Iterator[tuple[str, Predictions]]:
    """The parts of the baseline, and its calibrated blend."""
    folder = work.folder(work.find("baseline/lexical"))
    baseline = files.read(folder)
    p_NMC = baseline.parts_.predict(Inputs.of(lockbox))
    for m, part in enumerate(PARTS):
        if part != "prior":
            yield part, [[p_NMC[:, m]]]
    calibration = from_json(json.loads((folder / "calibration.json").read_text()))
    yield "baseline", [[calibration.predict_proba(baseline.predict_proba(lockbox))]]


def peer_arms(file: Path, title: str, y_NC: Array) -> Iterator[tuple[str, Predictions]]:
    """A peer as it is, and with a temperature fitted on the calibration side."""
    with np.load(file) as predictions:
        aside_NC, p_NC = predictions["calibration"], predictions["lockbox"]
    yield f"peer: {title}", [[p_NC]]
    yield f"peer: {title}, temperature", [[TemperatureScaling().fit(aside_NC, y_NC).predict_proba(p_NC)]]


def calibration_of(many: Sequence[Array], truth: LabelledVotes) -> dict[str, Any]:
    """The ECE's 95 % point were the models calibrated, and the median p-value of the test that they are."""
    error = calibration_error(many, truth.y_NC, BOOTSTRAP, truth.groups_N)
    tests = [calibration_test(p_NC, truth.y_NC, truth.groups_N).p for p_NC in many]
    return {"ece_limit": error.limit, "calibration_p": float(np.median([p for p in tests if p is not None]))}


def flat(predictions: Predictions) -> list[Array]:
    return [p_NC for seed in predictions for p_NC in seed]


def facts_of(chosen: argparse.Namespace) -> dict[str, Any]:
    import torch

    peers = {
        name: json.loads(file.read_text())
        for name in (PEERS if chosen.peers else ())
        if (file := chosen.work / "peers" / f"{name}.json").is_file()
    }
    return {
        "base": chosen.base.name,
        "card": torch.cuda.get_device_name() if chosen.device == "cuda" else "CPU",
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "seeds": chosen.seeds,
        "seconds": json.loads((chosen.work / "seconds.json").read_text()),
        "peers": peers,
        "python": platform.python_version(),
        "tiebreak": tiebreak.__version__,
        **{name: version(name) for name in ("torch", "transformers", "scikit-learn")},
        "date": f"{date.today():%Y-%m-%d}",
    }


def markdown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    sources = list(rows[0]["by_source"])
    lines = [
        f"{rows[0]['rows']:,} lockbox votes, {rows[0]['calibration_rows']:,} votes to calibrate on\n",
        "| arm | log loss (95 %, votes) | over seeds | from words (95 %) | accuracy | ECE (calibrated: 95 % below) | "
        f"{' | '.join(sources)} |",
        "|" + "---|" * (6 + len(sources)),
    ]
    for row in rows:
        loss = "{value:.4f} ({low:.4f} to {high:.4f})".format(**row["log_loss"])
        change = "{value:+.4f} ({low:+.4f} to {high:+.4f})".format(**row["change_from_tf_idf"])
        spread = "" if row["seed_spread"] is None else f"+- {row['seed_spread']:.4f}"
        limit = "" if row["ece_limit"] is None else f"{row['ece_limit']:.3f}"
        by_source = " | ".join(f"{row['by_source'][name]:.3f}" for name in sources)
        lines.append(
            f"| {row['arm']} | {loss} | {spread} | {change} | {row['accuracy']:.3f} | {row['ece']:.3f} "
            f"({limit}) | {by_source} |"
        )
    return lines


def page(table: str, facts: Mapping[str, Any]) -> str:
    about = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    return PAGE.format(about=about, table=table, base=facts["base"], seeds=facts["seeds"])


PAGE = """# Real votes, real weights

    python benchmarks/pretrained.py DATA --base {base} --work FOLDER --seeds {seeds} --peers --write

{about}

Votes by people from LMSYS, Auto-J, PandaLM, Tulu and LLMEval2, split by prompt (near copies together): a quarter is the
lockbox, a tenth calibrates, the rest are three folds. Teacher and student are the same model with LoRA adapters of rank 64, two
epochs at 1e-3, rows of 1,024 tokens, bf16. "Hard labels" are the teachers, which learn from the labels of two folds; "+ step 1" begin
after HH-RLHF's pairs; students learn from labels and teachers of two folds, "one student" from those of all three, each vote's teacher
being the one that held it out. "Words" is the baseline's logistic regression on n-grams and features, "trees" its boosted
trees on features. Unless noted, models predict in both orders, uncalibrated. The first interval is of votes (t, bootstrap
over prompts), the spread one of training (standard deviation over seeds); changes are paired by vote. The ECE's second figure is what
19 in 20 perfectly calibrated models would stay below.

{table}
"""


if __name__ == "__main__":
    main()
