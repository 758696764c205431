"""Step 7 end to end on a tiny average: its files, its calibration rows, and stopping."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from quantized_models import stored
from tiny_models import record, votes

import tiebreak
from tiebreak.baseline import files
from tiebreak.errors import Interrupted, TiebreakError
from tiebreak.judge import package
from tiebreak.pipeline.steps import quantize
from tiebreak.recipe.schema import Prompt, Quantize, Tta
from tiebreak.runtime import Runtime
from tiebreak.stats.guarantees import Guarantees
from tiebreak.votes import splits
from tiebreak.votes.schema import CALIBRATION, EXTRA, LOCKBOX, probabilities, read_table, write_table

pytestmark = pytest.mark.slow

FOLDS = (0, 1, 2, EXTRA, LOCKBOX)
SETTINGS = quantize.Settings(
    quantize=Quantize(group=32, calibration_rows=12, max_tokens=120),
    prompt=Prompt(prompt_tokens=32),
    seed=3,
)


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, tuple[Path, ...]]:
    """The artifact of step 6 for Gemma-2, and 50 votes of which ten are in the lockbox."""
    average, split = tmp_path / "average", tmp_path / "split"
    average.mkdir()
    split.mkdir()
    (average / "model").symlink_to(_with_package(tmp_path / "model"))
    rows = votes(50)
    folds = pa.array([FOLDS[n % len(FOLDS)] for n in range(50)], pa.int8())
    write_table(rows.append_column("group", rows["id"]).append_column("fold", folds), split / "rows.parquet")
    return {"model": (average,), "rows": (split,)}


def _with_package(folder: Path) -> Path:
    folder.mkdir()
    for file in stored("gemma2").iterdir():
        (folder / file.name).symlink_to(file)
    shipped = package.Package(
        prompt=SETTINGS.prompt, tta=Tta(), calibration={"temperature": 1.3}, provenance={"average": "exact"}
    )
    package.write(shipped, folder)
    return folder


def run(inputs: dict[str, tuple[Path, ...]], output: Path, **changes: object) -> dict[str, object]:
    output.mkdir()
    runtime = replace(Runtime(device="cpu", scratch=output / "checkpoint"), **changes)
    return quantize.run(SETTINGS, inputs, output, runtime)


def test_writes_the_model_and_its_calibration_rows(inputs, tmp_path):
    metrics = run(inputs, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["calibration_rows.json", "model"]
    assert metrics["bytes_after"] < 0.6 * metrics["bytes_before"]
    assert metrics["calibration_rows"] == 12
    assert metrics["layers_rounded"] == 0
    for rows in ("calibration", "others"):
        assert 0 < metrics[f"logit_change_{rows}_mean"] < metrics[f"logit_change_{rows}_max"] < 1
    before = package.read(inputs["model"][0] / "model")
    after = package.read(tmp_path / "out" / "model")
    assert after.calibration == before.calibration
    assert after.provenance["average"] == "exact"
    assert after.provenance["quantized"]["groups"] == {"32": 18, "48": 3}  # o_proj is 48 wide


def with_calibration_side(inputs: dict[str, tuple[Path, ...]], *learned_from: str) -> pa.Table:
    """Sixteen votes of eight groups more, on the calibration side; the model has learned from these groups."""
    split = inputs["rows"][0] / "rows.parquet"
    record(inputs["model"][0], *learned_from)
    unseen = votes(16, seed=9).append_column("group", pa.array([f"g{n // 2}" for n in range(16)]))
    unseen = unseen.append_column("fold", pa.array([CALIBRATION] * 16, pa.int8()))
    write_table(pa.concat_tables([read_table(split), unseen]), split)
    return unseen


def test_unseen_votes_are_counted_by_what_ships(inputs, tmp_path):
    unseen = with_calibration_side(inputs, "fold0")
    metrics = run(inputs, tmp_path / "out")
    assert metrics["fitted_on"] == ["calibration"]
    assert "calibration" not in metrics["learned_from"]
    model = tmp_path / "out" / "model"
    p_NC = tiebreak.load(model, device="cpu").predict_table(unseen)
    groups = np.arange(16) // 2
    seed = splits.derive_seed(SETTINGS.seed, "guarantees")
    expected = Guarantees.fit(p_NC, probabilities(unseen), groups, seed)
    assert package.read(model).guarantees == expected.to_json()
    assert expected.voters == 8


def test_without_a_calibration_side_nothing_is_counted(inputs, tmp_path):
    assert run(inputs, tmp_path / "out")["fitted_on"] == []
    assert package.read(tmp_path / "out" / "model").guarantees is None


def test_votes_that_the_model_has_learned_from_are_not_counted(inputs, tmp_path):
    with_calibration_side(inputs, "calibration")
    with pytest.raises(TiebreakError, match="a bound on the error needs votes that have not been seen"):
        run(inputs, tmp_path / "out")


def test_no_vote_of_the_lockbox_calibrates(inputs, tmp_path):
    run(inputs, tmp_path / "out")
    rows = json.loads((tmp_path / "out" / "calibration_rows.json").read_text())
    assert [row["order"] for row in rows["calibration"]] == [0, 1] * 6
    ids = [row["id"] for row in rows["calibration"] + rows["others"]]
    assert len(ids) == len(set(ids)) == 24
    chosen = {FOLDS[int(vote.removeprefix("v")) % len(FOLDS)] for vote in ids}
    assert chosen == {0, 1, 2, EXTRA}


def test_judge_predicts_with_the_packed_model(inputs, tmp_path):
    run(inputs, tmp_path / "out")
    pairs = votes(9, seed=5)
    before, after = (
        tiebreak.load(folder).predict(pairs)
        for folder in (inputs["model"][0] / "model", tmp_path / "out" / "model")
    )
    assert np.abs(after - before).max() < 0.1
    assert before.std() > 0.1


def test_a_baseline_that_ships_is_carried_over(inputs, tmp_path):
    source = inputs["model"][0] / "model"
    (source / files.NAME).write_bytes(b"arrays")
    blend = {"way": "log", "weights": [1.0, 0.5]}
    package.write(package.read(source).model_copy(update={"blend": blend}), source)
    run(inputs, tmp_path / "out")
    assert package.read(tmp_path / "out" / "model").blend == blend
    assert (tmp_path / "out" / "model" / files.NAME).read_bytes() == b"arrays"


def test_stops_between_layers(inputs, tmp_path):
    with pytest.raises(Interrupted, match="after 1 of 3 layers"):
        run(inputs, tmp_path / "out", should_stop=lambda: True)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_half_written_model_is_replaced(inputs, tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "out" / "model").mkdir(parents=True)
    (tmp_path / "out" / "model" / "rubbish").touch()
    quantize.run(SETTINGS, inputs, tmp_path / "out", Runtime(device="cpu", scratch=tmp_path / "scratch"))
    assert not (tmp_path / "out" / "model" / "rubbish").exists()


def test_no_votes_outside_the_lockbox_is_an_error(inputs, tmp_path):
    rows = votes(3)
    folds = pa.array([LOCKBOX] * 3, pa.int8())
    split = inputs["rows"][0] / "rows.parquet"
    write_table(rows.append_column("group", rows["id"]).append_column("fold", folds), split)
    with pytest.raises(TiebreakError, match="no vote outside the lockbox"):
        run(inputs, tmp_path / "out")
