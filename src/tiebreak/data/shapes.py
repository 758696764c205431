"""What the columns of a file mean: records of each known shape become votes.

pair             prompt, response_a, response_b (Kaggle, and what this project writes)
arena            conversation_a, conversation_b (LM Arena exports)
chosen           chosen, rejected: texts, messages or Human/Assistant transcripts, with or without prompt
UltraFeedback    instruction, completions with scores (Cui et al. 2023, arXiv:2310.01377): all pairs
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations
from typing import Any, NamedTuple

from tiebreak.data.dialog import RowError, Turns, clean, decode, dialog, is_messages, transcript, turns

Record = Mapping[str, Any]
Probabilities = tuple[float, float, float]

SUM_TOLERANCE = 0.01
"""How far three probabilities may be from summing to one; within it they are scaled."""


class Vote(NamedTuple):
    """One vote, or an unlabelled pair (p is None). An id of None is to be made."""

    id: str | None
    prompt: Turns
    response_a: Turns
    response_b: Turns
    model_a: str | None
    model_b: str | None
    p: Probabilities | None


@dataclass(frozen=True)
class Reading:
    """How to read the records of one file.

    labelled: labels are required; otherwise they are ignored.
    encoded: strings in prompt and answers hold JSON lists of turns.
    pairs_per_prompt: of several scored answers, how many pairs to take; None for all.
    """

    labelled: bool = True
    encoded: bool = False
    pairs_per_prompt: int | None = None


@dataclass(frozen=True)
class Shape:
    """A known set of columns and what turns a record into votes."""

    name: str
    needs: frozenset[str]
    convert: Callable[[Record, Reading], Iterator[Vote]]

    def votes(self, record: Record, how: Reading) -> list[Vote]:
        """The votes in a record: one, or several for scored completions. Raises RowError."""
        if missing := self.needs - record.keys():
            raise RowError(f"missing columns: {', '.join(sorted(missing))}")
        votes = list(self.convert(record, how))
        for vote in votes:
            _check_turns(vote)
        return votes


def recognise(samples: Iterable[Record], labelled: bool) -> tuple[Shape, Reading] | None:
    """The shape whose columns the first records have, and how to read it; None if there is none."""
    records = list(samples)
    columns: set[str] = set().union(*records)
    shape = next((shape for shape in SHAPES if shape.needs <= columns), None)
    if shape is None or (labelled and shape is PAIR and not _has_label(columns)):
        return None
    prompts = [record["prompt"] for record in records if isinstance(record.get("prompt"), str)]
    encoded = 2 * sum(map(_is_json_list, prompts)) > len(prompts)
    return shape, Reading(labelled=labelled, encoded=encoded)


def _is_json_list(cell: str) -> bool:
    try:
        return isinstance(decode(cell, ""), list)
    except RowError:
        return False


# --- the shapes


def _pair(record: Record, how: Reading) -> Iterator[Vote]:
    prompt, history = record["prompt"], None
    if is_messages(prompt):
        prompt, history = dialog([*prompt], "prompt")
    prompt = turns(prompt, "prompt", how.encoded)
    yield Vote(
        _id(record),
        prompt,
        _answers(record["response_a"], "response_a", prompt, history, how),
        _answers(record["response_b"], "response_b", prompt, history, how),
        _name(record.get("model_a")),
        _name(record.get("model_b")),
        label(record) if how.labelled else None,
    )


def _answers(cell: Any, what: str, prompt: Turns, history: Turns | None, how: Reading) -> Turns:
    if cell is None or cell == "":
        return [None] * len(prompt) if history is None else [*history[:-1], None]
    if is_messages(cell):
        cell = [message.get("content") for message in cell]
    answers = turns(cell, what, how.encoded)
    return answers if history is None or len(answers) != 1 else [*history[:-1], *answers]


def _arena(record: Record, how: Reading) -> Iterator[Vote]:
    sides = []
    for what in ("conversation_a", "conversation_b"):
        cell = decode(record[what], what) if isinstance(record[what], str) else record[what]
        if not is_messages(cell):
            raise RowError(f"{what} is not a list of messages")
        sides.append(dialog(cell, what))
    yield Vote(
        _id(record),
        _same(sides[0][0], sides[1][0]),
        sides[0][1],
        sides[1][1],
        _name(record.get("model_a")),
        _name(record.get("model_b")),
        label(record) if how.labelled else None,
    )


def _chosen(record: Record, how: Reading) -> Iterator[Vote]:
    prompt = record.get("prompt")
    chosen_questions, chosen = _preference(record["chosen"], "chosen", prompt)
    rejected_questions, rejected = _preference(record["rejected"], "rejected", prompt)
    vote = Vote(
        _id(record),
        _same(chosen_questions, rejected_questions),
        chosen,
        rejected,
        _name(record.get("chosen_model", record.get("chosen-model"))),
        _name(record.get("rejected_model", record.get("rejected-model"))),
        _chosen_label(record),
    )
    yield _shuffled(vote if how.labelled else vote._replace(p=None))


def _preference(cell: Any, what: str, prompt: Any) -> tuple[Turns, Turns]:
    """Questions and answers of one side; the prompt comes first where the side does not hold it."""
    if isinstance(cell, str) and cell.lstrip().startswith("[{"):
        cell = decode(cell, what)
    if isinstance(cell, str):
        text = cell if transcript(cell) or not isinstance(prompt, str) else prompt + cell
        if messages := transcript(text):
            return dialog(messages, what)
        if isinstance(prompt, str):
            return [clean(prompt)], [clean(cell)]
        cell = [{"role": "assistant", "content": cell}]
    if not is_messages(cell):
        raise RowError(f"{what} is neither text nor messages")
    if cell[0].get("role", cell[0].get("from")) in ("assistant", "gpt"):
        before = prompt if is_messages(prompt) else [{"role": "user", "content": prompt}]
        cell = [*before, *cell]
    return dialog(cell, what)


def _chosen_label(record: Record) -> Probabilities:
    if record.get("score_chosen") is None or record.get("score_rejected") is None:
        return 1.0, 0.0, 0.0
    chosen, rejected = _number(record, "score_chosen"), _number(record, "score_rejected")
    if chosen < rejected:
        raise RowError(f"labels contradict: the chosen answer scores {chosen}, the rejected one {rejected}")
    return (0.0, 0.0, 1.0) if chosen == rejected else (1.0, 0.0, 0.0)


def _ultrafeedback(record: Record, how: Reading) -> Iterator[Vote]:
    completions = record["completions"]
    if isinstance(completions, str):
        completions = decode(completions, "completions")
    if not is_messages(completions) or len(completions) < 2:
        raise RowError("fewer than two completions")
    prompt = turns([record["instruction"]], "instruction", False)
    answers = [turns([completion.get("response")], "response", False) for completion in completions]
    scores = [_score(completion) for completion in completions]
    pairs = list(combinations(range(len(completions)), 2))
    if how.pairs_per_prompt is not None:
        pairs = sorted(pairs, key=lambda pair: _digest(repr((prompt, pair))))[: how.pairs_per_prompt]
    for first, second in pairs:
        gap = scores[first] - scores[second]
        vote = Vote(
            None,
            prompt,
            answers[first],
            answers[second],
            _name(completions[first].get("model")),
            _name(completions[second].get("model")),
            (float(gap > 0), float(gap < 0), float(gap == 0)),
        )
        yield _shuffled(vote if how.labelled else vote._replace(p=None))


def _score(completion: Record) -> float:
    """The mean over aspects where it is there: overall_score is known to confuse 1 with 10 in places."""
    for column in ("fine-grained_score", "fine_grained_score", "overall_score", "score"):
        if completion.get(column) is not None:
            return _number(completion, column)
    raise RowError("a completion has no score")


PAIR = Shape("pair", frozenset({"prompt", "response_a", "response_b"}), _pair)
SHAPES = (
    PAIR,
    Shape("arena", frozenset({"conversation_a", "conversation_b"}), _arena),
    Shape("chosen", frozenset({"chosen", "rejected"}), _chosen),
    Shape("UltraFeedback", frozenset({"instruction", "completions"}), _ultrafeedback),
)

# --- labels

_HARD: dict[str, Probabilities] = {
    **dict.fromkeys(("model_a", "a"), (1.0, 0.0, 0.0)),
    **dict.fromkeys(("model_b", "b"), (0.0, 1.0, 0.0)),
    **dict.fromkeys(("tie", "both_bad", "bothbad", "tie (bothbad)", "tie (both bad)"), (0.0, 0.0, 1.0)),
}
_SOFT = (("winner_model_a", "winner_model_b", "winner_tie"), ("p_a", "p_b", "p_tie"))


def _has_label(columns: set[str]) -> bool:
    return "winner" in columns or any(columns.issuperset(names) for names in _SOFT)


def label(record: Record) -> Probabilities:
    """The three probabilities of a vote, from `winner`, winner_model_a/b/tie or p_a/p_b/p_tie.

    Raises RowError if there is none, it is no distribution, or two of them contradict.
    """
    found = [
        _distribution(record, names) for names in _SOFT if all(record.get(n) not in (None, "") for n in names)
    ]
    if (winner := record.get("winner")) not in (None, ""):
        if not isinstance(winner, str) or winner.strip().lower() not in _HARD:
            raise RowError(f"unknown winner: {winner!r:.40}; valid: model_a, model_b, tie, both_bad")
        found.append(_HARD[winner.strip().lower()])
    if not found:
        raise RowError("no label")
    if any(math.dist(found[0], other) > SUM_TOLERANCE for other in found[1:]):
        raise RowError(f"labels contradict: {found}")
    return found[0]


def _distribution(record: Record, names: tuple[str, str, str]) -> Probabilities:
    a, b, tie = (_number(record, name) for name in names)
    total = a + b + tie
    if min(a, b, tie) < 0 or abs(total - 1) > SUM_TOLERANCE:
        raise RowError(f"label is no distribution: {a:g}, {b:g}, {tie:g} sum to {total:g}, not to 1")
    return a / total, b / total, tie / total


def _number(record: Record, column: str) -> float:
    try:
        number = float(record[column])
    except (TypeError, ValueError, OverflowError):
        raise RowError(f"{column} is not a number: {record[column]!r:.40}") from None
    if not math.isfinite(number):
        raise RowError(f"{column} is not a number: {number}")
    return number


# --- small parts


def _check_turns(vote: Vote) -> None:
    counts = len(vote.prompt), len(vote.response_a), len(vote.response_b)
    if not vote.prompt or all(turn is None for turn in vote.prompt):
        raise RowError("the prompt is empty")
    if len(set(counts)) > 1:
        raise RowError("turn counts differ: prompt {}, response_a {}, response_b {}".format(*counts))


def _same(questions_a: Turns, questions_b: Turns) -> Turns:
    if questions_a != questions_b:
        raise RowError("the two conversations ask different questions")
    return questions_a


def _id(record: Record) -> str | None:
    for column in ("id", "question_id"):
        if (value := record.get(column)) not in (None, ""):
            return clean(str(value))
    return None


def _name(value: Any) -> str | None:
    return clean(value) if isinstance(value, str) and value else None


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "replace"), digest_size=10).hexdigest()


def content_id(vote: Vote) -> str:
    """An id made of the texts, so that it does not depend on the row's place."""
    return _digest(repr((vote.prompt, vote.response_a, vote.response_b)))


def _shuffled(vote: Vote) -> Vote:
    """A preference whose winner is on a side drawn by a hash of the texts: no file says `A` always wins."""
    if int(content_id(vote), 16) % 2 == 0:
        return vote
    p = vote.p and (vote.p[1], vote.p[0], vote.p[2])
    return vote._replace(
        response_a=vote.response_b,
        response_b=vote.response_a,
        model_a=vote.model_b,
        model_b=vote.model_a,
        p=p,
    )
