"""The annotator in alpaca_eval's own evaluation."""

from pathlib import Path

import pytest

from tiebreak.judge.judge import Judge

pytest.importorskip("alpaca_eval", reason="alpaca_eval is not installed: pip install alpaca_eval")
pytestmark = pytest.mark.slow


def test_an_evaluation_has_the_judges_win_rate(folder: Path, judge: Judge, tmp_path: Path) -> None:
    from alpaca_eval import evaluate

    from tiebreak.plugins.alpaca_eval import JudgeAnnotator

    (tmp_path / "judge").mkdir()
    (tmp_path / "judge" / "configs.yaml").write_text(f"judge: {{model: {folder}}}\n")
    questions = ["Why?", "How?", "Who?"]
    model = [
        {"instruction": q, "output": o, "generator": "new"} for q, o in zip(questions, "abc", strict=True)
    ]
    reference = [{"instruction": q, "output": "x y", "generator": "old"} for q in questions]
    board, annotations = evaluate(
        model_outputs=model,
        reference_outputs=reference,
        annotators_config=tmp_path / "judge" / "configs.yaml",
        Annotator=JudgeAnnotator,
        fn_metric="get_winrate",
        precomputed_leaderboard=None,
        output_path=None,
        is_return_instead_of_print=True,
        sort_by="win_rate",
    )
    p_NC = judge.predict(
        [{"prompt": q, "response_a": o, "response_b": "x y"} for q, o in zip(questions, "abc", strict=True)]
    )
    rates = p_NC[:, 0] + p_NC[:, 2] / 2
    assert [row["preference"] for row in annotations] == pytest.approx((1 + rates).tolist(), abs=1e-6)
    assert board.loc["new", "win_rate"] == pytest.approx(100 * rates.mean(), abs=1e-4)
    assert 0 < rates.mean() < 1
