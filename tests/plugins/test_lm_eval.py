"""The aggregation in lm-evaluation-harness' own evaluation, with its dummy model."""

from pathlib import Path

import pytest

from tiebreak.judge.judge import Judge

pytest.importorskip("lm_eval", reason="lm_eval is not installed: pip install lm_eval")
pytestmark = pytest.mark.slow


def test_an_evaluation_has_the_mean_win_rate(folder: Path, judge: Judge) -> None:
    import datasets
    from lm_eval import simple_evaluate
    from lm_eval.api.task import ConfigurableTask

    import tiebreak.plugins.lm_eval  # noqa: F401

    rows = [{"question": "Why?", "reference": "Because."}, {"question": "How?", "reference": "So."}]
    task = ConfigurableTask(
        config={
            "task": "answers",
            "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(rows)},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": "{{question}}",
            "doc_to_target": "{{reference}}",
            "process_results": lambda doc, results: {
                "win_rate": (str(folder), doc["question"], results[0], doc["reference"])
            },
            "metric_list": [
                {"metric": "win_rate", "aggregation": "tiebreak_win_rate", "higher_is_better": True}
            ],
        }
    )
    found = simple_evaluate("dummy", tasks=[task], bootstrap_iters=0)
    assert found is not None
    p_NC = judge.predict(  # the dummy model answers the same to everything
        [{"prompt": row["question"], "response_a": "lol", "response_b": row["reference"]} for row in rows]
    )
    expected = (p_NC[:, 0] + p_NC[:, 2] / 2).mean()
    assert found["results"]["answers"]["win_rate,none"] == pytest.approx(expected, abs=1e-6)
