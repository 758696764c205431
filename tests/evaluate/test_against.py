import json
from pathlib import Path

import numpy as np
import pytest

from tiebreak.errors import TiebreakError
from tiebreak.evaluate import submission
from tiebreak.evaluate.against import against
from tiebreak.evaluate.metrics import Bootstrap, log_loss, summarise

BOOTSTRAP = Bootstrap(40)


@pytest.fixture
def predicted(tmp_path) -> tuple[Path, np.ndarray]:
    p = np.random.default_rng(0).dirichlet([1, 1, 1], size=40)
    submission.write([str(n) for n in range(40)], p, tmp_path / "predictions.csv")
    return tmp_path / "predictions.csv", p


def votes(folder: Path, labels: list[int], prompt_of: int = 4) -> Path:
    """JSON lines, several votes on each prompt, in reverse order."""
    winners = ("model_a", "model_b", "tie")
    lines = [
        {"id": n, "prompt": f"p{n // prompt_of}", "response_a": "x", "response_b": "y", "winner": winners[y]}
        for n, y in enumerate(labels)
    ]
    path = folder / "votes.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in reversed(lines)))
    return path


def test_votes_are_matched_by_id_and_resampled_by_prompt(predicted, tmp_path):
    path, p = predicted
    labels = [n % 3 for n in range(40)]
    rows, found = against(path, votes(tmp_path, labels), BOOTSTRAP)
    assert rows == 40
    assert found["log_loss"].value == pytest.approx(log_loss(p, labels))
    by_row = summarise([p], labels, BOOTSTRAP)["log_loss"]
    assert (found["log_loss"].low, found["log_loss"].high) != (by_row.low, by_row.high)


def test_a_solution_of_soft_labels(predicted, tmp_path):
    path, p = predicted
    y = np.random.default_rng(1).dirichlet([1, 1, 1], size=40)
    submission.write([str(n) for n in range(40)], y, tmp_path / "solution.csv")
    rows, found = against(path, tmp_path / "solution.csv", BOOTSTRAP)
    assert rows == 40
    assert found["log_loss"].value == pytest.approx(log_loss(p, y))


def test_predictions_may_cover_more_than_the_labels(predicted, tmp_path):
    path, p = predicted
    rows, found = against(path, votes(tmp_path, [0, 1, 2]), BOOTSTRAP)
    assert rows == 3
    assert found["accuracy"].value == pytest.approx((p[:3].argmax(axis=1) == [0, 1, 2]).mean())


def test_a_label_without_a_prediction_is_named(predicted, tmp_path):
    with pytest.raises(TiebreakError, match=r"5 of 45 labelled ids have no prediction in .*, such as '44'"):
        against(predicted[0], votes(tmp_path, [0] * 45), BOOTSTRAP)
