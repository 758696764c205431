"""`tiebreak export kaggle`: a data set with the judge and wheels, and a notebook that predicts with it offline.

Names and lengths in the metadata are those of Kaggle's API (github.com/Kaggle/kaggle-api, docs/datasets_metadata.md and
docs/kernels_metadata.md).
"""

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiebreak
from tiebreak import json_files
from tiebreak.commands import outputs
from tiebreak.commands.export import wheels
from tiebreak.commands.push import model_files
from tiebreak.errors import TiebreakError
from tiebreak.hardware.gpu_specs import find_card
from tiebreak.hardware.memory_model import decoder_shape
from tiebreak.hardware.throughput import rate
from tiebreak.output import new_folder, replacing_folder, write_atomically

MACHINES = {"GPU T4 x2": ("T4", 2), "GPU P100": ("P100", 1), "GPU L4 x4": ("L4", 4)}
"""Kaggle's names of accelerators, each with its card and how many of it there are."""
NOTEBOOK = "predict.ipynb"
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{4,48}[a-z0-9]")
_OWNER = re.compile(r"[A-Za-z0-9][\w-]*", re.ASCII)


@dataclass(frozen=True)
class Bundle:
    """What Kaggle gets. name: of the data set, 6 to 50 letters, digits and dashes. test: the file of pairs in the competition.

    hours: what a notebook may take.
    """

    owner: str
    name: str
    competition: str
    test: str = "test.csv"
    hours: float = 9.0

    def __post_init__(self) -> None:
        if not _OWNER.fullmatch(self.owner):
            raise TiebreakError(
                f"--owner {self.owner!r} is no name of Kaggle, such as ada; it is in your profile's address"
            )
        if not _SLUG.fullmatch(self.name):
            raise TiebreakError(
                f"--name {self.name!r} is no name of a data set: 6 to 50 small letters, digits and dashes, such as my-judge"
            )

    @property
    def title(self) -> str:
        """The notebook's, of which Kaggle makes its name."""
        return f"{self.name} predict"

    def dataset_metadata(self) -> dict[str, Any]:
        return {
            "title": self.name,
            "id": f"{self.owner}/{self.name}",
            "licenses": [{"name": "other"}],
            "description": "A judge of pairs of answers made by tiebreak, and wheels to run it offline. The judge has the "
            "licence of the model it was trained from; each wheel has its own.",
        }

    def kernel_metadata(self) -> dict[str, Any]:
        return {
            "id": f"{self.owner}/{self.title.replace(' ', '-')}",
            "title": self.title,
            "code_file": NOTEBOOK,
            "language": "python",
            "kernel_type": "notebook",
            "is_private": "true",
            "enable_gpu": "true",
            "enable_internet": "false",
            "machine_shape": "NvidiaTeslaT4",
            "dataset_sources": [f"{self.owner}/{self.name}"],
            "competition_sources": [self.competition],
            "kernel_sources": [],
            "model_sources": [],
        }


@dataclass(frozen=True)
class Estimate:
    """How fast a machine of Kaggle scores, estimated. hours: of 10,000 pairs whose rows are as long as they may be."""

    machine: str
    tokens_per_s: int
    hours: float


def export(
    where: Path,
    folder: Path,
    bundle: Bundle,
    from_wheels: Path | None = None,
    python: str = "3.12",
    image: Path | None = None,
    overrides: Sequence[str] = (),
) -> list[Estimate]:
    """Write `folder`/dataset and `folder`/kernel for a recipe that ran, or a model folder.

    from_wheels: a folder of wheels; downloaded if not given, for this `python` and what the `image` has. Raises TiebreakError for a
    model that is damaged, a folder that holds something, and wheels that are not to be had; then nothing is left behind.
    """
    model = outputs.model_folder(where, overrides)
    files = model_files(model)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TiebreakError(f"{folder} is there and holds something; name a new folder")
    new_folder(folder.parent)
    found = list(estimates(model))
    with replacing_folder(folder) as partial:
        dataset, kernel = partial / "dataset", partial / "kernel"
        dataset.mkdir()
        kernel.mkdir()
        for name, path in files.items():
            shutil.copyfile(path, dataset / name)
        if from_wheels:
            wheels.copy(from_wheels, dataset)
        else:
            wheels.download(dataset, python, image)
        wheels.write_own(dataset)
        _write_json(dataset / "dataset-metadata.json", bundle.dataset_metadata())
        _write_json(kernel / "kernel-metadata.json", bundle.kernel_metadata())
        _write_json(kernel / NOTEBOOK, notebook(bundle, found))
    return found


def estimates(model: Path) -> Iterator[Estimate]:
    """Estimates by what was measured on an H100, carried over by the cards' peaks; nothing for a decoder of unknown shape.

    Cards before Ampere do without the attention kernels. In fp32, where fp16 overflows, they take some six times as long.
    """
    from tiebreak.judge import package

    try:
        shape = decoder_shape(json_files.read_object(model / "config.json", package.AGAIN))
    except TiebreakError:
        return
    tta = package.read(model).tta
    tokens = 10_000 * tta.max_tokens * (1 + tta.share if tta.both_orders else 1)
    for machine, (name, count) in MACHINES.items():
        card = find_card(name)
        held = "int8" if card.has_bf16 else "without kernels"
        speed = count * rate(card, "score", held, shape.matrices) / (2 * shape.matrices)
        yield Estimate(machine, round(speed), tokens / speed / 3600)


def notebook(bundle: Bundle, found: Sequence[Estimate]) -> dict[str, Any]:
    """The notebook, in Jupyter's format 4.5."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    told = (
        "; ".join(f"{e.machine} {e.tokens_per_s:,} tokens a second" for e in found) or "nothing of this model"
    )
    environment = Environment(
        loader=PackageLoader("tiebreak.commands.export"), undefined=StrictUndefined, autoescape=False
    )
    source = environment.get_template("kaggle.py.j2").render(
        title=bundle.title, test=bundle.test, hours=bundle.hours, version=tiebreak.__version__, estimate=told
    )
    return {
        "cells": [_cell(number, text) for number, text in enumerate(re.split(r"(?m)^# %%", source)[1:])],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(number: int, text: str) -> dict[str, Any]:
    """A cell of the percent format: its first line says which kind it is."""
    kind, _, body = text.partition("\n")
    shared = {"id": f"cell-{number}", "metadata": {}}
    if kind.strip() == "[markdown]":
        return {**shared, "cell_type": "markdown", "source": re.sub(r"(?m)^# ?", "", body.strip())}
    return {**shared, "cell_type": "code", "execution_count": None, "outputs": [], "source": body.strip()}


def _write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, indent=2) + "\n")
