"""Real votes, trained from scratch: the recipe at a small size against a lexical model and the class prior.

    python benchmarks/real_votes.py DATA --work FOLDER [--device cpu] [--write]

DATA (or the environment variable TIEBREAK_TEST_DATA) is a folder that holds lmsys/train.csv and
pairs/*.parquet; without it the benchmark says so and ends. Votes by people on LMSYS, Auto-J, PandaLM, Tulu and
LLMEval2 (without its two sources of automatic labels) are split by prompt into folds and a lockbox; HH-RLHF's
chosen and rejected answers are the preference pairs of step 1. No weights come from elsewhere: models are
random, tokenizers are trained on the votes. Of the sizes that a device trains within minutes, the one with the least
log loss on fold 0's held-out votes is taken (a CPU has one to choose from).

All arms learn from the votes outside the lockbox and are scored on the same lockbox votes:

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from machine import processor
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from tiebreak.data.readers import read_all
from tiebreak.data.votes import LOCKBOX, read_table, write_table
from tiebreak.errors import TiebreakError
from tiebreak.evaluate import stages
from tiebreak.evaluate.measure import truth_of
from tiebreak.evaluate.metrics import Array, Bootstrap, difference, log_loss, prior_prediction, summarise
from tiebreak.execute import local
from tiebreak.execute.plan import select
from tiebreak.execute.workspace import Workspace
from tiebreak.predict import package
from tiebreak.predict.verdict import Verdict

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
RESULT = Path(__file__).parent / "results" / "real-votes-cpu-202611"

SIZES = {
    "32 x 2": {"hidden": 32, "layers": 2},
    "64 x 2": {"hidden": 64, "layers": 2},
    "128 x 2": {"hidden": 128, "layers": 2, "heads": 4},
    "256 x 6": {"hidden": 256, "layers": 6, "heads": 4},
}
"""Hidden size and layers of teacher and student."""

TRIED = {"cpu": ("32 x 2",), "cuda": tuple(SIZES)[1:]}
"""What learns within minutes on a device."""

VOCABULARY = 4096
TOKENS = 384
LORA = {"rank": 32, "alpha": 64, "dropout": 0.05}
TRAINING = {
    "epochs": 2,
    "learning_rate": 1e-3,
    "head_rate": 10,
    "rows_per_step": 32,
    "max_tokens": TOKENS,
    "warmup_steps": 20,
}


def recipe(size: str) -> dict[str, Any]:
    model = {"precision": "fp32", "lora": LORA}
    return {
        "name": "real-votes",
        "data": {"votes": ["votes.parquet"], "preferences": ["preferences.parquet"]},
        "models": {
            "teachers": {"llama": {"base": f"models/llama {size}", **model}},
            "student": {"base": f"models/gemma2 {size}", **model},
        },
        "prompt": {"prompt_tokens": 128},
        "split": {"count": 2, "lockbox_share": 0.25},
        "post_pretrain": {"subset_rows": 1500, "training": TRAINING | {"epochs": 1}},
        "teach": {"training": TRAINING},
        "logits": {"max_tokens": TOKENS, "soft_labels": "out_of_fold"},
        "distill": {"training": TRAINING, "average_orders": True},
        "quantize": {"group": 32, "max_tokens": TOKENS},
        "tta": {"max_tokens": TOKENS},
        "compute": {"score_tokens": 16384, "train_tokens": 8192, "log_every": 1000},
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("data", nargs="?", default=os.environ.get("TIEBREAK_TEST_DATA"), type=Path)
    arguments.add_argument("--work", type=Path, required=True, help="folder of what is being made")
    arguments.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    arguments.add_argument("--write", action="store_true")
    chosen = arguments.parse_args()
    if chosen.data is None or not (chosen.data / PREFERENCES).is_file():
        print(
            f"skipped: {chosen.data} holds no {PREFERENCES}; name the data as argument or in TIEBREAK_TEST_DATA"
        )
        return
    source_of = prepare(chosen.data, chosen.work)
    device = f"compute.device={chosen.device}"
    works = {size: Workspace(recipe_file(chosen.work, size), (device,)) for size in TRIED[chosen.device]}
    held_out = {size: held_out_loss(work) for size, work in works.items()}
    size = min(held_out, key=lambda name: held_out[name])
    work = works[size]
    finish(work, work.tasks)
    rows = compare(work, source_of)
    facts = {
        "held_out_log_loss_of_size": {name: round(loss, 4) for name, loss in held_out.items()},
        "size": size,
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "device": chosen.device,
        "python": platform.python_version(),
        **{name: version(name) for name in ("tiebreak", "torch", "transformers", "scikit-learn")},
    }
    table = "\n".join(markdown(rows))
    line = json.dumps({"benchmark": "real votes", **facts, "rows": rows})
    print(table, line, sep="\n\n")
    if chosen.write:
        RESULT.with_suffix(".json").write_text(line + "\n")
        RESULT.with_suffix(".md").write_text(page(table, facts))


def prepare(data: Path, work: Path) -> dict[str, str]:
    """Write votes, pairs, models and recipes into the work folder. Returns the source of each vote by id."""
    from tiebreak.model import tiny

    work.mkdir(parents=True, exist_ok=True)
    tables = {name: read_all([data / path])[0] for name, path in SOURCES.items()}
    people = pc.invert(pc.match_substring_regex(tables["LLMEval2"]["id"], f"^{NOT_BY_PEOPLE}"))
    tables["LLMEval2"] = tables["LLMEval2"].filter(people)
    votes = pa.concat_tables(tables.values())
    write_table(votes, work / "votes.parquet")
    write_table(read_all([data / PREFERENCES], "preferences")[0], work / "preferences.parquet")
    texts = list(islice(_turns(votes), 30_000))
    (work / "models").mkdir(exist_ok=True)
    for size, shape in SIZES.items():
        for family in ("llama", "gemma2"):
            folder = work / "models" / f"{family} {size}"
            if not folder.is_dir():
                tiny.make(folder, family, texts, vocab=VOCABULARY, **shape)  # type: ignore[arg-type]
        recipe_file(work, size).write_text(yaml.safe_dump(recipe(size)))
    return {vote: name for name, table in tables.items() for vote in table["id"].to_pylist()}


def recipe_file(work: Path, size: str) -> Path:
    return work / f"{size}.yaml"


def _turns(votes: pa.Table) -> Iterator[str]:
    for column in ("prompt", "response_a", "response_b"):
        yield from (turn for turn in votes[column].combine_chunks().flatten().to_pylist() if turn)


def finish(work: Workspace, tasks: Sequence[Any]) -> None:
    if failed := local.run(work, tasks).failed:
        raise TiebreakError(f"not finished: {failed}")


def held_out_loss(work: Workspace) -> float:
    """The log loss of fold 0's teacher on the votes it held out, one order."""
    steps = ("ingest", "split", "post_pretrain", "teach", "score")
    wanted = {"post_pretrain/llama", "teach/llama-fold0", "score/llama-fold0-1of1"}
    finish(work, [t for t in select(work, steps) if t.step_name in steps[:2] or t.id in wanted])
    (said,) = stages.of_split(stages.read([work.folder(work.find("score/llama-fold0-1of1"))]), "held_out")
    truth = truth_of(read_table(work.folder(work.find("split/votes")) / "rows.parquet")).only(said.ids)
    return log_loss(said.probabilities(both_orders=False, calibrated=False), truth.y_NC)


def compare(work: Workspace, source_of: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every arm on the lockbox: log loss and accuracy with intervals, change from TF-IDF and from the prior."""
    rows = read_table(work.folder(work.find("split/votes")) / "rows.parquet")
    lockbox = rows.filter(pc.equal(rows["fold"], LOCKBOX))
    training = rows.filter(pc.greater_equal(rows["fold"], 0))
    truth, ids = truth_of(lockbox), lockbox["id"].to_pylist()
    arms: dict[str, list[Array]] = {
        "class prior": [prior_prediction(truth_of(training).y_NC.mean(axis=0), len(ids))],
        "prior of its source": [prior_of_source(training, lockbox, source_of)],
        "TF-IDF": [lexical(training, lockbox)],
        "student": students(work, ids),
        "shipped": [shipped(work, lockbox)],
    }
    from_lmsys = np.array([source_of[vote] == "LMSYS" for vote in ids])
    found = []
    for name, said in arms.items():
        metrics = summarise(said, truth.y_NC, BOOTSTRAP, truth.groups_N)
        found.append(
            {
                "arm": name,
                "rows": len(ids),
                "log_loss": asdict(metrics["log_loss"]),
                "accuracy": asdict(metrics["accuracy"]),
                "log_loss_lmsys": float(
                    np.mean([log_loss(p_NC[from_lmsys], truth.y_NC[from_lmsys]) for p_NC in said])
                ),
                "rows_lmsys": int(from_lmsys.sum()),
                **{
                    f"change_from_{base}": asdict(
                        difference(said, arms[base], truth.y_NC, BOOTSTRAP, truth.groups_N)
                    )
                    for base in ("class prior", "TF-IDF")
                },
            }
        )
    return found


def prior_of_source(training: pa.Table, lockbox: pa.Table, source_of: Mapping[str, str]) -> Array:
    known, y_NC = [source_of[vote] for vote in training["id"].to_pylist()], truth_of(training).y_NC
    shares = {name: y_NC[np.array(known) == name].mean(axis=0) for name in set(known)}
    return np.stack([shares[source_of[vote]] for vote in lockbox["id"].to_pylist()])


def students(work: Workspace, ids: Sequence[str]) -> list[Array]:
    scored = stages.read([work.folder(task) for task in work.tasks if task.step_name == "distill"])
    models = [model.aligned(ids) for model in stages.of_split(scored, "lockbox")]
    return [model.probabilities(both_orders=False, calibrated=False) for model in models]


def shipped(work: Workspace, lockbox: pa.Table) -> Array:
    (model,) = stages.read([work.folder(work.find("predict/quantized"))])
    verdict = Verdict.of(package.read(work.folder(work.find("quantize/student")) / "model"))
    return verdict.on(lockbox, model.aligned(lockbox["id"].to_pylist()).z_NOC)


def lexical(training: pa.Table, lockbox: pa.Table) -> Array:
    """TF-IDF of A less that of B, of the prompt, and lengths: logistic regression on both orders.

    C is the one with the least log loss over the folds; the probabilities are the mean over both orders.
    """
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=5, max_features=40_000, sublinear_tf=True)
    vectorizer.fit([text for column in zip(*_texts(training), strict=True) for text in column])
    x_NF, y_N = lexical_features(training, vectorizer), truth_of(training).y_NC.argmax(axis=1)
    fold_N = training["fold"].to_numpy()
    losses = {
        C: log_loss(
            np.concatenate(
                [regress(C, x_NF, y_N, fold_N != f, x_NF, fold_N == f) for f in np.unique(fold_N)]
            ),
            np.concatenate([y_N[fold_N == f] for f in np.unique(fold_N)]),
        )
        for C in (0.01, 0.03, 0.1, 0.3, 1.0)
    }
    best = min(losses, key=lambda C: losses[C])
    everything = np.ones(len(y_N), dtype=bool)
    of_lockbox = lexical_features(lockbox, vectorizer)
    return regress(best, x_NF, y_N, everything, of_lockbox, np.ones(len(lockbox), dtype=bool))


def lexical_features(votes: pa.Table, vectorizer: TfidfVectorizer) -> dict[int, sparse.csr_matrix]:
    """Features of every vote in each order, as stored and swapped."""
    prompt, a, b = (vectorizer.transform(texts) for texts in _texts(votes))
    length_a, length_b = (np.log1p([len(text) for text in texts]) for texts in _texts(votes)[1:])
    difference_N, both_N = length_a - length_b, (length_a + length_b) / 10
    made = {}
    for order, sign in ((0, 1.0), (1, -1.0)):
        plain = np.stack([sign * difference_N, np.abs(difference_N), both_N], axis=1)
        made[order] = sparse.hstack([sign * (a - b), prompt, abs(a - b), plain]).tocsr()
    return made


def regress(
    C: float,
    x: Mapping[int, sparse.csr_matrix],
    y_N: NDArray[np.integer],
    fit: NDArray[np.bool_],
    other: Mapping[int, sparse.csr_matrix],
    score: NDArray[np.bool_],
) -> Array:
    swapped_N = np.array([1, 0, 2])[y_N]
    model = LogisticRegression(C=C, max_iter=300)
    model.fit(sparse.vstack([x[0][fit], x[1][fit]]), np.concatenate([y_N[fit], swapped_N[fit]]))
    p_NC: Array = (
        model.predict_proba(other[0][score]) + model.predict_proba(other[1][score])[:, [1, 0, 2]]
    ) / 2
    return p_NC


def _texts(votes: pa.Table) -> list[list[str]]:
    return [
        ["\n".join(turn or "" for turn in turns) for turns in votes[column].to_pylist()]
        for column in ("prompt", "response_a", "response_b")
    ]


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


def page(table: str, facts: Mapping[str, Any]) -> str:
    about = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    return PAGE.format(table=table, about=about, size=facts["size"], tokens=TOKENS)


PAGE = """# Real votes, trained from scratch

    python benchmarks/real_votes.py DATA --work FOLDER --write

{about}

Votes by people from LMSYS, Auto-J, PandaLM, Tulu and LLMEval2, split by prompt: a quarter is the lockbox, the rest two
folds. Preference pairs of step 1: 1,500 of HH-RLHF. Teacher (Llama) and student (Gemma-2) are random models of {size}
(width x layers), tokenizers trained on the votes, two epochs of at most {tokens} tokens a row; out-of-fold soft labels.
TF-IDF: words and pairs of words of A less those of B, their absolute difference, those of the prompt, and lengths;
both orders, C by cross-validation over the folds. It learns from all votes outside the lockbox, a student
from those of one fold. "Prior of its source" knows the file that a vote came from, which no model is told. Intervals are
bootstraps over prompts, changes paired by vote.

{table}

"""


if __name__ == "__main__":
    main()
