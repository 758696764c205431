"""Tests of FP8, NF4 and bf16 against fp32 on a trained model: the benchmark's comparison, at a smaller size."""

import runpy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "numerics.py"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    compare = runpy.run_path(str(BENCHMARK))["run"]
    return {r["precision"]: r for r in compare(tmp_path_factory.mktemp("numerics"), ("llama",), 200, 12)}


@pytest.mark.parametrize(
    ("precision", "logits", "cosine", "distance"),
    [("bf16", 0.03, 0.999, 0.01), ("fp8", 0.2, 0.95, 0.05), ("nf4", 0.6, 0.8, 0.1)],
)
def test_rounding_stays_small(
    rows: dict[str, dict[str, Any]], precision: str, logits: float, cosine: float, distance: float
) -> None:
    if precision == "nf4" and find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes is not installed")
    row = rows[precision]
    assert 0 < row["logits_rms"] < logits
    assert row["gradient_cosine"] > cosine
    assert 0 < row["curve_distance"] < distance, "a training in this precision follows the one in fp32"
    assert abs(row["log_loss_trained_so"] - rows["fp32"]["log_loss_trained_so"]) < distance


def test_the_reference_is_itself(rows: dict[str, dict[str, Any]]) -> None:
    reference = rows["fp32"]
    assert reference["logits_rms"] == reference["curve_distance"] == 0
    assert reference["gradient_cosine"] == pytest.approx(1)
    assert reference["log_loss_same_adapter"] == pytest.approx(reference["log_loss_trained_so"])
    assert len(reference["curve"]) == 12
    assert np.isfinite(reference["curve"]).all()
