"""Judge for RewardBench (rewardbench): a pipeline of pairs for version 1, and a round robin for version 2's best of several.

rewardbench wants another transformers than a judge does, so it has an environment of its own, and the judge is a
`tiebreak.client.Client` of a `tiebreak serve`; anything with its `predict` will do. Importing this module imports neither
rewardbench nor torch.
"""

import logging
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tiebreak.stats.round_robin import pairs, scores

if TYPE_CHECKING:
    import torch

Conversation = Sequence[Mapping[str, Any]]
"""Messages with role and content; the last one is the answer."""


class Predicts(Protocol):
    """What is asked of a judge."""

    def predict(self, pairs: list[dict[str, Any]]) -> NDArray[np.float64]: ...


def register(name: str, judge: Predicts) -> None:
    """Have RewardBench's run_rm.py know a judge by a name, for its option --model."""
    from rewardbench import REWARD_MODEL_CONFIG

    REWARD_MODEL_CONFIG[name] = {
        "model_builder": lambda *_, **__: _Model(judge),
        "pipeline_builder": PairPipeline,
        "quantized": False,
        "custom_dialogue": True,
        "model_type": "Custom Classifier",
    }


class _Model:
    """A judge as run_rm.py holds a model: something with a config."""

    def __init__(self, judge: Predicts) -> None:
        self.judge, self.config = judge, SimpleNamespace(pad_token_id=0)


class PairPipeline:
    """Pipeline of pairs with the interface of RewardBench's PairRMPipeline; its tokenizer is not used."""

    def __init__(self, task: str, model: _Model, tokenizer: Any) -> None:
        self.task, self.model, self.tokenizer = task, model, tokenizer

    def __call__(
        self, candidates_A: Sequence[Conversation], candidates_B: Sequence[Conversation], **_: Any
    ) -> "torch.Tensor":
        """True (n,) where A is preferred: P(A) > P(B), so that an even pair counts as wrong, as everywhere in RewardBench."""
        import torch

        pairs = [_pair(a, b) for a, b in zip(candidates_A, candidates_B, strict=True)]
        p_NC = self.model.judge.predict(pairs)
        return torch.from_numpy(p_NC[:, 0] > p_NC[:, 1])


def round_robin(
    judge: Predicts, conversations: Sequence[Conversation], completions: Sequence[int]
) -> list[float]:
    """The score of each answer among those to its prompt: the mean of its win rates, P(preferred) + P(tie) / 2, over all others.

    completions: how many answers, one after another, belong to each prompt. A single answer has 0.5.
    """
    if sum(completions) != len(conversations):
        raise ValueError(
            f"{len(conversations)} conversations, where {sum(completions)} completions are named"
        )
    pair_P2 = pairs(completions)
    if not len(pair_P2):
        return [0.5] * len(conversations)
    p_PC = judge.predict([_pair(conversations[a], conversations[b]) for a, b in pair_P2.tolist()])
    found: list[float] = scores(p_PC[:, 0] + p_PC[:, 2] / 2, completions).tolist()
    return found


def evaluate_v2(judge: Predicts, dataset: str = "") -> dict[str, float]:
    """The accuracy of each subset of RewardBench 2, and the score of its subset Ties, as its run_v2.py computes them.

    dataset: a file of JSON Lines or a data set of the hub; RewardBench's own by default.
    """
    from rewardbench import load_bon_dataset_v2, process_single_model, reroll_and_score_dataset

    rows, subsets, completions, correct = load_bon_dataset_v2(
        dataset,
        custom_dialogue_formatting=True,
        logger=logging.getLogger(__name__),
        keep_columns=["text", "id"],
    )
    scored = rows.add_column("scores", round_robin(judge, rows["text"], completions))
    prompts = reroll_and_score_dataset(scored.add_column("subset", subsets), completions)
    prompts = prompts.add_column("num_correct", correct)
    found: dict[str, float] = {}
    for subset in dict.fromkeys(subsets):
        of_subset = prompts.filter(lambda row, subset=subset: row["subset"] == subset)
        ties = subset.lower() == "ties"
        found[subset] = float(process_single_model(of_subset)[1] if ties else np.mean(of_subset["results"]))
    return found


def _pair(a: Conversation, b: Conversation) -> dict[str, Any]:
    """The pair of two conversations that differ in their last message."""
    return {"prompt": list(a[:-1]), "response_a": a[-1]["content"], "response_b": b[-1]["content"]}
