"""Leakage test: no fit uses votes seen before, with labels that are coin flips.

All models are linear in random features of a vote, and there are nearly as many features as training votes: a teacher
knows most of its training votes' labels by heart, and a student that copies teachers gets what they know by heart.
No model can be better than the class shares on votes that it has not seen, so any log loss below log 3 is memory.
"""

import json
import math
import shutil
from hashlib import blake2b
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from tiny_models import base

from tiebreak.engine.task_runner import run_task
from tiebreak.engine.workspace import Workspace
from tiebreak.evaluate.build_metrics import labelled_votes
from tiebreak.evaluate.variants import fold_results
from tiebreak.judge import scoring_parts
from tiebreak.judge.logits import from_table, mean_over_orders, of_split, read, to_table
from tiebreak.model import classifier, merge
from tiebreak.model.lora import HEAD, PREFIX, read_adapter, save_adapter
from tiebreak.pipeline.steps import average
from tiebreak.stats.calibration import from_json
from tiebreak.stats.metrics import Bootstrap, log_loss
from tiebreak.training import fit
from tiebreak.training.rows import labels_of
from tiebreak.votes.schema import LOCKBOX, read_table

pytestmark = pytest.mark.slow

VOTES, FEATURES, FOLDS = 1400, 400, 3
CHANCE = math.log(3)
RECIPE = {
    "name": "by-heart",
    "data": {"votes": ["votes.jsonl"]},
    "models": {"teachers": {"llama": {"base": "base"}}, "student": {"base": "base"}},
    "split": {"count": FOLDS, "lockbox_share": 0.2, "calibration_share": 0.2},
    "compute": {"device": "cpu"},
}


def features(table: pa.Table) -> np.ndarray:
    seeds = [
        int.from_bytes(blake2b(vote.encode(), digest_size=8).digest()) for vote in table["id"].to_pylist()
    ]
    return np.stack([np.random.default_rng(seed).normal(size=FEATURES) for seed in seeds])


def load(base: Path, lora, start: Path | None, *_) -> SimpleNamespace:
    state = read_adapter(start)[0] if start else {PREFIX + HEAD: torch.zeros(3, FEATURES)}
    return SimpleNamespace(weight=state[PREFIX + HEAD])


def learn(model, table: pa.Table, prompt, training, runtime, seed, loss=None, teachers=None, weights=None):
    """Least squares: a teacher learns labels, a student its teacher's logits."""
    target = 6 * (labels_of(table)[:, 0] - 1 / 3) if teachers is None else teachers[:, 0, 0]
    model.weight = torch.from_numpy(np.linalg.lstsq(features(table), target, rcond=None)[0].T.copy()).float()
    return [0.0]


def score(model, table: pa.Table, prompt, max_tokens, name, fold, runtime) -> pa.Table:
    z = features(table) @ model.weight.numpy().T
    return to_table(table, np.stack([z, z], axis=1), name, fold)


def keep(model, losses, lora, output: Path) -> None:
    save_adapter({PREFIX + HEAD: model.weight}, lora, output / "adapter")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with votes of pure chance; the steps' models are linear."""
    monkeypatch.setattr(classifier, "load_adapted", load)
    monkeypatch.setattr(fit, "fit", learn)
    monkeypatch.setattr(fit, "save_trained", keep)
    monkeypatch.setattr(scoring_parts, "score_in_parts", score)
    monkeypatch.setattr(
        average, "_merged", lambda base, state, *_: SimpleNamespace(weight=state[PREFIX + HEAD])
    )
    monkeypatch.setattr(merge, "save", lambda model, folder: folder.mkdir())
    random = np.random.default_rng(0)
    words = random.integers(10**9, size=(VOTES, 6)).astype(str)
    votes = [
        {
            "id": f"v{n}",
            "prompt": " ".join(words[n]),
            "response_a": "yes",
            "response_b": "no",
            "winner": winner,
        }
        for n, winner in enumerate(random.choice(["model_a", "model_b", "tie"], VOTES).tolist())
    ]
    (tmp_path / "votes.jsonl").write_text("\n".join(map(json.dumps, votes)))
    shutil.copytree(base("llama"), tmp_path / "base")
    return tmp_path


def run(world: Path, **sections: dict) -> Workspace:
    """Everything up to the average."""
    (world / "recipe.yaml").write_text(json.dumps(RECIPE | sections))
    work = Workspace(world / "recipe.yaml")
    for task in work.tasks:
        if task.step.name not in ("quantize", "predict", "evaluate"):
            run_task(work, task, lambda line: None, lambda: False, device="cpu")
    return work


MODES = {
    "out of fold": {"logits": {"soft_labels": "out_of_fold"}},
    "in sample": {},
    "in sample, nothing set aside": {"split": {"count": FOLDS, "lockbox_share": 0.2, "calibration_share": 0}},
}


@pytest.mark.parametrize("mode", MODES)
def test_no_figure_and_no_calibration_is_fooled_by_memory(world: Path, mode: str) -> None:
    work = run(world, **MODES[mode])
    rows = read_table(work.folder(work.find("split/votes")) / "rows.parquet")
    truth = labelled_votes(rows)
    others, every = ("fold1", "fold2"), ("fold0", "fold1", "fold2")
    records = {task.id: work.manifest(task).learned_from for task in work.tasks if work.manifest(task)}
    assert records["split/votes"] == ()
    assert records["teach/llama-fold0"] == records["score/llama-fold0-1of1"] == others
    assert records["distill/fold0"] == (every if mode == "out of fold" else others)
    assert records["average/student"] == every
    aside = every if "nothing set aside" in mode else ("calibration",)
    assert work.manifest(work.find("distill/fold0")).fitted_on == aside[:1]
    assert work.manifest(work.find("average/student")).fitted_on == tuple(sorted({*aside, *every}))
    folders = {
        step: [work.folder(t) for t in work.tasks if t.step.name == step] for step in ("score", "distill")
    }
    scored = read([*folders["score"], *folders["distill"]])
    found = fold_results(scored, truth, Bootstrap(20))
    assert {row["log_loss"]["value"] > CHANCE for row in found if row["origin"] == "out_of_fold"} == {True}
    by_heart = [row for row in found if row["origin"] != "out_of_fold"]
    assert by_heart, "the world has memory"
    assert max(row["log_loss"]["value"] for row in by_heart) < CHANCE - 0.05
    assert any(row["origin"] == "through_teachers" for row in by_heart) == (mode == "out of fold")

    # calibrated predictions on the lockbox are near the class shares
    lockbox = truth.subset(rows.filter(pa.compute.equal(rows["fold"], LOCKBOX))["id"].to_pylist())
    for folder in folders["distill"]:
        state = json.loads((folder / "calibration.json").read_text())
        (logits,) = of_split(read([folder], state), "lockbox")
        calibrated = log_loss(logits.aligned(lockbox.ids).probabilities(True, True), lockbox.y_NC)
        assert calibrated < CHANCE + 0.02, folder
    made = work.folder(work.find("average/student"))
    package = json.loads((made / "model" / "tiebreak.json").read_text())
    model = SimpleNamespace(weight=read_adapter(made / "adapter")[0][PREFIX + HEAD])
    table = rows.filter(pa.compute.equal(rows["fold"], LOCKBOX))
    blank = pa.array([""] * len(table))
    table = table.append_column("split", blank).append_column("origin", blank)
    (logits,) = from_table(score(model, table, None, None, "student", None, None))
    p = mean_over_orders(logits.z_NOC)
    shipped = from_json(package["calibration"]).predict_proba(p)
    assert log_loss(p, lockbox.y_NC) > CHANCE + 0.05, (
        "before it is calibrated it is sure of what it does not know"
    )
    assert log_loss(shipped, lockbox.y_NC) < CHANCE + 0.02
