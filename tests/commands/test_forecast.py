"""Forecasts against the rows of a real run, and against the formula."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file
from tiny_models import base
from transformers import Gemma2Config, LlamaConfig

from tiebreak.commands import forecast
from tiebreak.commands.forecast import FRAME_TOKENS, Forecaster
from tiebreak.data_card.vote_features import BYTES_PER_TOKEN
from tiebreak.engine.planner import select
from tiebreak.engine.task_runner import run_task
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.hardware.gpu_specs import GIB, find_card
from tiebreak.hardware.memory_model import decoder_shape
from tiebreak.hardware.throughput import rate
from tiebreak.votes import splits, synthetic

RECIPE = """
name: judge
data: {votes: [votes.parquet], preferences: [pairs.parquet]}
models:
  teachers: {llama: {base: models/llama, precision: auto}}
  student: {base: models/gemma, precision: bf16}
split: {count: 3, lockbox_share: 0.2}
baseline: {enabled: false}
teach: {training: {epochs: 2, max_tokens: 60}}
prompt: {prompt_tokens: 20}
logits: {shards: 2, max_tokens: 60}
distill: {training: {epochs: 1, max_tokens: 60}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe over models of real size by their configs; the weights beside them say nothing of their sizes."""
    shutil.copytree(base("llama"), tmp_path / "models" / "llama")
    shutil.copytree(base("gemma2"), tmp_path / "models" / "gemma")
    LlamaConfig(hidden_size=4096, intermediate_size=14336, num_key_value_heads=8).save_pretrained(
        tmp_path / "models" / "llama"
    )
    Gemma2Config().save_pretrained(tmp_path / "models" / "gemma")
    for name in ("llama", "gemma"):
        save_file({"nothing": np.zeros(1)}, tmp_path / "models" / name / "model.safetensors")
    pq.write_table(synthetic.generate(600, 0), tmp_path / "votes.parquet")
    pq.write_table(synthetic.generate(80, 1), tmp_path / "pairs.parquet")
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def split(work: Workspace) -> None:
    for task in select(work, ["split"]):
        run_task(work, task, lambda line: None, lambda: False)


def tokens(row: dict, most: int = 60) -> int:
    texts = (turn for name in ("prompt", "response_a", "response_b") for turn in row[name])
    return min(most, FRAME_TOKENS + sum(len(text.encode()) for text in texts) // BYTES_PER_TOKEN)


def test_tokens_equal_those_of_a_runs_rows(recipe: Path) -> None:
    work = Workspace(recipe)
    before = Forecaster(work, find_card("H100"))
    split(work)
    rows = pq.read_table(work.folder(work.find("split/votes")) / "rows.parquet")
    side = sum(map(tokens, splits.training_votes(rows, 0).to_pylist()))
    aside = (splits.held_out(rows, 0), splits.calibration(rows), splits.lockbox(rows))
    kept_out = sum(tokens(row) for part in aside for row in part.to_pylist())
    for forecaster in (before, Forecaster(work, find_card("H100"))):  # from the files, and from the artifact
        # folds are hashes, so that their sizes differ from the shares a little
        assert forecaster.of(work.find("teach/llama-fold0")).tokens == pytest.approx(4 * side, rel=0.1)
        scored = sum(forecaster.of(work.find(f"score/llama-fold0-{n}of2")).tokens for n in (1, 2))
        assert scored == pytest.approx(2 * (side + kept_out), rel=0.1)
        distilled = forecaster.of(work.find("distill/fold0")).tokens
        assert distilled == pytest.approx(2 * side + 2 * kept_out, rel=0.1)
        # by its share: prompt groups fall into the side as a whole, so that its size scatters
        calibrated = 2 * 0.1 * sum(tokens(row, 2000) for row in rows.to_pylist())
        assert forecaster.of(work.find("average/student")).tokens == pytest.approx(calibrated, rel=0.05)
    none = Workspace(recipe, ["split.calibration_share=0"])
    assert Forecaster(none, find_card("H100")).of(none.find("average/student")).tokens == 0


def test_hours_follow_the_rates(recipe: Path) -> None:
    work = Workspace(recipe)
    found = Forecaster(work, find_card("H200")).of(work.find("post_pretrain/student"))
    config = json.loads((recipe.parent / "models" / "gemma" / "config.json").read_text())
    matrices = decoder_shape(config).matrices
    a_second = rate(find_card("H200"), "train", "bf16", matrices)
    assert found.hours == pytest.approx(found.tokens * 4 * matrices / a_second / 3600)


def test_activations_that_do_not_fit_cost_time(recipe: Path) -> None:
    long = Workspace(recipe, ["compute.train_tokens=65536"])
    short = Workspace(recipe, ["compute.train_tokens=1024"])
    one, other = (
        Forecaster(work, find_card("H100")).of(work.find("teach/llama-fold0")) for work in (long, short)
    )
    assert one.tokens == other.tokens
    assert 1.2 * other.hours < one.hours <= 1.5 * other.hours
    assert one.memory <= find_card("H100").memory
    assert one.memory > 2 * other.memory


def test_steps_and_subsets_bound_the_work(recipe: Path) -> None:
    card = find_card("H100")
    capped = Workspace(recipe, ["teach.training.max_steps=2", "teach.training.rows_per_step=10"])
    found = Forecaster(capped, card).of(capped.find("teach/llama-fold0"))
    assert 20 * FRAME_TOKENS < found.tokens <= 20 * 60
    subset = Workspace(recipe, ["teach.subset_votes=30"])
    assert Forecaster(subset, card).of(subset.find("teach/llama-fold0")).tokens <= 30 * 4 * 60


def test_a_precision_that_the_card_lacks_is_an_error(recipe: Path) -> None:
    work = Workspace(recipe)
    with pytest.raises(TiebreakError, match="V100-32G has no bf16"):
        Forecaster(work, find_card("V100-32G")).of(work.find("distill/fold0"))


def test_the_summary_counts_remaining_tasks(recipe: Path) -> None:
    from tiebreak.engine.planner import plan

    work = Workspace(recipe)
    split(work)
    states = plan(work)
    found = forecast.forecasts(work, states, find_card("H100"))
    hours = sum(item.hours for item in found)
    line = forecast.forecast_summary(states, found, find_card("H100"))
    assert line.startswith(f"left: {len(states) - 3} tasks, about {hours:.1f} hours of one H100")
    assert all(item.memory < 80 * GIB for item in found)
