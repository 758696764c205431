"""Reward functions with the signatures of TRL, OpenRLHF and verl, as their own files call them.

TRL 1.16.0 (trl/trainer/grpo_trainer.py, _calculate_rewards); OpenRLHF at 2cedb6a (examples/python/reward_func.py) and
07c34b3 (openrlhf/utils/remote_rm_utils.py); verl at 0ffc057 (verl/workers/reward_manager/batch.py) and 247f1ac
(verl/experimental/reward_loop/reward_manager/naive.py). None of them is imported.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

from tiebreak.arguments import checked
from tiebreak.errors import TiebreakError, nearest
from tiebreak.judge.judge import Judge
from tiebreak.rewards.preferences import Rewards, against_group, against_references, require_equal

Against = Literal["group", "column"]

UNJUDGED = 0.5
"""What OpenRLHF and verl, which take no missing rewards, get for an answer that cannot be judged: neither won nor lost."""


@checked
def trl(judge: Judge, reference: str = "reference", against: Against = "group") -> Callable[..., Rewards]:
    """A reward function for TRL's `GRPOTrainer(reward_funcs=...)`.

    against: "group", the other completions of the same prompt in the batch of this process, or "column", the answer in
    the data set's column `reference`. Prompts and completions may be strings or chat messages. A reward is None, which
    TRL leaves out, where a pair cannot be read or a completion is the only one of its prompt.
    Raises TiebreakError for another `against`; when called, where the data set has no such column.
    """
    _require_known(against)

    @checked
    def preferred(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> Rewards:
        if against == "group":
            return against_group(judge, prompts, completions)
        return against_references(judge, prompts, completions, _value(columns, reference, "the data set"))

    return preferred


@checked
def openrlhf(judge: Judge, against: Against = "column") -> Callable[..., dict[str, Any]]:
    """The `reward_func` of a file for OpenRLHF's `--reward.remote_url` (or `--remote_rm_url`).

    against: "column", the answer in the prompt's label, or "group", the other answers to the same prompt in the call.
    The prompt is read as it stands there, with a chat template that was applied. extra_logs["judged"] is 0 where the
    reward is UNJUDGED. Raises TiebreakError, when called, for a query that does not start with its prompt.
    """
    _require_known(against)

    @checked
    def reward_func(
        queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any], **_: Any
    ) -> dict[str, Any]:
        import torch

        require_equal(queries=queries, prompts=prompts, labels=labels)
        for query, prompt in zip(queries, prompts, strict=True):
            if not query.startswith(prompt):
                raise TiebreakError(
                    f"a query does not start with its prompt: {query[:40]!r}, {prompt[:40]!r}"
                )
        answers = [query[len(prompt) :] for query, prompt in zip(queries, prompts, strict=True)]
        found = (
            against_group(judge, prompts, answers)
            if against == "group"
            else against_references(judge, prompts, answers, labels)
        )
        rewards = torch.tensor(_filled(found))
        judged = torch.tensor([float(reward is not None) for reward in found])
        return {"rewards": rewards, "scores": rewards, "extra_logs": {"judged": judged}}

    return reward_func


@checked
def verl(judge: Judge, prompt: str = "question") -> Callable[..., float]:
    """A `compute_score` for verl's `custom_reward_function`, which scores one answer against the ground truth.

    prompt: the key of `extra_info` that holds the prompt, which verl does not pass. An answer that cannot be judged has
    UNJUDGED. Raises TiebreakError, when called, where there is no such key.
    """
    score_batch = verl_batch(judge, prompt)

    @checked
    def compute_score(
        data_source: Any, solution_str: str, ground_truth: Any, extra_info: Any = None, **_: Any
    ) -> float:
        return score_batch([data_source], [solution_str], [ground_truth], [extra_info])[0]

    return compute_score


@checked
def verl_batch(
    judge: Judge, prompt: str = "question", against: Against = "column"
) -> Callable[..., list[float]]:
    """As `verl`, for its reward manager `batch`: all answers of a step in one call.

    against: "column", the ground truth, or "group", the other answers to the same prompt.
    """
    _require_known(against)

    @checked
    def compute_score(
        data_sources: Sequence[Any],
        solution_strs: Sequence[str],
        ground_truths: Sequence[Any],
        extra_infos: Sequence[Any],
        **_: Any,
    ) -> list[float]:
        prompts = [_value(info or {}, prompt, "extra_info") for info in extra_infos]
        if against == "group":
            return _filled(against_group(judge, prompts, solution_strs))
        return _filled(against_references(judge, prompts, solution_strs, ground_truths))

    return compute_score


def _require_known(against: str) -> None:
    if against not in get_args(Against):
        raise TiebreakError(f"rewards are not against {against!r}: {nearest(against, get_args(Against))}")


def _value(columns: Any, name: str, where: str) -> Any:
    if not isinstance(columns, Mapping):
        raise TiebreakError(
            f"{where} is to be a dict with {name!r}, which the reward needs, not {columns!r:.60}"
        )
    if name not in columns:
        raise TiebreakError(
            f"{where} has no {name!r}, which the reward needs; {nearest(name, map(str, columns))}"
        )
    return columns[name]


def _filled(rewards: Rewards) -> list[float]:
    return [UNJUDGED if reward is None else reward for reward in rewards]
