"""Step 6 on different students: the weights of the average, and its calibration."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import scipy.optimize
import sklearn.metrics
import torch
from safetensors.torch import load_file
from sklearn.base import clone
from tiny_models import base, record, votes
from transformers import AutoModelForCausalLM

from tiebreak import load
from tiebreak.baseline import files
from tiebreak.baseline import model as baseline_model
from tiebreak.errors import TiebreakError
from tiebreak.judge import package
from tiebreak.judge.logits import from_table, of_split, pool, read, softmax
from tiebreak.judge.scoring_parts import score_in_parts
from tiebreak.judge.tta import first_order
from tiebreak.model.classifier import load_adapted
from tiebreak.model.lora import adapter_state, save_adapter
from tiebreak.pipeline.steps import average, baseline
from tiebreak.recipe.models import Lora
from tiebreak.recipe.schema import Average, Prompt, Tta
from tiebreak.runtime import Runtime
from tiebreak.stats.blend import LogBlend
from tiebreak.stats.calibration import CALIBRATORS, SHAPE
from tiebreak.votes import splits
from tiebreak.votes.schema import CALIBRATION, LOCKBOX, swap_answers, write_table

pytestmark = pytest.mark.slow

LORA = Lora(rank=2, alpha=4.0, dropout=0.0)
FOLDS = 3


@dataclass
class World:
    folder: Path
    rows: pa.Table
    inputs: dict[str, tuple[Path, ...]]

    def run(
        self,
        method: str,
        name: str = "out",
        share: float = 1.0,
        calibration: str = "temperature",
        blend: str = "auto",
        **runtime,
    ) -> dict:
        output = self.folder / name
        output.mkdir()
        tta = Tta(max_tokens=256, share=share)
        chosen = Average(method=method, calibration=calibration, blend=blend)
        settings = average.Settings(average=chosen, prompt=Prompt(), tta=tta)
        return average.run(
            settings, self.inputs, output, Runtime("cpu", self.folder / f"{name}-s", **runtime)
        )


def label(rows: pa.Table) -> np.ndarray:
    return np.stack([rows[f"p_{c}"].to_numpy() for c in ("a", "b", "tie")], axis=1).argmax(axis=1)


def make(folder: Path, with_side: bool, lockbox_labels: int = 0) -> World:
    """Three students; the second predicts the labels of the calibration side, so it has the least loss there."""
    table = votes(60, seed=3)
    fold = np.r_[np.arange(36) % FOLDS, np.full(12, LOCKBOX), np.full(12, CALIBRATION if with_side else 0)]
    students, predicted = [], []
    for n in range(FOLDS):
        classifier = load_adapted(base("llama"), LORA, None, "fp32", "cpu", seed=n)
        generator = torch.Generator().manual_seed(n)
        classifier.model.score.weight.data.normal_(generator=generator)
        classifier.head_trained = True
        students.append(folder / "students" / f"fold{n}")
        save_adapter(adapter_state(classifier.model, with_head=True), LORA, students[-1] / "adapter")
        record(students[-1], *(f"fold{k}" for k in range(FOLDS) if k != n))
        scored = score_in_parts(
            classifier,
            splits.tag_splits(
                {
                    "held_out": table.filter(fold == n),
                    "calibration": table.filter(fold == CALIBRATION),
                    "other": table.filter((fold != n) & (fold != CALIBRATION)),
                }
            ),
            Prompt(),
            256,
            "student",
            n,
            Runtime("cpu", folder / f"scratch{n}"),
        )
        write_table(scored, students[-1] / "logits.parquet")
        logits = pool(list(from_table(scored))).aligned(table["id"].to_pylist())
        predicted.append(softmax(logits.z_NOC).mean(axis=1).argmax(axis=1))
    y = label(table)
    y[48:] = np.where(np.arange(12) % 4 == 0, y[48:], predicted[1][48:])
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
    """The least of the total log loss and the prior's SHAPE (1 / T - 1 + log T)."""

    def loss(log_t: float) -> float:
        scaled = softmax(np.log(p) / np.exp(log_t))
        total = sklearn.metrics.log_loss(y, scaled, labels=[0, 1, 2], normalize=False)
        return total + SHAPE * (np.exp(-log_t) - 1 + log_t)

    bounds = np.log([0.01, 100.0])
    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=bounds, method="bounded").x))


def test_the_average_is_merged_in_fp32_and_stored_as_its_base_was(tmp_path: Path) -> None:
    world, made = make(tmp_path, with_side=False), {}
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


def predictions_of(world: World, student: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """A student's predictions in both orders for the votes of a split, and the labels."""
    y = dict(zip(world.rows["id"].to_pylist(), label(world.rows).tolist(), strict=True))
    (logits,) = of_split(read([student]), split)
    return softmax(logits.z_NOC).mean(axis=1), np.array([y[vote] for vote in logits.ids])


def held_out(world: World) -> tuple[np.ndarray, np.ndarray]:
    """The students' predictions for their held-out votes, and the labels."""
    found = [predictions_of(world, student, "held_out") for student in world.inputs["students"]]
    return np.concatenate([p for p, _ in found]), np.concatenate([y for _, y in found])


def test_the_average_is_calibrated_on_its_logits_of_the_calibration_side(tmp_path: Path) -> None:
    world = make(tmp_path, with_side=True)
    metrics = world.run("exact")
    assert metrics["calibrated_on"] == ["calibration"]
    assert metrics["fitted_on"] == ["calibration", "fold0", "fold1", "fold2"]  # the rules count the folds
    assert package.read(tmp_path / "out" / "model").provenance["learned_from"] == ["fold0", "fold1", "fold2"]
    side = world.rows.filter(pa.compute.equal(world.rows["fold"], CALIBRATION))
    judge = load(tmp_path / "out" / "model", device="cpu")
    z = judge.logits(side.drop(["group", "fold"]), both=True)
    reference = best_temperature(softmax(z).mean(axis=1), label(side))
    assert metrics["temperature"] == pytest.approx(reference, rel=1e-3)
    (kept,) = read([tmp_path / "out"])
    assert kept.split == "calibration"
    assert kept.ids == side["id"].to_pylist()
    np.testing.assert_allclose(kept.z_NOC, z, atol=1e-5)


def test_without_votes_set_aside_those_held_out_calibrate(tmp_path: Path) -> None:
    world = make(tmp_path, with_side=False)
    metrics = world.run("exact")
    assert metrics["calibrated_on"] == ["fold0", "fold1", "fold2"]
    assert metrics["temperature"] == pytest.approx(best_temperature(*held_out(world)), rel=1e-3)
    assert {logits.split for logits in read([tmp_path / "out"])} == {"held_out"}


@pytest.mark.parametrize("method", ["temperature", "vector", "matrix", "best"])
def test_the_calibration_of_the_recipe_ships(method: str, tmp_path: Path) -> None:
    world = make(tmp_path, with_side=False)
    metrics = world.run("exact", calibration=method)
    p, y = held_out(world)
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
    assert average._fit_calibrator(rows, softmax(z_NC), "best")[0] == name


def test_no_label_of_the_lockbox_counts(tmp_path: Path) -> None:
    made = []
    for n in range(2):
        (tmp_path / str(n)).mkdir()
        metrics = make(tmp_path / str(n), with_side=True, lockbox_labels=n).run("exact")
        made.append((metrics, (tmp_path / str(n) / "out" / "model" / "tiebreak.json").read_text()))
    assert made[0] == made[1]


def test_rules_count_the_votes_of_the_training_sides_alone(tmp_path: Path) -> None:
    world = make(tmp_path, with_side=True)
    answers = [[None] if n % 3 == 0 else [f"text {n}"] for n in range(60)]  # A is missing in every third
    at = world.rows.schema.get_field_index("response_a")
    rows = world.rows.set_column(at, "response_a", pa.array(answers, pa.list_(pa.string())))
    write_table(rows, tmp_path / "rows" / "rows.parquet")
    world.run("exact")
    counts = package.read(tmp_path / "out" / "model").rules["counts"]
    trained = np.arange(0, 36, 3)  # of the lockbox, from 36 on, and the calibration side, from 48 on, none
    expected = np.bincount(label(rows)[trained], minlength=3)
    assert counts["a missing"] == expected.tolist()
    assert counts["b missing"] == swap_answers(expected).tolist()
    assert counts["identical"] == [0, 0, 0]


def test_the_share_of_uncertain_votes_sets_where_one_order_is_enough(tmp_path: Path) -> None:
    world = make(tmp_path, with_side=True)
    world.run("exact", share=0.25)
    side = world.rows.filter(pa.compute.equal(world.rows["fold"], CALIBRATION)).drop(["group", "fold"])
    judge = load(tmp_path / "out" / "model", device="cpu")
    z, (order, _) = judge.logits(side, both=True), first_order(side)
    first = softmax(z[np.arange(12), order])
    uncertain = first.max(axis=1) < judge.package.certain_from
    assert uncertain.sum() == 3
    p = np.where(uncertain[:, None], softmax(z).mean(axis=1), first)
    assert judge.package.calibration["temperature"] == pytest.approx(
        best_temperature(p, label(side)), rel=1e-3
    )


@pytest.mark.parametrize(("with_side", "seen"), [(True, "calibration"), (False, "fold0")])
def test_votes_that_a_student_has_seen_calibrate_nothing(tmp_path: Path, with_side: bool, seen: str) -> None:
    world = make(tmp_path, with_side)
    record(world.inputs["students"][0], "fold1", "fold2", seen)
    with pytest.raises(TiebreakError, match=f"the average's calibration needs votes .* and {seen} have"):
        world.run("exact")
    (world.inputs["students"][0] / "manifest.json").unlink()
    with pytest.raises(TiebreakError, match="no record of the votes"):
        world.run("exact", "again")


@pytest.fixture
def with_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setitem(baseline_model.TREES, "max_iter", 5)
    world, folder = make(tmp_path, with_side=True), tmp_path / "baseline"
    folder.mkdir()
    made = baseline.run(
        baseline.Settings(), {"rows": world.inputs["rows"]}, folder, Runtime("cpu", tmp_path / "s")
    )
    record(folder, *made["learned_from"], fitted_on=made["fitted_on"])
    world.inputs["baseline"] = (folder,)
    return world


def test_a_blend_with_the_baseline_is_fitted_on_the_calibration_side_and_ships(with_baseline: World) -> None:
    metrics = with_baseline.run("exact", "out", blend="log")
    with_baseline.run("exact", "plain", blend="none")
    folder, plain = (with_baseline.folder / name / "model" for name in ("out", "plain"))
    assert metrics["blend"] == "log"
    assert package.read(plain).blend is None
    assert not (plain / files.NAME).exists()
    side = with_baseline.rows.filter(pa.compute.equal(with_baseline.rows["fold"], CALIBRATION))
    alone, simple = load(plain, device="cpu").predict(side), files.read(folder).predict_proba(side)
    expected = LogBlend().fit(np.stack([alone, simple], axis=1), np.eye(3)[label(side)])
    np.testing.assert_allclose(package.read(folder).blend["weights"], expected.weights_, rtol=1e-2)


def test_a_baseline_without_clear_gain_is_not_shipped(with_baseline: World) -> None:
    metrics = with_baseline.run("exact")
    assert metrics["blend"] == "none"  # twelve votes are too few for a clear gain
    assert not (with_baseline.folder / "out" / "model" / files.NAME).exists()


def test_a_baseline_that_has_seen_the_calibration_side_is_refused(with_baseline: World) -> None:
    record(with_baseline.inputs["baseline"][0], "fold0", "calibration")
    with pytest.raises(TiebreakError, match="needs votes that have not been seen, and calibration have"):
        with_baseline.run("exact")
