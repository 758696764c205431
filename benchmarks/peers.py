"""Peers: other trainers' judges of the same votes, from the same base model, for benchmarks/pretrained.py to compare.

    python benchmarks/peers.py NAME --rows ROWS --base FOLDER --into FOLDER [--votes N] [--device cuda]

NAME is one of `trainer` (transformers' Trainer, a classifier of three classes), `trl` (TRL's RewardTrainer, one score a
text) and `pairjudge` (its own trainer). ROWS is step 2's rows.parquet. What a peer says of the calibration side and the
lockbox is written as NAME.npz, arrays (votes, 3), beside NAME.json with its settings and minutes; what is there is kept.
Each needs its own package, and none needs tiebreak's pins: run them in an environment of their own.

All see the votes outside lockbox and calibration side for two epochs, rows of 1,024 tokens at most. Each has its own defaults
but for what its function states. TRL knows no ties: it learns from the votes that have a winner.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

LOCKBOX, CALIBRATION, EXTRA = -1, -4, -2
"""Values of rows.parquet's column `fold` (votes.schema)."""
TEMPLATE = 'User question:\n"""{prompt}"""\nAnswer A:\n"""{a}"""\nAnswer B:\n"""{b}"""\n'
TOKENS = 1024
EPOCHS = 2
BATCH = 32

Array = NDArray[np.float64]
Predictions = dict[str, Array]


def trainer(
    votes: dict[str, pa.Table], base: str, folder: Path, device: str
) -> tuple[Predictions, dict[str, Any]]:
    """transformers' Trainer: all weights, bf16, its default rate 5e-5, linear decay; both orders shown, both averaged."""
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3, dtype=torch.float32)
    model.config.pad_token_id = tokenizer.pad_token_id

    def rows(table: pa.Table, order: int) -> list[dict[str, Any]]:
        prompt, *answers = texts(table)
        a, b = answers[::-1] if order else answers
        shown = [TEMPLATE.format(prompt=p, a=x, b=y) for p, x, y in zip(prompt, a, b, strict=True)]
        ids = tokenizer(shown, truncation=True, max_length=TOKENS)["input_ids"]
        labels = labels_of(table)[:, [1, 0, 2] if order else [0, 1, 2]].argmax(axis=1)
        return [{"input_ids": i, "labels": int(label)} for i, label in zip(ids, labels, strict=True)]

    arguments = TrainingArguments(
        str(folder / "trainer"), num_train_epochs=EPOCHS, per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=BATCH, bf16=device == "cuda", use_cpu=device == "cpu", save_strategy="no",
        report_to=[], disable_tqdm=True, logging_steps=100, train_sampling_strategy="group_by_length",
    )  # fmt: skip
    learner = Trainer(
        model, arguments, DataCollatorWithPadding(tokenizer),
        train_dataset=[*rows(votes["training"], 0), *rows(votes["training"], 1)],
    )  # fmt: skip
    learner.train()
    learner.args.train_sampling_strategy = "random"  # grouping by length would shuffle predictions too

    def predict(table: pa.Table) -> Array:
        z = [learner.predict(rows(table, order)).predictions.astype(np.float64) for order in (0, 1)]
        return (softmax(z[0]) + softmax(z[1])[:, [1, 0, 2]]) / 2

    return {side: predict(votes[side]) for side in ("calibration", "lockbox")}, {"rate": 5e-5, "batch": BATCH}


def trl(
    votes: dict[str, pa.Table], base: str, folder: Path, device: str
) -> tuple[Predictions, dict[str, Any]]:
    """TRL's RewardTrainer: all weights at its default rate 1e-4; texts over 1,024 tokens lose their beginning.

    Its scores s make P(A) = (1 - t) sigmoid(s_a - s_b) with t the share of ties among the training votes.
    """
    import torch
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    model.config.pad_token_id = tokenizer.pad_token_id

    def ids(table: pa.Table, answer: int) -> list[list[int]]:
        prompt, *answers = texts(table)
        chats = [f"User: {p}\n\nAssistant: {x}" for p, x in zip(prompt, answers[answer], strict=True)]
        return [[*text[1 - TOKENS :], tokenizer.eos_token_id] for text in tokenizer(chats)["input_ids"]]

    training, labels = votes["training"], labels_of(votes["training"])
    both = list(zip(ids(training, 0), ids(training, 1), labels.argmax(axis=1), strict=True))
    ordered = [(a, b) if winner == 0 else (b, a) for a, b, winner in both if winner != 2]
    chosen, rejected = zip(*ordered, strict=True)
    arguments = RewardConfig(
        str(folder / "trl"), num_train_epochs=EPOCHS, per_device_train_batch_size=BATCH, max_length=TOKENS,
        bf16=device == "cuda", use_cpu=device == "cpu", gradient_checkpointing=False, save_strategy="no",
        report_to=[], disable_tqdm=True, logging_steps=100,
    )  # fmt: skip
    data = Dataset.from_dict({"chosen_ids": chosen, "rejected_ids": rejected})
    learner = RewardTrainer(model, arguments, train_dataset=data, processing_class=tokenizer)
    learner.train()
    model.eval()

    def scores(documents: list[list[int]]) -> Array:
        order, found = np.argsort([-len(d) for d in documents]), np.zeros(len(documents))
        for start in range(0, len(order), BATCH):
            members = order[start : start + BATCH]
            batch = tokenizer.pad({"input_ids": [documents[n] for n in members]}, return_tensors="pt")
            with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                found[members] = model(**batch.to(model.device)).logits[:, 0].float().cpu().numpy()
        return found

    ties = float(labels[:, 2].mean())

    def predict(table: pa.Table) -> Array:
        wins = (1 - ties) / (1 + np.exp(scores(ids(table, 1)) - scores(ids(table, 0))))
        return np.stack([wins, 1 - ties - wins, np.full(len(wins), ties)], axis=1)

    about = {"rate": 1e-4, "batch": BATCH, "ties": ties, "pairs": len(ordered)}
    return {side: predict(votes[side]) for side in ("calibration", "lockbox")}, about


def pairjudge(
    votes: dict[str, pa.Table], base: str, folder: Path, device: str
) -> tuple[Predictions, dict[str, Any]]:
    """pairjudge's trainer: LoRA 16 at its default rate 2e-4, its template; the best epoch by its own holdout of 5 %.

    One order in training, as it has it; its swap average in prediction. A vote that it refuses, as one of two empty
    answers, has the class shares of the training votes.
    """
    import pandas as pd
    from pairjudge.judge import PairwiseJudge
    from pairjudge.training import JudgeTrainConfig, train

    def frame(table: pa.Table) -> "pd.DataFrame":
        columns = dict(zip(("prompt", "response_a", "response_b"), texts(table), strict=True))
        made = pd.DataFrame({name: [[text] for text in column] for name, column in columns.items()})
        made.insert(0, "id", table["id"].to_pylist())
        winners = pd.DataFrame(labels_of(table), columns=["winner_model_a", "winner_model_b", "winner_tie"])
        return pd.concat([made, winners], axis=1)

    frame(votes["training"]).to_parquet(folder / "pairjudge-training.parquet")
    config = JudgeTrainConfig(
        train_path=str(folder / "pairjudge-training.parquet"),
        model_name=base, local_files_only=True, max_length=TOKENS, n_epochs=EPOCHS, device=device,
        per_device_train_batch_size=BATCH, per_device_eval_batch_size=BATCH, gradient_accumulation_steps=1,
        dtype="bfloat16" if device == "cuda" else "float32", output_dir=str(folder / "pairjudge"),
    )  # fmt: skip
    train(config)
    judge = PairwiseJudge.from_pretrained(
        folder / "pairjudge" / "merged", device=device, local_files_only=True
    )
    shares_C = labels_of(votes["training"]).mean(axis=0)
    refused: dict[str, int] = {}

    def predict(side: str) -> Array:
        asked = frame(votes[side])
        columns = asked["prompt"], asked["response_a"], asked["response_b"]
        taken_N = np.array(
            [
                judge.packer.pack(p, a, b).usable and judge.packer.pack(p, b, a).usable
                for p, a, b in zip(*columns, strict=True)
            ]
        )
        refused[side] = int((~taken_N).sum())
        p_NC = np.tile(shares_C, (len(asked), 1))
        taken = asked[taken_N].reset_index(drop=True)
        p_NC[taken_N] = judge.predict_proba(taken, swap_debias=True, batch_size=BATCH)
        return p_NC

    both = {side: predict(side) for side in ("calibration", "lockbox")}
    return both, {"rate": config.lr, "batch": BATCH, "rank": config.lora_r, "refused": refused}


PEERS: dict[str, Callable[[dict[str, pa.Table], str, Path, str], tuple[Predictions, dict[str, Any]]]] = {
    "trainer": trainer,
    "trl": trl,
    "pairjudge": pairjudge,
}
PACKAGE = {"trainer": "transformers", "trl": "trl", "pairjudge": "pairjudge"}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("name", choices=PEERS)
    arguments.add_argument("--rows", type=Path, required=True)
    arguments.add_argument("--base", required=True, help="folder of the base model")
    arguments.add_argument("--into", type=Path, required=True)
    arguments.add_argument(
        "--votes", type=int, default=-1, help="of each side; tries the script, measures nothing"
    )
    arguments.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    chosen = arguments.parse_args()
    if (chosen.into / f"{chosen.name}.json").is_file():
        return
    chosen.into.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    predictions, about = PEERS[chosen.name](
        sides_of(chosen.rows, chosen.votes), chosen.base, chosen.into, chosen.device
    )
    np.savez(chosen.into / f"{chosen.name}.npz", **predictions)
    about |= {"minutes": (time.monotonic() - began) / 60, "version": version(PACKAGE[chosen.name])}
    (chosen.into / f"{chosen.name}.json").write_text(json.dumps(about) + "\n", encoding="utf-8")


def sides_of(rows: Path, count: int) -> dict[str, pa.Table]:
    """Training votes, calibration side and lockbox of step 2's file."""
    table = pq.read_table(rows)
    fold = table["fold"].to_numpy()
    masks = {"training": fold >= 0, "calibration": fold == CALIBRATION, "lockbox": fold == LOCKBOX}
    sides = {side: table.filter(pa.array(mask)) for side, mask in masks.items()}
    return sides if count < 0 else {side: part.slice(0, count) for side, part in sides.items()}


def texts(table: pa.Table) -> list[list[str]]:
    """Prompts, answers A and answers B, their turns joined; lone surrogates replaced."""
    columns = (table[name].to_pylist() for name in ("prompt", "response_a", "response_b"))
    joined = [["\n".join(turn or "" for turn in turns) for turns in column] for column in columns]
    return [[text.encode("utf-8", "replace").decode() for text in column] for column in joined]


def labels_of(table: pa.Table) -> Array:
    return np.stack([table[name].to_numpy() for name in ("p_a", "p_b", "p_tie")], axis=1).astype(np.float64)


def softmax(z_NC: Array) -> Array:
    e_NC: Array = np.exp(z_NC - z_NC.max(axis=1, keepdims=True))
    p_NC: Array = e_NC / e_NC.sum(axis=1, keepdims=True)
    return p_NC


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
