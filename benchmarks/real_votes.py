"""Real votes, trained from scratch: the recipe at a small size against a lexical model and the class prior.

    python benchmarks/real_votes.py DATA --work FOLDER [--device cpu] [--minutes 6] [--small] [--write]

DATA (or the environment variable TIEBREAK_TEST_DATA) is a folder that holds lmsys/train.csv and
pairs/*.parquet; without it the benchmark says so and ends. Votes by people on LMSYS, Auto-J, PandaLM, Tulu and
LLMEval2 (without its two sources of automatic labels) are split by prompt into folds and a lockbox; HH-RLHF's
chosen and rejected answers are the preference pairs of step 1. No weights come from elsewhere: base models are
language models trained here (`language_model.py`) on the texts, never the labels, of the votes outside the lockbox
and of the pairs. Of the sizes that a device trains within minutes, the one whose teachers have the least log loss on
the votes that they held out is taken (a CPU has one to choose from).

All arms learn from the votes of the folds and are scored on the same lockbox votes:

    class prior         shares of A, B and tie
    prior of its source shares in the file that the vote came from, which no model is told
    TF-IDF              multinomial logistic regression, both orders of each vote; its C chosen over the folds
    student             mean over the folds' students, one order
    shipped             averaged, 8 bits, both orders, calibrated, rules

FOLDER keeps what is done, and the same command goes on. Prints a table, then one line of JSON.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import lexical
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from machine import processor

import tiebreak
from tiebreak.engine import local_runner
from tiebreak.engine.planner import select
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.evaluate.build_metrics import labelled_votes
from tiebreak.judge import logits, package
from tiebreak.judge.postprocessing import Postprocessing
from tiebreak.stats.metrics import Array, Bootstrap, difference, log_loss, prior_prediction, summarise
from tiebreak.votes import splits
from tiebreak.votes.formats.readers import read_all
from tiebreak.votes.schema import read_table, write_table

SOURCES = {
    "LMSYS": "lmsys/train.csv",
    "Auto-J": "pairs/autoj_human.parquet",
    "PandaLM": "pairs/pandalm_human.parquet",
    "Tulu": "pairs/tulu_human_eval.parquet",
    "LLMEval2": "pairs/llmeval2_human.parquet",
}
NOT_BY_PEOPLE = "llmeval2-(hellaswag|code-contests)-"
PREFERENCES = "pairs/hh_rlhf_test.parquet"
BOOTSTRAP = Bootstrap(1000)
RESULTS = Path(__file__).parent / "results"

SHAPES = {
    "32 x 2": {"hidden": 32, "layers": 2, "heads": 2},
    "64 x 2": {"hidden": 64, "layers": 2, "heads": 2},
    "256 x 6": {"hidden": 256, "layers": 6, "heads": 4},
    "384 x 6": {"hidden": 384, "layers": 6, "heads": 6},
}
"""Hidden size, layers and heads of teacher and student."""

FAMILIES: tuple[Literal["llama"], Literal["gemma2"]] = ("llama", "gemma2")
"""Of teacher and student."""


@dataclass(frozen=True)
class Scale:
    """What a device does within minutes.

    tried: size, and epochs and learning rate of teacher and student. reading: epochs of a base model's pretraining, batch its
    sequences a step. pairs: of step 1, and votes: of all, -1 for all that there are. workers: tasks side by side,
    of which one card takes several.
    """

    tried: tuple[tuple[str, int, float], ...]
    reading: float
    pairs: int
    folds: int
    tokens: int
    batch: int = 8
    workers: int = 1
    votes: int = -1

    @property
    def sizes(self) -> list[str]:
        return list(dict.fromkeys(size for size, _, _ in self.tried))


SCALES = {
    "small": Scale((("32 x 2", 1, 1e-3),), reading=0.1, pairs=100, folds=2, tokens=256, votes=400),
    "cpu": Scale((("64 x 2", 3, 1e-3),), reading=0.3, pairs=1500, folds=2, tokens=512),
    "cuda": Scale(
        (("256 x 6", 2, 1e-3), ("256 x 6", 2, 4e-4)),
        reading=3, pairs=3000, folds=2, tokens=512, batch=32, workers=4,
    ),
}  # fmt: skip
READING_SHARE, TRYING_SHARE = 0.15, 0.7
"""Of the minutes: base models train no longer than the first; no size is begun after the second."""
VOCABULARY = 4096
LORA = {"rank": 64, "alpha": 128, "dropout": 0.05}


def recipe(size: str, scale: Scale) -> dict[str, Any]:
    model = {"precision": "fp32", "lora": LORA}
    training = {
        "epochs": 1,
        "learning_rate": 5e-4,
        "head_rate": 640 / SHAPES[size]["hidden"],  # AdamW moves a logit by the width times the rate
        "rows_per_step": 64,
        "max_tokens": scale.tokens,
        "warmup_steps": 20,
    }
    return {
        "name": "real-votes",
        "data": {"votes": ["votes.parquet"], "preferences": ["preferences.parquet"]},
        "models": {
            "teachers": {"llama": {"base": f"models/llama {size}", **model}},
            "student": {"base": f"models/gemma2 {size}", **model},
        },
        "prompt": {"prompt_tokens": scale.tokens // 4},
        "split": {"count": scale.folds, "lockbox_share": 0.25},
        "post_pretrain": {"subset_votes": scale.pairs, "training": training},
        "teach": {"training": training},
        "logits": {"max_tokens": scale.tokens, "soft_labels": "out_of_fold"},
        "distill": {"training": training, "average_orders": True},
        "quantize": {"group": 32, "max_tokens": scale.tokens},
        "tta": {"max_tokens": scale.tokens},
        "compute": {
            "workers": scale.workers,
            "score_tokens": 16384,
            "train_tokens": 16384 if scale.workers > 1 else 8192,
            "log_every": 1000,
        },
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("data", nargs="?", default=os.environ.get("TIEBREAK_TEST_DATA"), type=Path)
    arguments.add_argument("--work", type=Path, required=True, help="folder of what is being made")
    arguments.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    arguments.add_argument("--minutes", type=float, default=60.0, help="what would not fit is not begun")
    arguments.add_argument("--small", action="store_true", help="tries the script; measures nothing")
    arguments.add_argument("--write", action="store_true")
    chosen = arguments.parse_args()
    if chosen.data is None or not (chosen.data / PREFERENCES).is_file():
        print(
            f"skipped: {chosen.data} holds no {PREFERENCES}; name the data as argument or in TIEBREAK_TEST_DATA"
        )
        return
    if chosen.small and chosen.write:
        sys.exit("--small measures nothing, so there is nothing to --write")
    scale = SCALES["small" if chosen.small else chosen.device]
    rows, facts = measure(chosen.data, chosen.work, scale, chosen.device, 60 * chosen.minutes)
    table = "\n".join(markdown(rows))
    line = json.dumps({"benchmark": "real votes", **facts, "rows": rows})
    print(table, line, sep="\n\n")
    if chosen.write:
        result = RESULTS / result_name(facts)
        result.with_suffix(".json").write_text(line + "\n")
        result.with_suffix(".md").write_text(page(table, facts, scale, chosen.minutes))


def measure(
    data: Path, folder: Path, scale: Scale, device: str, limit: float
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of the table, and what is to be known of them."""
    # TF32, which products of fp32 are not computed in by default, is exact enough and several times as fast
    os.environ["TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"] = "1"
    began, seconds = time.monotonic(), dict[str, float]()
    with timed(seconds, "read and split"):
        source_of = prepare(data, folder, scale)
        works = {
            f"{size}, {epochs} epochs, rate {rate:g}": workspace(folder, size, epochs, rate, device)
            for size, epochs, rate in scale.tried
        }
        first = next(iter(works.values()))
        finish(first, ("ingest", "split"))
    with timed(seconds, "base models and TF-IDF"):
        bases = make_bases(first, scale, device, limit * READING_SHARE)
    held_out: dict[str, float] = {}
    for name, work in works.items():
        if held_out and time.monotonic() - began > limit * TRYING_SHARE:
            break
        with timed(seconds, f"teachers {name}"):
            held_out[name] = held_out_loss(work)
    best = min(held_out, key=lambda name: held_out[name])
    with timed(seconds, "all else"):
        finish(works[best])
    with timed(seconds, "comparison"):
        rows = compare(works[best], source_of, np.load(folder / "tf-idf.npy"))
    return rows, {
        "held_out_log_loss": {name: round(loss, 4) for name, loss in held_out.items()},
        "size": best,
        "base_models": bases,
        "card": card(device),
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "seconds": seconds,
        "python": platform.python_version(),
        "tiebreak": tiebreak.__version__,
        **{name: version(name) for name in ("torch", "transformers", "scikit-learn")},
        "date": f"{date.today():%Y-%m-%d}",
    }


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - began, 1)
    print(f"{name}: {seconds[name]} s", file=sys.stderr, flush=True)


def card(device: str) -> str:
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else "CPU"


def result_name(facts: Mapping[str, Any]) -> str:
    name = facts["card"].removeprefix("NVIDIA ").split()[0].lower()
    return f"real-votes-{name}-{facts['date'][:7].replace('-', '')}"


def prepare(data: Path, work: Path, scale: Scale) -> dict[str, str]:
    """Write votes, pairs and recipes into the work folder. Returns the source of each vote by id."""
    (work / "models").mkdir(parents=True, exist_ok=True)
    source_of = write_votes(data, work, scale.votes)
    for size in scale.sizes:
        recipe_file(work, size).write_text(yaml.safe_dump(recipe(size, scale)))
    return source_of


def write_votes(data: Path, work: Path, count: int) -> dict[str, str]:
    """Write votes.parquet and preferences.parquet, `count` of each or all for -1. Returns the source of each
    vote by id.
    """
    tables = {name: read_all([data / path])[0] for name, path in SOURCES.items()}
    people = pc.invert(pc.match_substring_regex(tables["LLMEval2"]["id"], f"^{NOT_BY_PEOPLE}"))
    tables["LLMEval2"] = tables["LLMEval2"].filter(people)
    pairs = read_all([data / PREFERENCES], "preferences")[0]
    for name, table in (("votes", pa.concat_tables(tables.values())), ("preferences", pairs)):
        write_table(splits.subset(table, count, 0), work / f"{name}.parquet")
    return {vote: name for name, table in tables.items() for vote in table["id"].to_pylist()}


def recipe_file(work: Path, size: str) -> Path:
    return work / f"{size}.yaml"


def workspace(folder: Path, size: str, epochs: int, rate: float, device: str) -> Workspace:
    changes = (
        f"{step}.training.{key}={value}"
        for step in ("teach", "distill")
        for key, value in (("epochs", epochs), ("learning_rate", rate))
    )
    return Workspace(recipe_file(folder, size), (f"compute.device={device}", *changes))


def make_bases(work: Workspace, scale: Scale, device: str, limit: float) -> dict[str, Any]:
    """The base models of every size, and beside them the lexical arm, which needs no card; what is there is kept."""
    import language_model  # so late that a worker process, which imports this file, sets its threads before torch

    split, models = split_of(work), work.root / "models"
    pretraining = language_model.Pretraining(scale.reading, scale.batch, seconds=limit)
    side_by_side = 2 * len(scale.sizes) if device == "cuda" else 1
    spawn = get_context("spawn")
    with ProcessPoolExecutor(side_by_side, spawn) as many, ProcessPoolExecutor(1, spawn) as one:
        tf_idf = one.submit(lexical.make, split / "rows.parquet", work.root / "tf-idf.npy")
        made = {
            f"{family} {size}": many.submit(
                language_model.make, models / f"{family} {size}", family, split, pretraining, device,
                vocab=VOCABULARY, **SHAPES[size],
            )
            for size in scale.sizes
            for family in FAMILIES
        }  # fmt: skip
        tf_idf.result()
        return {name: future.result() for name, future in made.items()}


def split_of(work: Workspace) -> Path:
    return work.folder(work.find("split/votes"))


def finish(work: Workspace, steps: Sequence[str] = ()) -> None:
    """Run the steps named, or all."""
    if failed := local_runner.run(work, select(work, steps) if steps else work.tasks).failed:
        raise TiebreakError(f"not finished: {failed}")


def held_out_loss(work: Workspace) -> float:
    """The log loss of the folds' teachers on the votes that they held out, both orders."""
    finish(work, ("ingest", "split", "post_pretrain", "teach", "score"))
    scored = logits.read([work.folder(task) for task in work.tasks if task.step.name == "score"])
    rows = labelled_votes(read_table(split_of(work) / "rows.parquet"))
    losses = [
        log_loss(model.probabilities(both_orders=True, calibrated=False), rows.subset(model.ids).y_NC)
        for model in logits.of_split(scored, "held_out")
    ]
    return float(np.mean(losses))


def compare(work: Workspace, source_of: Mapping[str, str], tf_idf: Array) -> list[dict[str, Any]]:
    """Every arm on the lockbox: log loss and accuracy with intervals, change from TF-IDF and from the prior."""
    rows = read_table(split_of(work) / "rows.parquet")
    lockbox, training = splits.lockbox(rows), lexical.fold_votes(rows)
    truth, ids = labelled_votes(lockbox), lockbox["id"].to_pylist()
    arms: dict[str, list[Array]] = {
        "class prior": [prior_prediction(labelled_votes(training).y_NC.mean(axis=0), len(ids))],
        "prior of its source": [prior_of_source(training, lockbox, source_of)],
        "TF-IDF": [tf_idf],
        "student": students(work, ids),
        "shipped": [shipped(work, lockbox)],
    }
    from_lmsys = np.array([source_of[vote] == "LMSYS" for vote in ids])
    found = []
    for name, predictions in arms.items():
        metrics = summarise(predictions, truth.y_NC, BOOTSTRAP, truth.groups_N)
        found.append(
            {
                "arm": name,
                "rows": len(ids),
                "log_loss": asdict(metrics["log_loss"]),
                "accuracy": asdict(metrics["accuracy"]),
                "log_loss_lmsys": float(
                    np.mean([log_loss(p_NC[from_lmsys], truth.y_NC[from_lmsys]) for p_NC in predictions])
                ),
                "rows_lmsys": int(from_lmsys.sum()),
                **{
                    f"change_from_{base}": asdict(
                        difference(predictions, arms[base], truth.y_NC, BOOTSTRAP, truth.groups_N)
                    )
                    for base in ("class prior", "TF-IDF")
                },
            }
        )
    return found


def prior_of_source(training: pa.Table, lockbox: pa.Table, source_of: Mapping[str, str]) -> Array:
    known, y_NC = [source_of[vote] for vote in training["id"].to_pylist()], labelled_votes(training).y_NC
    shares = {name: y_NC[np.array(known) == name].mean(axis=0) for name in set(known)}
    return np.stack([shares[source_of[vote]] for vote in lockbox["id"].to_pylist()])


def students(work: Workspace, ids: Sequence[str]) -> list[Array]:
    scored = logits.read([work.folder(task) for task in work.tasks if task.step.name == "distill"])
    models = [model.aligned(ids) for model in logits.of_split(scored, "lockbox")]
    return [model.probabilities(both_orders=False, calibrated=False) for model in models]


def shipped(work: Workspace, lockbox: pa.Table) -> Array:
    (model,) = logits.read([work.folder(work.find("predict/quantized"))])
    folder = work.folder(work.find("quantize/student")) / "model"
    verdict = Postprocessing.from_package(package.read(folder), folder)
    return verdict.to_probabilities(lockbox, model.aligned(lockbox["id"].to_pylist()).z_NOC)


def markdown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        f"{rows[0]['rows']:,} lockbox votes, {rows[0]['rows_lmsys']} of them from LMSYS\n",
        "| arm | log loss (95 %) | accuracy | change from the prior (95 %) | change from TF-IDF (95 %) | LMSYS |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        loss = "{value:.4f} ({low:.4f} to {high:.4f})".format(**row["log_loss"])
        prior, lexical = (
            "{value:+.4f} ({low:+.4f} to {high:+.4f})".format(**row[f"change_from_{base}"])
            for base in ("class prior", "TF-IDF")
        )
        accuracy = row["accuracy"]["value"]
        lines.append(
            f"| {row['arm']} | {loss} | {accuracy:.3f} | {prior} | {lexical} | {row['log_loss_lmsys']:.4f} |"
        )
    return lines


def page(table: str, facts: Mapping[str, Any], scale: Scale, minutes: float) -> str:
    about = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    device = "cpu" if facts["card"] == "CPU" else "cuda"
    pairs = "all" if scale.pairs < 0 else f"{scale.pairs:,}"
    fields = vars(scale) | {"table": table, "about": about, "size": facts["size"], "device": device}
    return PAGE.format(**fields | {"pairs": pairs, "minutes": minutes}, lora=LORA)


PAGE = """# Real votes, trained from scratch

    python benchmarks/real_votes.py DATA --work FOLDER --device {device} --minutes {minutes:g} --write

{about}

Votes by people from LMSYS, Auto-J, PandaLM, Tulu and LLMEval2, split by prompt: a quarter is the lockbox, a tenth
to calibrate on, the rest {folds} folds. Teacher (Llama) and student (Gemma-2) start from language models (width x layers: {size}) that were trained
here, from random weights, to predict the next token of the votes outside the lockbox and of HH-RLHF's pairs, tokenizers too;
they see no label, and no text of the lockbox. Preference pairs of step 1: {pairs} of HH-RLHF's. Rows of at most
{tokens} tokens, LoRA of rank {lora[rank]}, out-of-fold soft labels. Size, epochs and learning rate are those with the least log loss of its
teachers on the votes that they held out. TF-IDF: words and pairs of words of A less those of B, their absolute difference,
those of the prompt, and lengths; both orders, C by cross-validation over the folds. It learns from the votes of all folds, a
student from those of all but one. "Prior of its source" knows the file that a vote came from, which no model
is told. Intervals are bootstraps over prompts, changes paired by vote.

{table}

Caveats: one run of one seed; on a card, products of fp32 are computed in TF32. The base models have read the texts of held-out votes, so the log loss by which sizes are
chosen, and the temperature, are a little too good; the lockbox is not concerned. Votes of five sources with different
shares of ties, so a log loss here compares with none on LMSYS alone. LLMBar is not among them.
"""


if __name__ == "__main__":
    main()
