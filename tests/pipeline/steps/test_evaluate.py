"""Step 9 on hand-made folders of the earlier steps' outputs."""

import csv
import fcntl
import html
import json
import os
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats
import sklearn.metrics
import yaml
from html_pages import faults
from tiny_models import record

from tiebreak.errors import TiebreakError
from tiebreak.evaluate import report, submission
from tiebreak.judge.logits import mean_over_orders, softmax, to_table
from tiebreak.judge.rules import KINDS
from tiebreak.pipeline.steps import evaluate
from tiebreak.recipe.schema import Evaluate
from tiebreak.runtime import Runtime
from tiebreak.stats.blend import WEIGHTINGS
from tiebreak.stats.learning_curve import Point, learning_curve
from tiebreak.stats.metrics import Bootstrap, brier, log_loss, row_log_loss
from tiebreak.stats.nested_cv import nested
from tiebreak.votes.schema import EXTRA, LOCKBOX, ROWS_SCHEMA, read_table, write_table

pytestmark = pytest.mark.slow

FOLDS = 2
TEMPERATURE = 1.25


@dataclass
class World:
    """Votes with their labels, and logits (n, 3) that know something of them."""

    folder: Path
    ids: list[str]
    fold: np.ndarray
    y: np.ndarray
    z: np.ndarray

    def rows(self, fold: int) -> np.ndarray:
        return np.flatnonzero(self.fold == fold)

    def logits(self, model: str, fold: int | None, seed: int, orders: int = 2) -> dict[str, np.ndarray]:
        """Noisy logits (n, orders, 3) of all votes, swap undone, and the same in tables by split."""
        noise = np.random.default_rng(seed).normal(scale=0.5, size=(len(self.ids), 2, 3))
        return {"model": model, "fold": fold, "z": (self.z[:, None] + noise)[:, :orders]}


def world(folder: Path, lockbox: int = 60) -> World:
    random = np.random.default_rng(0)
    fold = np.r_[np.arange(200) % FOLDS, np.full(20, EXTRA), np.full(lockbox, LOCKBOX)]
    z = random.normal(size=(len(fold), 3))
    y = np.array([random.choice(3, p=p) for p in softmax(z)])
    ids = [f"v{n}" for n in range(len(fold))]
    columns = {
        "id": ids,
        "group": [f"g{n // 2}" for n in range(len(fold))],
        "fold": fold,
        **{f"p_{label}": (y == c).astype(np.float32) for c, label in enumerate(("a", "b", "tie"))},
    }
    texts = [[f"text {n}"] for n in range(len(fold))]
    for name in ROWS_SCHEMA.names:
        columns.setdefault(
            name, texts if name in ("prompt", "response_a", "response_b") else [None] * len(fold)
        )
    (folder / "split").mkdir(parents=True)
    write_table(pa.table(columns, schema=ROWS_SCHEMA), folder / "split" / "rows.parquet")
    return World(folder, ids, fold, y, 1.6 * z)


def write_logits(world: World, folder: Path, logits: dict, splits: dict[str, np.ndarray]) -> None:
    tables = []
    for split, rows in splits.items():
        origin, ids = "in_sample" if split == "train" else "out_of_fold", [world.ids[row] for row in rows]
        votes = pa.table({"id": ids, "split": [split] * len(ids), "origin": [origin] * len(ids)})
        tables.append(to_table(votes, logits["z"][rows], logits["model"], logits["fold"]))
    folder.mkdir(parents=True, exist_ok=True)
    write_table(pa.concat_tables(tables), folder / "logits.parquet")


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, tuple[Path, ...]]:
    return build(world(tmp_path), orders=2)


def build(w: World, orders: int) -> dict[str, tuple[Path, ...]]:
    """Two shards of one teacher for each fold, a student for each fold, two averaged models."""
    lockbox = w.rows(LOCKBOX)
    teachers, students = [], []
    for fold in range(FOLDS):
        logits = w.logits("llama", fold, seed=fold)
        train = np.r_[w.rows(1 - fold), w.rows(EXTRA)]
        for shard in range(2):
            half = slice(shard, None, 2)
            splits = {"train": train[half], "held_out": w.rows(fold)[half], "lockbox": lockbox[half]}
            teachers.append(w.folder / f"llama-fold{fold}-{shard + 1}of2")
            write_logits(w, teachers[-1], logits, splits)
        students.append(w.folder / f"student-fold{fold}")
        splits = {"held_out": w.rows(fold), "lockbox": lockbox}
        write_logits(w, students[-1], w.logits("student", fold, seed=10 + fold), splits)
        (students[-1] / "calibration.json").write_text('{"temperature": 1.5, "fitted_on": "held_out"}')
    held_out = np.flatnonzero(w.fold >= 0)
    write_logits(w, w.folder / "average", w.logits("student", 0, seed=19), {"held_out": held_out})
    for n, name in enumerate(("averaged", "quantized")):
        logits = w.logits("student", None, seed=20 + n, orders=orders)
        write_logits(w, w.folder / name, logits, {"lockbox": lockbox})
    model = w.folder / "quantize" / "model"
    model.mkdir(parents=True)
    for folder in (*teachers, *students, w.folder / "average", w.folder / "averaged", w.folder / "quantized"):
        record(folder, "fold0", "fold1", "extra")
    record(model.parent, "fold0", "fold1", "extra", fitted_on=("calibration",))
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "README.md").write_text("an older card")
    package = {
        "prompt": {"template": "published"},
        "tta": {"both_orders": orders == 2, "max_tokens": 2000},
        "calibration": {"temperature": TEMPERATURE},
        "provenance": {"average": "exact"},
    }
    (model / "tiebreak.json").write_text(json.dumps(package))
    return {
        "rows": (w.folder / "split",),
        "teachers": tuple(teachers),
        "students": tuple(students),
        "average": (w.folder / "average",),
        "averaged": (w.folder / "averaged",),
        "quantized": (w.folder / "quantized",),
        "model": (w.folder / "quantize",),
    }


def with_test(inputs: dict[str, tuple[Path, ...]], folder: Path) -> dict[str, tuple[Path, ...]]:
    p = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    columns = {"id": ["t1", "t2"]} | {f"p_{label}": p[:, c] for c, label in enumerate(("a", "b", "tie"))}
    write_table(pa.table(columns), inputs["quantized"][0] / "test.parquet")
    solution = folder / "solution.csv"
    solution.write_text("id,winner_model_a,winner_model_b,winner_tie\nt2,1,0,0\nt1,0,0,1\n")
    return inputs | {"test": (folder,), "solution": (solution,)}


def run(inputs: dict[str, tuple[Path, ...]], output: Path, weight_folds: bool = False) -> dict:
    output.mkdir()
    chosen = Evaluate(bootstrap_samples=50, weight_folds=weight_folds)
    settings = evaluate.Settings(name="tiny", evaluate=chosen, seed=0)
    returned = evaluate.run(settings, inputs, output, Runtime(device="cpu", scratch=output / "checkpoint"))
    metrics = json.loads((output / "metrics.json").read_text())
    assert {key: metrics[key] for key in returned} == returned
    return metrics


def by_hand(w: World, logits: dict, both: bool, temperature: float = 1.0) -> float:
    z = logits["z"][w.rows(LOCKBOX)]
    p = mean_over_orders(z) if both else softmax(z[:, 0])
    p = softmax(np.log(p) / temperature)
    return sklearn.metrics.log_loss(w.y[w.rows(LOCKBOX)], p, labels=[0, 1, 2])


def test_headline_figures_equal_those_by_hand(tmp_path):
    w = world(tmp_path)
    metrics = run(build(w, orders=2), tmp_path / "out")
    assert metrics["lockbox_rows"] == 60
    teacher = np.mean([by_hand(w, w.logits("llama", f, seed=f), both=False) for f in range(FOLDS)])
    student = np.mean([by_hand(w, w.logits("student", f, seed=10 + f), both=False) for f in range(FOLDS)])
    assert metrics["teacher_log_loss"] == pytest.approx(teacher, abs=1e-6)
    assert metrics["student_log_loss"] == pytest.approx(student, abs=1e-6)
    final = by_hand(w, w.logits("student", None, seed=21), both=True, temperature=TEMPERATURE)
    assert metrics["final_log_loss"] == pytest.approx(final, abs=1e-6)
    shares = np.bincount(w.y[w.fold >= 0], minlength=3) / 200
    prior = -np.log(shares[w.y[w.rows(LOCKBOX)]]).mean()
    assert metrics["prior_log_loss"] == pytest.approx(prior)
    assert metrics["leaderboard_log_loss"] is None


def test_ladder_has_every_stage_in_order(inputs, tmp_path):
    metrics = run(inputs, tmp_path / "out")
    names = [report.label(variant) for variant in metrics["ladder"]]
    after = ["", ", both orders", ", both orders, calibrated"]
    expected = ["class shares", "teacher llama", "teacher llama, both orders"]
    blends = ["equal weights", "weights by nested CV on the lockbox"]
    assert names == [
        *expected,
        *(stage + way for stage in ("student", "averaged") for way in after),
        *(f"students blended, {weights}, both orders, calibrated" for weights in blends),
        *("quantised" + way for way in after),
    ]
    for variant in metrics["ladder"]:
        assert variant["log_loss"]["low"] < variant["log_loss"]["value"] < variant["log_loss"]["high"]
    assert [fold["name"] for fold in metrics["ladder"][2]["folds"]] == ["fold 0", "fold 1"]
    assert metrics["augmentation"][-1]["realised"] == 1


def test_the_baseline_has_variants_and_is_compared_with_the_shipped_model(tmp_path):
    w = world(tmp_path)
    inputs, folder, logits = build(w, orders=2), tmp_path / "baseline", w.logits("baseline", None, seed=30)
    logits["z"] = np.repeat(logits["z"][:, :1] / 8, 2, axis=1)  # it knows little, and the same in both orders
    write_logits(w, folder, logits, {"lockbox": w.rows(LOCKBOX)})
    (folder / "calibration.json").write_text('{"temperature": 0.5}')
    loss = np.random.default_rng(0).uniform(size=(1, 40))
    points = [Point(400 // 2**halving, loss + 0.1 * halving) for halving in range(3)]
    curve = learning_curve(points, np.arange(40), Bootstrap(20))
    (folder / "learning_curve.json").write_text(json.dumps(curve))
    record(folder, "fold0", "fold1", "extra", fitted_on=("calibration",))
    metrics = run(inputs | {"baseline": (folder,)}, tmp_path / "out")
    labels = [report.label(variant) for variant in metrics["ladder"]]
    assert labels[:3] == ["class shares", "baseline", "baseline, calibrated"]
    found = metrics["ladder"][2]["log_loss"]["value"]
    assert found == pytest.approx(by_hand(w, logits, both=False, temperature=0.5), abs=1e-6)
    (finding,) = (found for found in metrics["verdict"]["findings"] if found["about"] == "baseline")
    change = finding["change"]
    assert change["value"] == pytest.approx(metrics["final_log_loss"] - found, abs=1e-9)
    assert change["low"] < change["value"] < change["high"]
    for page in ("report.html", "model/README.md"):
        assert finding["text"] in (tmp_path / "out" / page).read_text()
    assert metrics["learning_curve"] == curve
    assert curve["text"] in html.unescape((tmp_path / "out" / "report.html").read_text())
    record(folder, "fold0", "lockbox")
    with pytest.raises(TiebreakError, match="lockbox"):
        run(inputs | {"baseline": (folder,)}, tmp_path / "again")


def test_without_a_baseline_there_is_no_comparison(inputs, tmp_path):
    metrics = run(inputs, tmp_path / "out")
    assert "baseline" not in {found["about"] for found in metrics["verdict"]["findings"]}
    assert metrics["learning_curve"] is None
    assert "word counts" not in (tmp_path / "out" / "report.html").read_text()


def test_a_change_is_from_the_equivalent_variant(tmp_path):
    w = world(tmp_path)
    found = {
        report.label(variant): variant for variant in run(build(w, orders=2), tmp_path / "out")["ladder"]
    }
    both, warm = ", both orders", ", both orders, calibrated"
    below = {name: report.label(variant["below"]) for name, variant in found.items() if "below" in variant}
    blends = {name: "averaged" + warm for name in found if name.startswith("students blended")}
    assert below == blends | {
        "teacher llama": "class shares",
        "teacher llama" + both: "teacher llama",
        "student": "teacher llama",
        "student" + both: "student",
        "student" + warm: "student" + both,
        "averaged": "student",
        "averaged" + both: "averaged",
        "averaged" + warm: "averaged" + both,
        "quantised": "averaged",
        "quantised" + both: "quantised",
        "quantised" + warm: "quantised" + both,
    }
    for name, other in below.items():
        gain = found[name]["log_loss"]["value"] - found[other]["log_loss"]["value"]
        assert found[name]["change"]["value"] == pytest.approx(gain)
    lockbox = w.rows(LOCKBOX)
    loss = [
        row_log_loss(softmax(w.logits("student", None, seed)["z"][lockbox, 0]), w.y[lockbox])
        for seed in (20, 21)
    ]
    draws = Bootstrap(50).means((loss[1] - loss[0])[:, None], lockbox // 2)
    change = found["quantised"]["change"]
    assert change["value"] == pytest.approx((loss[1] - loss[0]).mean(), abs=1e-6)
    half = scipy.stats.t.ppf(0.975, 29) * draws.std() * np.sqrt(30 / 29)
    assert [change["low"], change["high"]] == pytest.approx([change["value"] - half, change["value"] + half])


def test_students_are_blended_equally_and_by_nested_cross_validation(tmp_path):
    w = world(tmp_path)
    ladder = run(build(w, orders=2), tmp_path / "out")["ladder"]
    lockbox = w.rows(LOCKBOX)
    z = [w.logits("student", fold, seed=10 + fold)["z"][lockbox] for fold in range(FOLDS)]
    x = np.stack([softmax(np.log(mean_over_orders(z_NOC)) / 1.5) for z_NOC in z], axis=1)
    fitted = nested(WEIGHTINGS, x, w.y[lockbox], lockbox // 2).predictions
    equal, by_cv = (variant for variant in ladder if variant["stage"].startswith("students blended"))
    assert equal["log_loss"]["value"] == pytest.approx(log_loss(x.mean(axis=1), w.y[lockbox]), abs=1e-6)
    assert by_cv["log_loss"]["value"] == pytest.approx(log_loss(fitted, w.y[lockbox]), abs=1e-5)


def test_too_few_prompts_leave_out_the_blend_with_fitted_weights(tmp_path):
    ladder = run(build(world(tmp_path, lockbox=18), orders=2), tmp_path / "out")["ladder"]
    blends = [variant["stage"] for variant in ladder if variant["stage"].startswith("students blended")]
    assert blends == ["students blended, equal weights"]


def test_students_are_blended_by_their_loss_on_unseen_votes_if_asked(tmp_path):
    w = world(tmp_path)
    metrics = run(build(w, orders=2), tmp_path / "out", weight_folds=True)
    weights, shares = [], []
    for fold in range(FOLDS):
        z = w.logits("student", fold, seed=10 + fold)["z"]
        p = softmax(np.log(mean_over_orders(z)) / 1.5)
        held_out = w.rows(fold)
        weights.append(1 / sklearn.metrics.log_loss(w.y[held_out], p[held_out], labels=[0, 1, 2]))
        shares.append(p[w.rows(LOCKBOX)])
    blend = (weights[0] * shares[0] + weights[1] * shares[1]) / sum(weights)
    variant = next(
        variant
        for variant in metrics["ladder"]
        if variant["stage"] == "students blended, weights by loss on unseen votes"
    )
    expected = sklearn.metrics.log_loss(w.y[w.rows(LOCKBOX)], blend, labels=[0, 1, 2])
    assert variant["log_loss"]["value"] == pytest.approx(expected, abs=1e-6)
    assert metrics["ladder"][-1]["stage"] == "quantised"


def test_without_tta_the_last_variant_has_one_order(tmp_path):
    w = world(tmp_path)
    metrics = run(build(w, orders=1), tmp_path / "out")
    assert report.label(metrics["ladder"][-1]) == "quantised, calibrated"
    logits = w.logits("student", None, seed=21)
    expected = by_hand(w, logits, both=False, temperature=TEMPERATURE)
    assert metrics["final_log_loss"] == pytest.approx(expected, abs=1e-6)


def test_the_shipped_model_is_the_last_variant_where_rules_or_partial_tta_change_it(tmp_path):
    w = world(tmp_path)
    inputs = build(w, orders=2)
    path = inputs["model"][0] / "model" / "tiebreak.json"
    counts = {kind: [0, 0, 0] for kind in KINDS[1:]} | {"identical": [1, 1, 8]}  # every vote here is so
    shipped = {"certain_from": 0.5, "rules": {"strength": 10.0, "counts": counts}}
    path.write_text(json.dumps(json.loads(path.read_text()) | shipped))
    metrics = run(inputs, tmp_path / "out")
    assert report.label(metrics["ladder"][-1]) == "as shipped, both orders, calibrated"
    z = w.logits("student", None, seed=21)["z"][w.rows(LOCKBOX)]
    p = mean_over_orders(z)  # of equal answers, whatever their certainty
    p = (softmax(np.log(p) / TEMPERATURE) * 10 + [1, 1, 8]) / 20
    expected = sklearn.metrics.log_loss(w.y[w.rows(LOCKBOX)], p, labels=[0, 1, 2])
    assert metrics["final_log_loss"] == pytest.approx(expected, abs=1e-6)
    assert report.label(metrics["ladder"][-1]["below"]) == "quantised, both orders, calibrated"
    before, after = metrics["calibration"]
    assert (report.label(before), after["stage"]) == ("quantised, both orders", "as shipped")
    parts = after["brier_parts"]
    score = parts["miscalibration"] - parts["discrimination"] + parts["uncertainty"]
    assert score == pytest.approx(brier(p, w.y[w.rows(LOCKBOX)]), abs=1e-6)
    assert "less certain than 0.5" in (tmp_path / "out" / "model" / "README.md").read_text()


def test_the_shipped_models_lockbox_predictions_are_written(inputs, tmp_path):
    metrics = run(inputs, tmp_path / "out")
    table = read_table(inputs["rows"][0] / "rows.parquet")
    y = {v: p for v, *p in zip(*(table[c].to_pylist() for c in ("id", "p_a", "p_b", "p_tie")), strict=True)}
    ids, p = submission.read(tmp_path / "out" / "lockbox.parquet")
    assert len(ids) == 60
    assert metrics["final_log_loss"] == pytest.approx(log_loss(p, np.array([y[vote] for vote in ids])))


def test_folds_are_labelled_by_origin(inputs, tmp_path):
    folds = run(inputs, tmp_path / "out")["folds"]
    kinds = {(row["stage"], row["split"], row["origin"]): row["rows"] for row in folds if row["fold"] == 0}
    assert kinds == {
        ("llama", "train", "in_sample"): 120,
        ("llama", "held_out", "out_of_fold"): 100,
        ("student", "held_out", "out_of_fold"): 100,
    }
    assert all(row["fitted_here"] == row["calibrated"] for row in folds if row["split"] == "held_out")
    pooled = [row for row in folds if row["fold"] == "all"]
    assert {row["rows"] for row in pooled} == {200}
    assert len(pooled) == 5  # the teacher in one and two orders; the student also calibrated


def test_report_is_whole_and_self_contained(inputs, tmp_path):
    run(inputs, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "quantised, both orders, calibrated" in page
    # the steps for wide and for narrow screens, and three classes before and after calibration
    assert page.count("<svg") == 8
    assert not faults(page)


def test_a_judge_that_loses_is_not_to_be_used_in_report_and_card(tmp_path):
    w = world(tmp_path, lockbox=200)
    w.z = -w.z  # the judge has learned the opposite
    metrics = run(build(w, orders=2), tmp_path / "out")
    verdict = metrics["verdict"]
    shares, calibration, *_ = verdict["findings"]
    assert not verdict["use"]
    assert verdict["headline"] == "Do not use: worse than the class shares on 200 votes."
    assert (shares["about"], shares["holds"], calibration["holds"]) == ("class shares", False, False)
    change = metrics["final_log_loss"] - metrics["prior_log_loss"]
    assert shares["change"]["value"] == pytest.approx(change)
    assert 0 < shares["resolvable"] < change
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.index(verdict["headline"]) < page.index("What each step adds")
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    assert f"**{verdict['headline']}**" in card


def test_a_stage_of_several_models_has_their_spread(inputs, tmp_path):
    for variant in run(inputs, tmp_path / "out")["ladder"]:
        if variant["models"] > 1:
            losses = [fold["log_loss"] for fold in variant["folds"]]
            assert variant["spread"] == pytest.approx(statistics.stdev(losses))
        else:
            assert "spread" not in variant


def test_card_and_weights_ship_together(inputs, tmp_path):
    metrics = run(inputs, tmp_path / "out")
    shipped, source = tmp_path / "out" / "model", inputs["model"][0] / "model"
    assert (shipped / "model.safetensors").read_bytes() == b"weights"
    assert (source / "README.md").read_text() == "an older card"
    _, front, body = (shipped / "README.md").read_text().split("---\n", 2)
    result = yaml.safe_load(front)["model-index"][0]["results"][0]["metrics"][0]
    assert result == {"type": "log_loss", "value": round(metrics["final_log_loss"], 6)}
    assert "temperature 1.25" in body
    assert not list(shipped.glob("*.partial"))


def test_a_link_beside_the_weights_is_not_shipped(inputs, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (inputs["model"][0] / "model" / "config.txt").symlink_to(secret)
    run(inputs, tmp_path / "out")
    assert "config.txt" not in os.listdir(tmp_path / "out" / "model")


def test_what_ships_may_be_changed_without_harm_to_the_run(inputs, tmp_path):
    run(inputs, tmp_path / "out")
    with (tmp_path / "out" / "model" / "model.safetensors").open("r+b") as file:
        file.write(b"W")
    assert (inputs["model"][0] / "model" / "model.safetensors").read_bytes() == b"weights"


def test_a_disk_that_can_shares_the_blocks_of_a_copy(inputs, tmp_path, monkeypatch):
    cloned = []

    def clone(target, request: int, source: int) -> None:
        assert request == 0x40049409
        cloned.append(Path(os.readlink(f"/proc/self/fd/{source}")).name)
        os.sendfile(target.fileno(), source, 0, 10**6)

    monkeypatch.setattr(fcntl, "ioctl", clone)
    monkeypatch.setattr(evaluate.shutil, "copyfile", lambda *_: pytest.fail("copied"))
    run(inputs, tmp_path / "out")
    assert sorted(cloned) == ["README.md", "model.safetensors", "tiebreak.json"]
    assert (tmp_path / "out" / "model" / "model.safetensors").read_bytes() == b"weights"


def test_submission_and_leaderboard(inputs, tmp_path):
    metrics = run(with_test(inputs, tmp_path), tmp_path / "out")
    with (tmp_path / "out" / "submission.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["id", "winner_model_a", "winner_model_b", "winner_tie"]
    assert rows[1] == ["t1", "0.2", "0.3", "0.5"]
    assert metrics["leaderboard_log_loss"] == pytest.approx(-(np.log(0.5) + np.log(0.6)) / 2)


def test_an_empty_lockbox_is_reported(tmp_path):
    metrics = run(build(world(tmp_path, lockbox=0), orders=2), tmp_path / "out")
    assert metrics["lockbox_rows"] == 0
    assert metrics["final_log_loss"] is metrics["prior_log_loss"] is None
    assert metrics["ladder"] == []
    assert metrics["folds"]
    assert "The lockbox is empty" in (tmp_path / "out" / "report.html").read_text()
    assert metrics["verdict"] is None
    assert "no lockbox votes" in (tmp_path / "out" / "model" / "README.md").read_text()


def test_logits_of_other_rows_are_an_error(tmp_path):
    w = world(tmp_path)
    inputs = build(w, orders=2)
    write_logits(w, inputs["quantized"][0], w.logits("student", None, 1), {"lockbox": w.rows(LOCKBOX)[:-3]})
    with pytest.raises(TiebreakError, match="scored 57 of 60 lockbox votes; 'v277' is missing"):
        run(inputs, tmp_path / "out")


def test_two_evaluations_write_the_same_files(inputs, tmp_path):
    for name in ("first", "second"):
        run(inputs, tmp_path / name)
    first, second = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in sorted((tmp_path / name).rglob("*.*"))
        }
        for name in ("first", "second")
    )
    assert first == second


def through_teachers(w: World, inputs: dict[str, tuple[Path, ...]]) -> None:
    """Say of the students' held-out votes that they have learned them through their teachers."""
    for folder in inputs["students"]:
        table = read_table(folder / "logits.parquet")
        origin = [
            "through_teachers" if split == "held_out" else "out_of_fold"
            for split in table["split"].to_pylist()
        ]
        at = table.schema.get_field_index("origin")
        write_table(table.set_column(at, "origin", pa.array(origin)), folder / "logits.parquet")


def test_held_out_figures_of_votes_that_teachers_saw_are_marked(tmp_path):
    w = world(tmp_path)
    inputs = build(w, orders=2)
    through_teachers(w, inputs)
    folds = [row for row in run(inputs, tmp_path / "out")["folds"] if row["split"] == "held_out"]
    assert {(row["stage"], row["origin"]) for row in folds} == {
        ("llama", "out_of_fold"),
        ("student", "through_teachers"),
    }
    assert {row["origin"] for row in folds if row["fold"] == "all" and row["stage"] == "student"} == {
        "through_teachers"
    }
    assert "seen through teachers (held out)" in (tmp_path / "out" / "report.html").read_text()


def test_students_that_have_seen_all_votes_are_not_weighted_by_them(tmp_path):
    w = world(tmp_path)
    inputs = build(w, orders=2)
    through_teachers(w, inputs)
    with pytest.raises(TiebreakError, match="the student of fold 0 has seen all votes outside the lockbox"):
        run(inputs, tmp_path / "out", weight_folds=True)


@pytest.mark.parametrize("kind", ["learned_from", "fitted_on"])
def test_a_lockbox_that_was_seen_is_refused(inputs, tmp_path, kind):
    folder = inputs["students"][1]
    record(folder, "lockbox") if kind == "learned_from" else record(folder, fitted_on=("lockbox",))
    with pytest.raises(
        TiebreakError, match="the result needs votes that have not been seen, and lockbox have"
    ):
        run(inputs, tmp_path / "out")
