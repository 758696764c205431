"""Votes that a judge has seen, by the record of its run."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from tiebreak.commands.seen_votes import seen_votes, warn_of_seen
from tiebreak.votes import synthetic
from tiebreak.votes.schema import CALIBRATION, LOCKBOX, SCHEMA, write_table

KEY = "0123456789abcdef"


@pytest.fixture
def votes() -> pa.Table:
    return synthetic.generate(8, seed=3).select(SCHEMA.names)


@pytest.fixture
def model(tmp_path: Path, votes: pa.Table) -> Path:
    """The model of a run whose fold 0 and calibration side were read, beside an unread fold 1 and a lockbox."""
    artifacts = tmp_path / "run" / "artifacts"
    folder = artifacts / "evaluate" / "report-89abcdef"
    split = artifacts / "split" / f"votes-{KEY[:8]}"
    for made in (folder / "model", split):
        made.mkdir(parents=True)
    rows = votes.slice(0, 6).append_column("group", votes["id"].slice(0, 6))
    folds = pa.array([0, 0, 1, CALIBRATION, LOCKBOX, LOCKBOX], pa.int8())
    write_table(rows.append_column("fold", folds), split / "rows.parquet")
    write_table(votes.slice(6, 1), split / "preferences.parquet")
    manifest = {
        "step": "evaluate", "name": "report", "version": 1, "key": KEY, "settings": {}, "files": {}, "metrics": {},
        "inputs": {"rows": [{"origin": "split/votes", "key": KEY}]}, "learned_from": ["fold0", "preferences"],
        "fitted_on": ["calibration"], "seconds": 0, "finished": 0, "versions": {}, "hardware": {},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder / "model"


def test_votes_of_the_folds_that_were_read_are_seen(model: Path, votes: pa.Table) -> None:
    assert seen_votes(model, votes).tolist() == [True, True, False, True, False, False, True, False]


def test_a_near_duplicate_of_a_seen_prompt_is_seen(model: Path, votes: pa.Table) -> None:
    shouted = [[f"  {turn.upper()} !!" for turn in turns] for turns in votes["prompt"].to_pylist()]
    changed = votes.set_column(1, SCHEMA.field("prompt"), pa.array(shouted, SCHEMA.field("prompt").type))
    assert seen_votes(model, changed).tolist() == seen_votes(model, votes).tolist()


def test_seen_votes_are_warned_of_once(
    model: Path, votes: pa.Table, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_seen([model, model], votes)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"{model} has learned from votes on the prompts of 4 of these 8 votes" in caplog.text
    caplog.clear()
    warn_of_seen([model], votes.slice(4, 2))
    assert not caplog.records


def test_nothing_is_known_of_a_model_outside_of_its_run(model: Path, votes: pa.Table, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "model")
    assert not seen_votes(tmp_path / "model", votes).any()
    shutil.rmtree(model.parents[2] / "split")
    assert not seen_votes(model, votes).any()
