"""Step 8 on a tiny judge: its files, and resuming."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from tiny_models import base, votes

import tiebreak
from tiebreak.errors import Interrupted
from tiebreak.judge import package, scoring_parts
from tiebreak.model import classifier
from tiebreak.model.merge import save
from tiebreak.pipeline.steps import predict
from tiebreak.recipe.schema import Prompt, Tta
from tiebreak.runtime import Runtime
from tiebreak.votes.schema import LABELS, LOCKBOX, read_table, write_table

TTA = Tta(max_tokens=120, share=0.5)
TEST = 10


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, tuple[Path, ...]]:
    """A judge that shows uncertain pairs in both orders, eight votes of which four are in the lockbox, a test."""
    judge, split, test = (tmp_path / name for name in ("judge", "split", "test"))
    for folder in (judge, split, test):
        folder.mkdir()
    model = classifier.load(base("gemma2"))
    model.model.score.weight.data.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    save(model, judge / "model")
    shipped = package.Package(prompt=Prompt(), tta=TTA, calibration={"temperature": 1.3}, certain_from=0.75)
    package.write(shipped, judge / "model")
    rows = votes(8)
    write_table(rows.append_column("fold", pa.array([0, LOCKBOX] * 4, pa.int8())), split / "rows.parquet")
    write_table(votes(TEST, seed=1), test / "votes.parquet")
    return {"model": (judge,), "rows": (split,), "test": (test,)}


def run(inputs: dict[str, tuple[Path, ...]], output: Path, **changes: object) -> dict[str, object]:
    output.mkdir(exist_ok=True)
    runtime = replace(Runtime(device="cpu", scratch=output / "checkpoint"), **changes)
    return predict.run(predict.Settings(tta=TTA), inputs, output, runtime)


def test_predicts_as_the_shipped_judge_does(inputs, tmp_path):
    assert run(inputs, tmp_path / "out") == {"lockbox_votes": 4, "test_votes": TEST}
    table, found = votes(TEST, seed=1), read_table(tmp_path / "out" / "test.parquet")
    assert found["id"].equals(table["id"])
    expected = tiebreak.load(inputs["model"][0] / "model", device="cpu").predict(table)
    np.testing.assert_array_equal(np.stack([found[f"p_{label}"] for label in LABELS], axis=1), expected)
    assert len(read_table(tmp_path / "out" / "logits.parquet")) == 8


def test_a_stopped_prediction_resumes(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring_parts, "VOTES_PER_PART", 4)
    run(inputs, tmp_path / "whole")
    cut = tmp_path / "cut"
    part = cut / "checkpoint" / "test" / "part-000000000.parquet"
    with pytest.raises(Interrupted, match="stopped after 4 of 10 votes"):
        run(inputs, cut, should_stop=part.exists)
    saved = part.stat().st_mtime_ns
    run(inputs, cut)
    assert part.stat().st_mtime_ns == saved, "the part that was saved was scored again"
    for name in ("logits.parquet", "test.parquet"):
        assert (cut / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
