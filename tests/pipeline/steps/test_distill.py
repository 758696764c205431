"""Step 5 as planned by a recipe: arguments of `fit` against a sum over votes, orders and teachers by name."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.spatial.distance import cosine
from scipy.special import log_softmax, rel_entr, softmax
from tiny_models import record, votes

from tiebreak.errors import TiebreakError
from tiebreak.judge import scoring_parts
from tiebreak.judge.logits import of_split, read, to_table
from tiebreak.model import classifier
from tiebreak.pipeline import graph
from tiebreak.pipeline.steps import distill
from tiebreak.recipe.loader import parse
from tiebreak.recipe.schema import Recipe, Tta
from tiebreak.runtime import Runtime
from tiebreak.stats.calibration import TemperatureScaling
from tiebreak.training import fit
from tiebreak.training.losses import Targets
from tiebreak.training.rows import labels_of
from tiebreak.votes import splits
from tiebreak.votes.schema import CALIBRATION, EXTRA, LOCKBOX, swap_answers, write_table

FOLD = 1
FOLDS = np.array([0, 0, 0, 1, 1, 2, 2, LOCKBOX, CALIBRATION, EXTRA, EXTRA])
UNLABELLED = 2
TEACHERS = {"qwen": "models/q", "llama": "models/l"}


@dataclass
class World:
    """Votes, then pairs without votes; logits in the order shown by teacher, fold, vote and order."""

    folder: Path
    table: pa.Table
    fold: np.ndarray
    logits: dict[tuple[str, int], np.ndarray]

    def run(self, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """The arguments that the planned task of FOLD passes to `fit`."""
        task = graph.find(graph.tasks(recipe), f"distill/fold{FOLD}")
        passed: dict[str, Any] = {}

        def capture(
            _, scored, prompt, training, runtime, seed, loss, teachers_NOMC, weights_N
        ) -> list[float]:
            passed.update(scored=scored, loss=loss, teachers_NOMC=teachers_NOMC, weights_N=weights_N)
            return [0.0]

        monkeypatch.setattr(classifier, "load_adapted", lambda *_: None)
        monkeypatch.setattr(fit, "fit", capture)
        monkeypatch.setattr(fit, "save_trained", lambda *_: None)
        monkeypatch.setattr(distill, "_calibrate", lambda _, aside, marked, *__: {"marked": marked})
        folders = tuple(self.folder / upstream.name for upstream in task.inputs["logits"])
        inputs = {"base": (self.folder,), "rows": (self.folder,), "logits": folders}
        return passed | distill.run(task.settings, inputs, self.folder, Runtime("cpu", self.folder))


def make(folder: Path, teachers: dict[str, str]) -> World:
    """Different logits of every teacher, fold, vote and order, written as in step 4."""
    table = votes(len(FOLDS) + UNLABELLED, seed=1)
    fold = np.r_[FOLDS, np.full(UNLABELLED, EXTRA)]
    table = table.append_column("fold", pa.array(fold, pa.int8()))
    rows, pairs = table.slice(0, len(FOLDS)), table.slice(len(FOLDS)).to_pylist()
    write_table(rows, folder / "rows.parquet")
    unlabelled = [pair | dict.fromkeys(("p_a", "p_b", "p_tie")) for pair in pairs]
    table = pa.concat_tables([rows, pa.Table.from_pylist(unlabelled, schema=table.schema)])
    write_table(table.slice(len(FOLDS)), folder / "unlabelled.parquet")
    generator = np.random.default_rng(2)
    logits = {(name, k): generator.normal(size=(len(table), 2, 3)) * 2 for name in teachers for k in range(3)}
    for (name, k), z in logits.items():
        place = {k: "held_out", LOCKBOX: "lockbox"}
        split = np.array([place.get(f, "train") for f in fold.tolist()], dtype=object)
        split[len(FOLDS) :] = "unlabelled"
        n = np.flatnonzero(fold != CALIBRATION)
        origin = np.where(split[n] == "train", "in_sample", "out_of_fold")
        marked = pa.table({"id": table["id"].take(n), "split": split[n], "origin": origin})
        (folder / f"{name}-fold{k}-1of1").mkdir()
        record(folder / f"{name}-fold{k}-1of1", *(f"fold{other}" for other in range(3) if other != k))
        scored = to_table(marked, swap_answers(z[n], [False, True]), name, k)
        write_table(scored, folder / f"{name}-fold{k}-1of1" / "logits.parquet")
    return World(folder, table, fold, logits)


def planned(teachers: dict[str, str], soft_labels: str = "in_sample", **options: Any) -> Recipe:
    tree = {
        "name": "x",
        "data": {"votes": ["v.csv"]},
        "models": {
            "teachers": {name: {"base": base} for name, base in teachers.items()},
            "student": {"base": "models/g"},
        },
        "split": {"count": 3},
        "logits": {"soft_labels": soft_labels},
        "distill": options,
    }
    return parse(tree, "here")


def shown(world: World, name: str, n: int, recipe: Recipe) -> np.ndarray:
    """A teacher's logits of vote n in the two orders shown, as selected by the recipe."""
    held_out = recipe.logits.soft_labels == "out_of_fold" and world.fold[n] >= 0
    z = world.logits[name, int(world.fold[n]) if held_out else FOLD][n].astype(np.float32)
    if not recipe.distill.average_orders:
        return z
    p = (softmax(z[0]) + swap_answers(softmax(z[1]))) / 2
    return np.log([p, swap_answers(p)])


def direct(world: World, n: int, student: np.ndarray, recipe: Recipe) -> float:
    """The loss of vote n in both orders, its weight left out."""
    options, total = recipe.distill, 0.0
    label = np.array([world.table[f"p_{c}"][n].as_py() or 0.0 for c in ("a", "b", "tie")])
    for order, z in enumerate(student):
        if label.any():
            y = (label, swap_answers(label))[order] * (
                1 - options.label_smoothing
            ) + options.label_smoothing / 3
            total -= options.label_weight * (y * log_softmax(z)).sum()
        for name in recipe.models.teachers:
            term = options.per_teacher.get(name, options)
            q, p = (softmax(x / term.temperature) for x in (shown(world, name, n, recipe)[order], z))
            total += term.kl_weight * rel_entr(q, p).sum() + term.cosine_weight * cosine(q, p)
    return total


@pytest.mark.parametrize("soft_labels", ["in_sample", "out_of_fold"])
@pytest.mark.parametrize("average_orders", [False, True])
def test_the_loss_is_the_sum_over_votes_orders_and_teachers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, soft_labels: str, average_orders: bool
) -> None:
    recipe = planned(
        TEACHERS,
        soft_labels,
        label_weight=0.7,
        label_smoothing=0.1,
        kl_weight=0.4,
        cosine_weight=0.9,
        temperature=3.0,
        per_teacher={"llama": {"kl_weight": 1.3, "cosine_weight": 0.2, "temperature": 0.8}},
        average_orders=average_orders,
        extra_weight=0.25,
        unlabelled_weight=2.0,
    )
    world = make(tmp_path, TEACHERS)
    passed = world.run(recipe, monkeypatch)
    members = [n for n, fold in enumerate(world.fold) if fold not in (FOLD, LOCKBOX, CALIBRATION)]
    assert passed["scored"]["id"].to_pylist() == world.table["id"].take(members).to_pylist()
    by_name = [[shown(world, name, n, recipe) for name in ("llama", "qwen")] for n in members]
    np.testing.assert_allclose(passed["teachers_NOMC"], np.swapaxes(by_name, 1, 2), atol=1e-5)
    assert passed["weights_N"].tolist() == [1.0] * 5 + [0.25] * 2 + [2.0] * UNLABELLED
    student = np.random.default_rng(3).normal(size=(len(members), 2, 3))
    labels = labels_of(passed["scored"], unlabelled=True)
    for at, n in enumerate(members):  # vote by vote, so that no two mistakes cancel out
        targets = Targets(*map(torch.from_numpy, (labels[at], passed["teachers_NOMC"][at])))
        got = passed["loss"](torch.from_numpy(student[at]).float(), targets)
        assert got.item() == pytest.approx(direct(world, n, student[at], recipe), rel=1e-4)


@pytest.mark.parametrize(("unlabelled", "weight"), [(None, 0.25), (0.0, 0.0)])
def test_pairs_without_votes_count_as_extra_votes_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unlabelled: float | None, weight: float
) -> None:
    recipe = planned(TEACHERS, extra_weight=0.25, unlabelled_weight=unlabelled)
    passed = make(tmp_path, TEACHERS).run(recipe, monkeypatch)
    assert passed["weights_N"].tolist() == [1.0] * 5 + [0.25] * 2 + [weight] * UNLABELLED


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("aside", [20, 0])
def test_the_temperature_is_fitted_with_the_recipes_tta(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, both: bool, aside: int
) -> None:
    """Tokens and orders are those of the prediction, not those of the training; on the votes set
    aside, or where there are none on those held out.
    """
    asked: list[int] = []

    def score(_, table: pa.Table, prompt, max_tokens: int, model: str, fold: int, runtime) -> pa.Table:
        asked.append(max_tokens)
        return to_table(table, np.random.default_rng(4).normal(size=(len(table), 2, 3)), model, fold)

    monkeypatch.setattr(scoring_parts, "score_in_parts", score)
    fold = [CALIBRATION] * aside + [FOLD] * (60 - aside)
    rows = votes(60).append_column("fold", pa.array(fold, pa.int8()))
    recipe = planned(TEACHERS).model_copy(update={"tta": Tta(both_orders=both, max_tokens=1234)})
    settings = graph.find(graph.tasks(recipe), f"distill/fold{FOLD}").settings
    rows_aside = distill._set_aside(rows, FOLD)
    marked = splits.tag_splits(rows_aside)
    found = distill._calibrate(None, rows_aside, marked, settings, tmp_path, Runtime("cpu", tmp_path))
    split = "calibration" if aside else "held_out"
    (logits,) = of_split(read([tmp_path]), split)
    z = logits.z_NOC
    p = softmax(z, axis=-1).mean(axis=1) if both else softmax(z[:, 0], axis=-1)
    expected = TemperatureScaling().fit(p, labels_of(rows.slice(0, aside or 60))[:, 0]).temperature_
    assert asked == [1234]
    assert found["fitted_on"] == ["calibration" if aside else f"fold{FOLD}"]
    assert json.loads((tmp_path / "calibration.json").read_text())["fitted_on"] == split
    assert found["temperature"] == pytest.approx(expected)


def test_the_students_base_may_teach_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teachers = {"llama": "models/l", "gemma": "models/g"}
    recipe = planned(teachers)
    tasks = graph.tasks(recipe)
    student, teacher = (graph.find(tasks, f"{task}fold{FOLD}") for task in ("distill/", "teach/gemma-"))
    assert student.inputs["base"] == teacher.inputs["base"]
    world = make(tmp_path, teachers)
    passed = world.run(recipe, monkeypatch)
    members = np.flatnonzero(~np.isin(world.fold, (FOLD, LOCKBOX, CALIBRATION)))
    gemma = world.logits["gemma", FOLD][members]
    np.testing.assert_allclose(passed["teachers_NOMC"][:, :, 0], gemma, atol=1e-6)


@pytest.mark.parametrize(
    ("soft_labels", "origin"), [("in_sample", "out_of_fold"), ("out_of_fold", "through_teachers")]
)
def test_held_out_votes_that_other_folds_teachers_saw_are_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, soft_labels: str, origin: str
) -> None:
    passed = make(tmp_path, TEACHERS).run(planned(TEACHERS, soft_labels), monkeypatch)
    assert passed["learned_from"] == ["extra", "fold0", "fold2", "unlabelled"]
    marked = dict(
        zip(passed["marked"]["split"].to_pylist(), passed["marked"]["origin"].to_pylist(), strict=True)
    )
    assert marked == {"held_out": origin, "calibration": "out_of_fold", "lockbox": "out_of_fold"}


def test_a_temperature_of_votes_that_were_seen_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, recipe = make(tmp_path, TEACHERS), planned(TEACHERS)
    record(tmp_path / f"qwen-fold{FOLD}-1of1", "fold0", "calibration")
    with pytest.raises(
        TiebreakError, match=r"temperature needs .* and calibration have, directly or through"
    ):
        world.run(recipe, monkeypatch)
