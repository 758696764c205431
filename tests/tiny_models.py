"""Tiny models and random votes shared by several tests."""

import atexit
import json
from functools import cache
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import numpy as np
import pyarrow as pa

from tiebreak.model import tiny
from tiebreak.votes.schema import table_of

FAMILIES = ("llama", "qwen2", "qwen3", "gemma2")
TEXT = "why is the sky blue red good answer long short because light water never always code list"
WORDS = TEXT.split()


def votes(count: int, seed: int = 0, longest: int = 60) -> pa.Table:
    """Random votes with hard labels and texts of very different lengths."""
    generator = np.random.default_rng(seed)

    def text() -> list[str]:
        length = int(generator.integers(1, longest))
        return [" ".join(generator.choice(WORDS, length))]

    labels = generator.integers(0, 3, count)
    return table_of(
        {
            "id": f"v{n}",
            "prompt": text(),
            "response_a": text(),
            "response_b": text(),
            "p_a": float(label == 0),
            "p_b": float(label == 1),
            "p_tie": float(label == 2),
        }
        for n, label in enumerate(labels)
    )


def votes_with_gaps() -> pa.Table:
    """60 votes, some with an answer missing or empty, or with equal answers."""
    rows = votes(60, seed=1).to_pylist()
    for n in (3, 4, 5):
        rows[n]["response_a"] = [None]
        rows[n + 10]["response_b"] = [""]
        rows[n + 20]["response_b"] = rows[n + 20]["response_a"]
    return pa.Table.from_pylist(rows, schema=votes(1).schema)


def record(folder: Path, *learned_from: str, fitted_on: tuple[str, ...] = ()) -> None:
    """Write a manifest with the groups of votes that an artifact has seen."""
    folder.mkdir(parents=True, exist_ok=True)
    seen = {"learned_from": learned_from, "fitted_on": fitted_on}
    (folder / "manifest.json").write_text(json.dumps(seen), encoding="utf-8")


def swapped(table: pa.Table) -> pa.Table:
    """The votes with their answers exchanged."""
    names = {"response_a": "response_b", "response_b": "response_a"}
    return table.rename_columns([names.get(name, name) for name in table.column_names])


def temporary_folder() -> Path:
    """A new folder, deleted when the session ends."""
    folder = Path(mkdtemp(prefix="tiebreak-test-"))
    atexit.register(rmtree, folder, ignore_errors=True)
    return folder


FOR_KERNELS = 64
"""The hidden size at which a tiny model's heads are wide enough for the kernels of a GPU."""


@cache
def base(family: str, hidden: int = 32) -> Path:
    """A tiny random model folder of the family, made once a session; not to be changed."""
    folder = temporary_folder() / family
    tiny.make(
        folder,
        family,
        [" ".join(WORDS)] * 20,
        seed=1,
        hidden=hidden,
        layers=3,
        heads=4,
        vocab=400,
        initializer_range=0.2,
    )
    return folder


@cache
def judge_folder(guarantees: bool = False) -> Path:
    """A shipped model folder of random weights, made once a session; not to be changed.

    guarantees: with counts of 400 unseen voters who mostly agree with it.
    """
    import torch

    from tiebreak.judge import package
    from tiebreak.judge.judge import load_judge
    from tiebreak.model import classifier
    from tiebreak.model.merge import save
    from tiebreak.recipe.schema import Prompt, Tta
    from tiebreak.stats.guarantees import Guarantees

    folder = temporary_folder() / "model"
    model = classifier.load(base("llama"), device="cpu")
    model.model.score.weight.data.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    save(model, folder)
    shipped = package.Package(prompt=Prompt(), tta=Tta(max_tokens=120), calibration={"temperature": 1.3})
    package.write(shipped, folder)
    if guarantees:
        p_NC = load_judge(folder, "cpu").predict(votes(400))
        y_NC = np.eye(3)[p_NC.argmax(axis=1)] * 0.9 + 0.1 / 3
        counts = Guarantees.fit(p_NC, y_NC, np.arange(400)).to_json()
        package.write(shipped.model_copy(update={"guarantees": counts}), folder)
    return folder
