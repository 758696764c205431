"""Scorer for Inspect (inspect_ai): how a model's output fares against the sample's target, as the judge sees it.

Inspect knows it by an entry point as `tiebreak/win_rate`.
"""

from threading import Lock

from anyio.to_thread import run_sync
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import TaskState

from tiebreak.plugins.judging import load, win_rates

_LOCK = Lock()
"""Samples are scored side by side, and a judge judges in one thread."""


@scorer(metrics=[mean(), stderr()])  # type: ignore[untyped-decorator]
def win_rate(model: str) -> Scorer:
    """The win rate of the output over the target, which is another answer to the same input.

    model: a folder that `tiebreak run` made. p_a (the output's), p_b (the target's) and p_tie are metadata of the score.
    """

    def judge(prompt: str, output: str, target: str) -> Score:
        with _LOCK:
            p_NC = load(model).predict([{"prompt": prompt, "response_a": output, "response_b": target}])
        p_a, p_b, p_tie = p_NC[0].tolist()
        return Score(
            value=float(win_rates(p_NC)[0]),
            answer=output,
            metadata={"p_a": p_a, "p_b": p_b, "p_tie": p_tie},
        )

    async def score(state: TaskState, target: Target) -> Score:
        return await run_sync(judge, state.input_text, state.output.completion, target.text)

    return score
