"""Step 6 on students that differ: which are averaged with which weights, and how the average is calibrated."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import scipy.optimize
import sklearn.metrics
import torch
from models import base, votes
from safetensors.torch import load_file
from sklearn.base import clone
from transformers import AutoModelForCausalLM

from tiebreak import load
from tiebreak.data import sides
from tiebreak.data.logits import by_vote, softmax
from tiebreak.data.orders import first_shown
from tiebreak.data.votes import LOCKBOX, SOUP, read_table, write_table
from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.evaluate.calibration import CALIBRATORS
from tiebreak.model.classifier import load_adapted
from tiebreak.model.lora import PREFIX, adapter_state, read_adapter, save_adapter
from tiebreak.predict import package
from tiebreak.predict.parts import score_in_parts
from tiebreak.recipe import Average, Lora, Prompt, Tta
from tiebreak.recipe_file import parse
from tiebreak.runtime import Runtime
from tiebreak.steps import average

LORA = Lora(rank=2, alpha=4.0, dropout=0.0)
FOLDS = 3


@dataclass
class World:
    folder: Path
    rows: pa.Table
    inputs: dict[str, tuple[Path, ...]]

    def run(
        self, method: str, name: str = "out", share: float = 1.0, calibration: str = "temperature", **runtime
    ) -> dict:
        output = self.folder / name
        output.mkdir()
        tta = Tta(max_tokens=256, share=share)
        chosen = Average(method=method, calibration=calibration)
        settings = average.Settings(average=chosen, prompt=Prompt(), tta=tta)
        return average.run(
            settings, self.inputs, output, Runtime("cpu", self.folder / f"{name}-s", **runtime)
        )


def label(rows: pa.Table) -> np.ndarray:
    return np.stack([rows[f"p_{c}"].to_numpy() for c in ("a", "b", "tie")], axis=1).argmax(axis=1)


def make(folder: Path, with_soup: bool, lockbox_labels: int = 0) -> World:
    """Three students; the labels of the soup's votes are what the second says, so it alone is of use there."""
    table = votes(60, seed=3)
    fold = np.r_[np.arange(36) % FOLDS, np.full(12, LOCKBOX), np.full(12, SOUP if with_soup else 0)]
    students, said = [], []
    for n in range(FOLDS):
        classifier = load_adapted(base("llama"), LORA, None, "fp32", "cpu", seed=n)
        generator = torch.Generator().manual_seed(n)
        classifier.model.score.weight.data.normal_(generator=generator)
        classifier.head_trained = True
        students.append(folder / "students" / f"fold{n}")
        save_adapter(adapter_state(classifier.model, with_head=True), LORA, students[-1] / "adapter")
        scored = score_in_parts(
            classifier,
            sides.marked({"held_out": table.filter(fold == n), "other": table.filter(fold != n)}),
            Prompt(),
            256,
            "student",
            n,
            Runtime("cpu", folder / f"scratch{n}"),
        )
        write_table(scored, students[-1] / "logits.parquet")
        ids, z_NOC = by_vote(scored)
        z_NOC = z_NOC[[ids.index(vote) for vote in table["id"].to_pylist()]]
        said.append(softmax(z_NOC).mean(axis=1).argmax(axis=1))
    y = label(table)
    y[48:] = np.where(np.arange(12) % 4 == 0, y[48:], said[1][48:])
    y[36:48] = (y[36:48] + lockbox_labels) % 3
    for c, name in enumerate(("p_a", "p_b", "p_tie")):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.array((y == c).astype(np.float32)))
    rows = table.append_column("group", table["id"]).append_column("fold", pa.array(fold, pa.int8()))
    (folder / "rows").mkdir()
    write_table(rows, folder / "rows" / "rows.parquet")
    inputs = {"base": (base("llama"),), "rows": (folder / "rows",), "students": tuple(students)}
    return World(folder, rows, inputs)


def best_temperature(p: np.ndarray, y: np.ndarray) -> float:
    def loss(log_t: float) -> float:
        return sklearn.metrics.log_loss(y, softmax(np.log(p) / np.exp(log_t)), labels=[0, 1, 2])

    bounds = np.log([0.01, 100.0])
    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=bounds, method="bounded").x))


def test_the_average_is_merged_in_fp32_and_stored_as_its_base_was(tmp_path: Path) -> None:
    world, made = make(tmp_path, with_soup=False), {}
    for dtype in (torch.bfloat16, torch.float32):  # the same weights, in both types
        folder = tmp_path / f"base-{dtype}"
        shutil.copytree(base("llama"), folder)
        model = AutoModelForCausalLM.from_pretrained(base("llama"), dtype=torch.bfloat16).to(dtype)
        model.save_pretrained(folder)
        world.inputs["base"] = (folder,)
        world.run("exact", f"out-{dtype}")
        made[dtype] = load_file(tmp_path / f"out-{dtype}" / "model" / "model.safetensors")
    for name, weight in made[torch.float32].items():
        found = made[torch.bfloat16][name]
        assert found.dtype == (torch.float32 if name == "score.weight" else torch.bfloat16)
        assert torch.equal(found, weight.to(found.dtype)), name


def held_out(world: World, members: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """What the students said in both orders of the votes that they held out, and the labels."""
    y = dict(zip(world.rows["id"].to_pylist(), label(world.rows).tolist(), strict=True))
    said, labels = [], []
    for folder in world.inputs["students"]:
        if folder.name in members:
            logits = read_table(folder / "logits.parquet")
            ids, z = by_vote(logits.filter(pa.compute.equal(logits["split"], "held_out")))
            said.append(softmax(z).mean(axis=1))
            labels += [y[i] for i in ids]
    return np.concatenate(said), np.array(labels)


def test_weighted_by_each_students_own_held_out_votes(tmp_path: Path) -> None:
    world = make(tmp_path, with_soup=False)
    metrics = world.run("weighted")
    weights = []
    for folder in world.inputs["students"]:
        p, y = held_out(world, [folder.name])
        weights.append(1 / sklearn.metrics.log_loss(y, p, labels=[0, 1, 2]))
    shares = np.array(weights) / sum(weights)
    assert metrics["shares"] == pytest.approx(shares.tolist())
    heads = [read_adapter(s / "adapter")[0][PREFIX + "score.weight"] for s in world.inputs["students"]]
    expected = sum(share * head for share, head in zip(shares, heads, strict=True))
    state, lora = read_adapter(tmp_path / "out" / "adapter")
    torch.testing.assert_close(state[PREFIX + "score.weight"], expected.float())
    assert lora.rank == FOLDS * LORA.rank
    assert metrics["calibrated_on"] == "students' held-out votes"


def test_a_soup_is_chosen_and_calibrated_on_its_own_votes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(average, "ENOUGH_TO_CALIBRATE", 12)
    world = make(tmp_path, with_soup=True)
    metrics = world.run("soup")
    assert metrics["adapters"][0] == "fold1"
    assert metrics["calibrated_on"] == "soup votes"
    assert metrics["shares"] == pytest.approx([1 / len(metrics["adapters"])] * len(metrics["adapters"]))
    judge = load(tmp_path / "out" / "model", device="cpu")
    judge.verdict.calibration.temperature_ = 1.0
    soup = world.rows.filter(pa.compute.equal(world.rows["fold"], SOUP))
    reference = best_temperature(judge.predict(soup.drop(["group", "fold"])), label(soup))
    assert metrics["temperature"] == pytest.approx(reference, rel=1e-3)


@pytest.mark.parametrize("method", ["exact", "soup"])
def test_few_soup_votes_do_not_calibrate(method: str, tmp_path: Path) -> None:
    """The held-out votes of the students that are in the average do, and no others'."""
    world = make(tmp_path, with_soup=True)
    metrics = world.run(method)
    assert metrics["calibrated_on"] == "students' held-out votes"
    assert (len(metrics["adapters"]) < FOLDS) == (method == "soup")
    reference = best_temperature(*held_out(world, metrics["adapters"]))
    assert metrics["temperature"] == pytest.approx(reference, rel=1e-3)


@pytest.mark.parametrize("method", ["temperature", "vector", "matrix", "best"])
def test_the_calibration_of_the_recipe_ships(method: str, tmp_path: Path) -> None:
    world = make(tmp_path, with_soup=False)
    metrics = world.run("exact", calibration=method)
    p, y = held_out(world, [f"fold{n}" for n in range(FOLDS)])
    assert metrics["calibration"] == method or method == "best"
    expected = clone(CALIBRATORS[metrics["calibration"]]).fit(p, y)
    judge = load(tmp_path / "out" / "model", device="cpu")
    raw = softmax(judge.logits(votes(20), both=True)).mean(axis=1)
    np.testing.assert_allclose(judge.predict(votes(20)), expected.predict_proba(raw), rtol=1e-6)


@pytest.mark.parametrize(
    ("map_CC", "name"),
    [(0.5 * np.eye(3), "temperature"), (np.array([[1, 0, 0.8], [0, 1, 0.8], [-0.8, -0.8, 1]]), "matrix")],
)
def test_the_best_calibration_is_that_which_the_votes_need(map_CC: np.ndarray, name: str) -> None:
    rng = np.random.default_rng(0)
    z_NC = rng.normal(size=(3000, 3))
    p_NC = softmax(np.log(softmax(z_NC)) @ map_CC.T)
    y_NC = np.eye(3, dtype=np.float32)[(p_NC.cumsum(1) < rng.random((3000, 1))).sum(1)]
    ids = [str(n) for n in range(3000)]
    rows = pa.table(
        {"id": ids, "group": ids} | {f"p_{c}": y_NC[:, n] for n, c in enumerate(("a", "b", "tie"))}
    )
    said = average.Said(rows, np.stack([z_NC, z_NC], axis=1))
    assert said.calibrated(Tta(), None, "best")[0] == name


def test_no_label_of_the_lockbox_counts(tmp_path: Path) -> None:
    made = []
    for n in range(2):
        (tmp_path / str(n)).mkdir()
        metrics = make(tmp_path / str(n), with_soup=True, lockbox_labels=n).run("soup")
        made.append((metrics, (tmp_path / str(n) / "out" / "model" / "tiebreak.json").read_text()))
    assert made[0] == made[1]


def test_rules_count_the_votes_of_the_training_sides_alone(tmp_path: Path) -> None:
    world = make(tmp_path, with_soup=True)
    answers = [[None] if n % 3 == 0 else [f"text {n}"] for n in range(60)]  # A is missing in every third
    at = world.rows.schema.get_field_index("response_a")
    rows = world.rows.set_column(at, "response_a", pa.array(answers, pa.list_(pa.string())))
    write_table(rows, tmp_path / "rows" / "rows.parquet")
    world.run("exact")
    counts = package.read(tmp_path / "out" / "model").rules["counts"]
    trained = np.arange(0, 36, 3)  # of the lockbox, from 36 on, and the soup, from 48 on, none
    expected = np.bincount(label(rows)[trained], minlength=3)
    assert counts["a missing"] == expected.tolist()
    assert counts["b missing"] == expected[[1, 0, 2]].tolist()
    assert counts["identical"] == [0, 0, 0]


def test_the_share_of_uncertain_votes_sets_where_one_order_is_enough(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(average, "ENOUGH_TO_CALIBRATE", 12)
    world = make(tmp_path, with_soup=True)
    world.run("exact", share=0.25)
    soup = world.rows.filter(pa.compute.equal(world.rows["fold"], SOUP)).drop(["group", "fold"])
    judge = load(tmp_path / "out" / "model", device="cpu")
    z, (order, _) = judge.logits(soup, both=True), first_shown(soup)
    first = softmax(z[np.arange(12), order])
    uncertain = first.max(axis=1) < judge.package.certain_from
    assert uncertain.sum() == 3
    p = np.where(uncertain[:, None], softmax(z).mean(axis=1), first)
    assert judge.package.calibration["temperature"] == pytest.approx(
        best_temperature(p, label(soup)), rel=1e-3
    )


def test_a_stopped_soup_goes_on_with_what_it_scored(tmp_path: Path) -> None:
    world = make(tmp_path, with_soup=True)
    asked = iter([False] * 4 + [True])  # twice for each student
    with pytest.raises(Interrupted):
        world.run("soup", should_stop=lambda: next(asked))
    saved = sorted(path.parent.name for path in (tmp_path / "out-s").glob("*/*.parquet"))
    assert saved == ["soup-0", "soup-1"]
    (tmp_path / "out").rmdir()
    again = world.run("soup")
    whole = world.run("soup", "whole")
    assert again == whole
    assert json.loads((tmp_path / "out" / "model" / "tiebreak.json").read_text())["provenance"] == {
        key: whole[key] for key in ("average", "adapters", "shares", "calibration", "calibrated_on")
    }


def test_a_soup_without_votes_of_its_own_is_refused() -> None:
    tree = {
        "name": "x",
        "data": {"votes": ["v.csv"]},
        "models": {"teachers": {"t": {"base": "b"}}, "student": {"base": "b"}},
        "average": {"method": "soup"},
    }
    with pytest.raises(TiebreakError, match=r"split\.soup_share is 0"):
        parse(tree, "recipe.yaml")
    assert parse(tree | {"split": {"soup_share": 0.05}}, "recipe.yaml").average.method == "soup"
