"""Formats of preference data, as the libraries that train on it read them.

trl            prompt, chosen, rejected, margin: TRL's preference type, for its DPO and reward trainers; texts, or messages
               in all rows where any has several turns
unpaired       prompt, completion, label: TRL's unpaired type, for KTO, two rows a pair; texts or messages likewise
messages       chosen, rejected, margin: whole conversations, TRL's preference type with an implicit prompt
openrlhf       the same columns, which OpenRLHF's RewardDataset reads with --apply_chat_template
ultrafeedback  prompt, prompt_id, chosen, rejected, messages, score_chosen, score_rejected, margin: as in
               HuggingFaceH4/ultrafeedback_binarized
"""

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any, NamedTuple

from tiebreak.votes.formats.dialog import Turns

Message = dict[str, str]


class Preference(NamedTuple):
    """A chosen and a rejected response to a prompt, and their scores: log odds, whose difference is the margin."""

    prompt: Turns
    chosen: Turns
    rejected: Turns
    score_chosen: float
    score_rejected: float

    @property
    def margin(self) -> float:
        """Log P(chosen preferred) / P(rejected preferred)."""
        return self.score_chosen - self.score_rejected


def _trl(preference: Preference, conversational: bool) -> Iterator[dict[str, Any]]:
    prompt, chosen, rejected = _parts(preference, conversational)
    yield {"prompt": prompt, "chosen": chosen, "rejected": rejected, "margin": preference.margin}


def _unpaired(preference: Preference, conversational: bool) -> Iterator[dict[str, Any]]:
    prompt, chosen, rejected = _parts(preference, conversational)
    yield {"prompt": prompt, "completion": chosen, "label": True}
    yield {"prompt": prompt, "completion": rejected, "label": False}


def _messages(preference: Preference, conversational: bool) -> Iterator[dict[str, Any]]:
    yield {
        "chosen": _conversation(preference.prompt, preference.chosen),
        "rejected": _conversation(preference.prompt, preference.rejected),
        "margin": preference.margin,
    }


def _ultrafeedback(preference: Preference, conversational: bool) -> Iterator[dict[str, Any]]:
    question = preference.prompt[-1] or ""
    chosen = _conversation(preference.prompt, preference.chosen)
    yield {
        "prompt": question,
        "prompt_id": sha256(question.encode()).hexdigest(),
        "chosen": chosen,
        "rejected": _conversation(preference.prompt, preference.rejected),
        "messages": chosen,
        "score_chosen": preference.score_chosen,
        "score_rejected": preference.score_rejected,
        "margin": preference.margin,
    }


Rows = Callable[[Preference, bool], Iterator[dict[str, Any]]]
FORMATS: dict[str, Rows] = {
    "trl": _trl,
    "messages": _messages,
    "unpaired": _unpaired,
    "openrlhf": _messages,
    "ultrafeedback": _ultrafeedback,
}
"""The rows of a preference in each format. The flag: prompt and responses are messages, not texts."""


def _conversation(prompt: Turns, response: Turns) -> list[Message]:
    return [
        {"role": role, "content": text or ""}
        for turn in zip(prompt, response, strict=True)
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]


def _parts(preference: Preference, conversational: bool) -> tuple[Any, Any, Any]:
    """Prompt, chosen and rejected. The prompt of messages goes as far as both conversations are the same."""
    if not conversational:
        return tuple(side[0] or "" for side in (preference.prompt, preference.chosen, preference.rejected))  # type: ignore[return-value]
    chosen, rejected = (
        _conversation(preference.prompt, side) for side in (preference.chosen, preference.rejected)
    )
    same = next(
        (n for n, (one, other) in enumerate(zip(chosen, rejected, strict=True)) if one != other), len(chosen)
    )
    return chosen[:same], chosen[same:], rejected[same:]
