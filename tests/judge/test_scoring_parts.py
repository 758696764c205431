from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from distributed_jobs import Job, run_distributed
from distributed_jobs import scored_ids as scored_by_ranks
from tiny_models import base, votes

from tiebreak.errors import Interrupted
from tiebreak.judge import scoring_parts
from tiebreak.judge.logits import LOGITS_SCHEMA, from_table, pool
from tiebreak.model import classifier
from tiebreak.recipe.schema import Prompt
from tiebreak.runtime import Runtime
from tiebreak.votes import splits


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring_parts, "VOTES_PER_PART", 4)


def scored(table: pa.Table, scratch: Path, **runtime: object) -> pa.Table:
    ours = classifier.load(base("qwen2"))
    ours.head_trained = True
    surroundings = Runtime("cpu", scratch, **runtime)
    return scoring_parts.score_in_parts(ours, table, Prompt(), 200, "m", 1, surroundings)


@pytest.fixture
def table() -> pa.Table:
    side, others = votes(10).slice(0, 5), votes(10).slice(5)
    return splits.tag_splits(
        {"train": side, "held_out": others.slice(0, 3), "lockbox": others.slice(3)}, trained_on=side
    )


def test_every_vote_in_both_orders_with_its_origin(table: pa.Table, tmp_path: Path) -> None:
    logits = scored(table, tmp_path)
    assert logits.schema == LOGITS_SCHEMA
    pooled = pool(list(from_table(logits)))
    z_NOC = pooled.z_NOC
    assert pooled.ids == table["id"].to_pylist()
    assert z_NOC.shape == (10, 2, 3)
    assert not np.allclose(z_NOC[:, 0], z_NOC[:, 1])
    origins = dict(zip(logits["split"].to_pylist(), logits["origin"].to_pylist(), strict=True))
    assert origins == {"train": "in_sample", "held_out": "out_of_fold", "lockbox": "out_of_fold"}


def test_a_stopped_scoring_resumes(table: pa.Table, tmp_path: Path) -> None:
    expected = scored(table, tmp_path / "whole")
    parts: list[int] = []
    with pytest.raises(Interrupted, match="stopped after 4 of 10"):
        scored(
            table,
            tmp_path / "cut",
            report=lambda phase, done, *_, **__: parts.append(done),
            should_stop=lambda: bool(parts),
        )
    kept = next((tmp_path / "cut").iterdir())
    before = kept.stat().st_mtime_ns
    assert scored(table, tmp_path / "cut").equals(expected)
    assert kept.stat().st_mtime_ns == before, "the part that was saved was scored again"


def test_no_votes_give_an_empty_table(table: pa.Table, tmp_path: Path) -> None:
    assert scored(table.slice(0, 0), tmp_path).schema == LOGITS_SCHEMA


@pytest.mark.slow
def test_only_the_main_process_reads_and_returns_parts(table: pa.Table, tmp_path: Path) -> None:
    """On a shared disk another node may not see a file for a while."""
    first, again = run_distributed(2, [Job(scored_by_ranks, (base("qwen2"), tmp_path))] * 2)
    assert first == again == [[vote for vote in table["id"].to_pylist() for _ in (0, 1)], []]
    assert not list((tmp_path / "1").iterdir())
