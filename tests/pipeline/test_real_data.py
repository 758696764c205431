"""The whole recipe on real votes: nulls, lone surrogates, quoted newlines, prompts in several files."""

import json
from pathlib import Path

import numpy as np
import pytest
from forked import Tiebreak

import tiebreak
from tiebreak.votes.schema import EXTRA, LOCKBOX, read_table

SMALL = {
    "split.count": 2,
    "split.lockbox_share": 0.1,
    "prompt.prompt_tokens": 40,
    "post_pretrain.subset_votes": 60,
    "post_pretrain.training.max_tokens": 128,
    "teach.subset_votes": 120,
    "teach.training.max_steps": 4,
    "teach.training.max_tokens": 128,
    "logits.subset_votes": 60,
    "logits.max_tokens": 128,
    "distill.training.max_steps": 4,
    "distill.training.max_tokens": 128,
    "quantize.max_tokens": 128,
    "tta.max_tokens": 128,
    "evaluate.bootstrap_samples": 50,
}


@pytest.mark.slow
def test_the_recipe_runs_on_real_votes(shared_data: Path, tmp_path: Path) -> None:
    votes, extra = shared_data / "lmsys/train.csv", shared_data / "pairs/autoj_human.parquet"
    preferences = shared_data / "pairs/hh_rlhf_test.parquet"
    Tiebreak(
        "init", tmp_path / "real", "--preset", "tiny", "--votes", votes, "--preferences", preferences
    ).finish()
    changes = {**SMALL, "data.extra": json.dumps([str(extra)])}
    sets = (x for key, value in changes.items() for x in ("--set", f"{key}={value}"))
    Tiebreak("run", tmp_path / "real", *sets).finish()
    artifacts = tmp_path / "real/run/artifacts"
    (rows,) = artifacts.glob("split/votes-*/rows.parquet")
    fold = read_table(rows)["fold"].to_numpy()
    assert (fold != EXTRA).sum() == 999, "a real vote was lost"
    assert (fold == EXTRA).sum() > 1300
    (report,) = artifacts.glob("evaluate/report-*")
    metrics = json.loads((report / "metrics.json").read_text())
    assert metrics["lockbox_rows"] == (fold == LOCKBOX).sum()
    assert 0.9 < metrics["final_log_loss"] < 1.3
    pairs = [{"prompt": "Why?", "response_a": "Because.", "response_b": "Who knows."}]
    p = tiebreak.load(report / "model", device="cpu").predict(pairs)
    assert p.shape == (1, 3)
    np.testing.assert_allclose(p.sum(), 1)
