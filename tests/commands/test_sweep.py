"""Sweep: arms compared on unseen votes, and the recommended flags."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from forked import Tiebreak
from sklearn.metrics import log_loss

from tiebreak.commands import sweep
from tiebreak.commands.init import init_recipe
from tiebreak.engine.planner import state
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.stats.metrics import Estimate
from tiebreak.votes.schema import CALIBRATION

TEACH, DISTILL = "teach.training.learning_rate", "distill.training.learning_rate"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(init_recipe(tmp_path_factory.mktemp("sweep") / "new", "tiny", synthetic=100))


def needed(
    work: Workspace, key: str, values: str, fold: int = 0, step: sweep.Step | None = None
) -> list[str]:
    return [task.id for task in sweep.arms(work, [key], [f"{values},2e-4"], fold, step)[0].required_tasks()]


def test_only_required_tasks_run(work: Workspace) -> None:
    ingested = ["ingest/votes", "ingest/preferences", "ingest/test", "split/votes"]
    teacher = ["post_pretrain/llama", "teach/llama-fold1", "score/llama-fold1-1of1"]
    assert needed(work, TEACH, "1e-4", fold=1) == [*ingested, *teacher]
    student = ["post_pretrain/llama", "post_pretrain/student", *teacher[1:], "distill/fold1"]
    assert needed(work, DISTILL, "1e-4", fold=1) == [*ingested, *student]
    assert needed(work, TEACH, "1e-4", fold=1, step="distill") == [*ingested, *student]
    everyone = Workspace(work.path, ("logits.soft_labels=out_of_fold",))
    assert {f"score/llama-fold{fold}-1of1" for fold in range(3)} < {
        *needed(everyone, DISTILL, "1e-4", fold=1)
    }
    one = Workspace(everyone.path, (*everyone.overrides, "distill.students=one"))
    assert needed(one, DISTILL, "1e-4", fold=1)[-1] == "distill/all"


def test_several_keys_make_every_combination(work: Workspace) -> None:
    found = sweep.arms(work, [TEACH, "logits.subset_votes"], ["1e-4,2e-4", "[10, 20],30"], 0, "teach")
    assert [arm.overrides for arm in found[:2]] == [
        (f"{TEACH}=1e-4", "logits.subset_votes=[10, 20]"),
        (f"{TEACH}=1e-4", "logits.subset_votes=30"),
    ]
    assert [arm.work.recipe.teach.training.learning_rate for arm in found] == [1e-4, 1e-4, 2e-4, 2e-4]


@pytest.mark.parametrize(
    ("keys", "values", "fold", "step", "message"),
    [
        (["teach.training.learning_rat"], ["1"], 0, None, "did you mean 'learning_rate'"),
        ([TEACH], ["fast"], 0, None, "teach.training.learning_rate: .*fast"),
        ([TEACH], ["1e-4"], 3, None, r"no fold 3 .* has the folds \[0, 1, 2\]"),
        ([TEACH, DISTILL], ["1e-4,2e-4"], 0, None, "2 of --key and 1 of --values"),
        ([TEACH], ["1e-4"], 0, None, "nothing to compare a single value with; give two"),
        ([TEACH], ["1e-4, 1e-4"], 0, None, "nothing to compare a single value with"),
        ([TEACH, DISTILL], ["1e-4", ","], 0, None, "nothing to compare a single value with"),
        (
            ["quantize.bits"],
            ["8,8.0"],
            0,
            None,
            "quantize.bits: not every value makes other models of step distill",
        ),
        ([DISTILL], ["1e-4,2e-4"], 0, "teach", "not every value makes other models of step teach"),
    ],
)
def test_invalid_sweeps_are_refused(
    work: Workspace, keys: list[str], values: list[str], fold: int, step: sweep.Step | None, message: str
) -> None:
    with pytest.raises(TiebreakError, match=message):
        sweep.arms(work, keys, values, fold, step)


def test_recommended_flags_name_the_best_and_similar_arms() -> None:
    results = [
        sweep.ArmResult(("a=1",), Estimate(0.95, 0.9, 1), Estimate(0.05, 0.01, 0.09)),
        sweep.ArmResult(("a=[2, 3]",), Estimate(0.9, 0.85, 0.95), Estimate(0.0, 0.0, 0.0)),
        sweep.ArmResult(("a=4",), Estimate(0.91, 0.86, 0.96), Estimate(0.01, -0.02, 0.04)),
        sweep.ArmResult(("a=5",), failed="out of memory"),
    ]
    assert sweep.recommended_flags(results) == "--set 'a=[2, 3]'  (not told apart from a=4)"
    assert results[3].row() == {
        "a": "5", "log_loss": None, "log_loss_low": None, "log_loss_high": None,
        "change": None, "change_low": None, "change_high": None, "failed": "out of memory",
    }  # fmt: skip
    assert results[3].formatted() == {"value": "a=5", "log_loss": "", "change": "out of memory"}
    one = sweep.ArmResult(("teach.training.learning_rate=1.5e-4", "b.c=2"), Estimate(0.9, 0.85, 0.95))
    assert one.formatted()["value"] == "learning_rate=1.5e-4, c=2"
    assert one.formatted()["log_loss"] == "0.9000 (0.8500 to 0.9500)"


@pytest.mark.slow
def test_a_sweep_on_a_finished_run(tiny_run, tmp_path: Path) -> None:
    """The value that was run is not made again; the others are what a run with them would make."""
    folder = tmp_path / "demo"
    shutil.copytree(tiny_run.folder, folder)
    command = ["sweep", folder, "--key", TEACH, "--values", "1e-3,1e-7", "--fold", "1", "--json"]
    trial = Tiebreak(*command)
    out, err = trial.communicate(timeout=300)
    assert trial.returncode == 0, err
    result = json.loads(out)
    assert result["choose"] == [f"{TEACH}=1e-3"], "what hardly learns was chosen"
    assert "teach/llama-fold1" in err
    arms = sweep.arms(Workspace(folder / "recipe.yaml"), [TEACH], ["1e-3,1e-7"], 1)
    for row, value, arm in zip(result["rows"], ("1e-3", "1e-7"), arms, strict=True):
        after = Workspace(folder / "recipe.yaml", (f"{TEACH}={value}",))
        assert {state(after, after.find(task.id)).status for task in arm.required_tasks()} == {"fresh"}
        assert row["log_loss"] == pytest.approx(expected(after, 1), abs=1e-6)
    assert result["rows"][0]["change"] == 0
    assert result["rows"][1]["change"] == pytest.approx(
        result["rows"][1]["log_loss"] - result["rows"][0]["log_loss"], abs=1e-9
    )


def expected(work: Workspace, fold: int) -> float:
    """The log loss of a teacher on the votes that it has not seen, by scikit-learn."""
    scored = work.folder(work.find(f"score/llama-fold{fold}-1of1")) / "logits.parquet"
    predictions: dict[str, list[np.ndarray]] = {}
    for row in pq.read_table(scored).to_pylist():
        if row["split"] in ("held_out", "calibration"):
            first, second, tie = np.exp([row["z_first"], row["z_second"], row["z_tie"]], dtype=np.float64)
            exp_C = np.array([first, second, tie] if row["order"] == 0 else [second, first, tie])
            predictions.setdefault(row["id"], []).append(exp_C / exp_C.sum())
    rows = pq.read_table(work.folder(work.find("split/votes")) / "rows.parquet").to_pylist()
    unseen = [row for row in rows if row["fold"] in (fold, CALIBRATION)]
    assert {row["id"] for row in unseen} == predictions.keys()
    labels = [np.argmax([row["p_a"], row["p_b"], row["p_tie"]]) for row in unseen]
    return float(log_loss(labels, [np.mean(predictions[row["id"]], axis=0) for row in unseen]))
