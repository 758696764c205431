"""The scorer in Inspect's own evaluation."""

from pathlib import Path

import pytest

from tiebreak.judge.judge import Judge

pytest.importorskip("inspect_ai", reason="inspect_ai is not installed: pip install inspect_ai")
pytestmark = pytest.mark.slow


def test_an_evaluation_scores_outputs_against_targets(folder: Path, judge: Judge, tmp_path: Path) -> None:
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ModelOutput
    from inspect_ai.solver import Generate, Solver, TaskState, solver

    from tiebreak.plugins.inspect_ai import win_rate

    questions, targets, outputs = ["Why?", "How?"], ["Because.", "So."], ["No.", "Well, like this."]
    samples = [Sample(input=i, target=t) for i, t in zip(questions, targets, strict=True)]

    @solver
    def known() -> Solver:
        """The outputs, without a model: Inspect counts its tokens with a file of the internet."""

        async def solve(state: TaskState, generate: Generate) -> TaskState:
            output = outputs[questions.index(state.input_text)]
            state.output = ModelOutput.from_content("mockllm/model", output)
            return state

        return solve

    task = Task(dataset=samples, solver=known(), scorer=win_rate(model=str(folder)))
    (log,) = eval(task, model="mockllm/model", log_dir=str(tmp_path), display="none")
    assert log.status == "success", log.error
    assert log.samples is not None
    assert log.results is not None
    expected = judge.predict(
        [
            {"prompt": i, "response_a": o, "response_b": t}
            for i, o, t in zip(questions, outputs, targets, strict=True)
        ]
    )
    rates = expected[:, 0] + expected[:, 2] / 2
    found = {sample.id: next(iter((sample.scores or {}).values())) for sample in log.samples}
    assert [found[n + 1].value for n in range(2)] == pytest.approx(rates.tolist(), abs=1e-6)
    assert found[1].metadata == pytest.approx(
        dict(zip(("p_a", "p_b", "p_tie"), expected[0].tolist(), strict=True)), abs=1e-6
    )
    assert log.results.scores[0].metrics["mean"].value == pytest.approx(rates.mean(), abs=1e-6)
    assert log.results.scores[0].name == "win_rate"


def test_inspect_finds_it_by_name(folder: Path) -> None:
    from importlib.metadata import entry_points

    from inspect_ai._util.registry import registry_lookup

    if "tiebreak" not in entry_points(group="inspect_ai").names:
        pytest.skip("the package was installed before it had entry points: pip install -e .")
    assert registry_lookup("scorer", "tiebreak/win_rate") is not None
