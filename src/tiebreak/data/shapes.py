"""What the columns of a file mean: records of each known shape become votes.

pair             prompt, response_a, response_b (Kaggle, and what this project writes)
arena            conversation_a, conversation_b (LM Arena exports)
chosen           chosen, rejected: texts, messages or Human/Assistant transcripts, with or without prompt
UltraFeedback    instruction, completions with scores (Cui et al. 2023, arXiv:2310.01377): all pairs
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations
from typing import Any, NamedTuple

from tiebreak.data.dialog import (
    RowError,
    Turns,
    clean,
    decode,
    dialog,
    is_messages,
    is_question,
    transcript,
    turns,
)
from tiebreak.data.labels import Probabilities, is_labelled, label, number, of_scores

Record = Mapping[str, Any]


class Vote(NamedTuple):
    """One vote, or an unlabelled pair (p is None). An id of None is to be made, a weight of None is 1."""

    id: str | None
    prompt: Turns
    response_a: Turns
    response_b: Turns
    model_a: str | None
    model_b: str | None
    p: Probabilities | None
    weight: float | None = None


@dataclass(frozen=True)
class Reading:
    """How to read the records of one file.

    labelled: labels are required; otherwise they are ignored.
    encoded: strings hold JSON, lists of turns or messages; otherwise they are text.
    pairs_per_prompt: of several scored answers, how many pairs to take; None for all.
    """

    labelled: bool = True
    encoded: bool = False
    pairs_per_prompt: int | None = None


@dataclass(frozen=True)
class Shape:
    """Columns that a record needs, and what turns it into votes.

    text: the column that tells by its first values whether strings hold JSON.
    """

    needs: tuple[str, ...]
    text: str
    convert: Callable[[Record, Reading], Iterator[Vote]]

    def votes(self, record: Record, how: Reading) -> list[Vote]:
        """The votes in a record: one, or several for scored completions. Raises RowError."""
        if missing := set(self.needs) - record.keys():
            raise RowError(f"missing columns: {', '.join(sorted(missing))}")
        weight = _weight(record)
        votes = [vote._replace(weight=weight) for vote in self.convert(record, how)]
        for vote in votes:
            _check_turns(vote)
        return votes


def recognise(samples: Iterable[Record], labelled: bool) -> tuple[Shape, Reading] | None:
    """The shape whose columns the first records have, and how to read it; None if there is none."""
    records = list(samples)
    columns: set[str] = set().union(*records)
    shape = next((shape for shape in SHAPES if columns.issuperset(shape.needs)), None)
    if shape is None or (labelled and shape in (PAIR, ARENA) and not is_labelled(columns)):
        return None
    texts = [record[shape.text] for record in records if isinstance(record.get(shape.text), str)]
    encoded = 2 * sum(map(_is_json_list, texts)) > len(texts)
    return shape, Reading(labelled=labelled, encoded=encoded)


def _is_json_list(cell: str) -> bool:
    try:
        return isinstance(decode(cell, ""), list)
    except RowError:
        return False


# --- the shapes


def _pair(record: Record, how: Reading) -> Iterator[Vote]:
    yield _vote(
        record,
        _side(record["prompt"], record["response_a"], "response_a", how),
        _side(record["prompt"], record["response_b"], "response_b", how),
        how,
    )


def _vote(record: Record, side_a: tuple[Turns, Turns], side_b: tuple[Turns, Turns], how: Reading) -> Vote:
    return Vote(
        _id(record),
        _same(side_a[0], side_b[0]),
        side_a[1],
        side_b[1],
        _name(record.get("model_a")),
        _name(record.get("model_b")),
        label(record) if how.labelled else None,
    )


def _side(prompt: Any, answer: Any, what: str, how: Reading) -> tuple[Turns, Turns]:
    """Questions and answers, where each may be text, a list of turns, or messages."""
    if is_messages(prompt):
        given = [] if answer is None else answer if is_messages(answer) else [_said(answer)]
        return dialog([*prompt, *given], what)
    questions = turns(prompt, "prompt", how.encoded)
    if answer is None or answer == "":
        return questions, [None] * len(questions)
    if is_messages(answer):
        answer = [message.get("content") for message in answer if not is_question(message)]
    return questions, turns(answer, what, how.encoded)


def _said(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def _arena(record: Record, how: Reading) -> Iterator[Vote]:
    sides = []
    for what in ("conversation_a", "conversation_b"):
        cell = decode(record[what], what) if isinstance(record[what], str) else record[what]
        if not is_messages(cell):
            raise RowError(f"{what} is not a list of messages")
        sides.append(dialog(cell, what))
    yield _vote(record, sides[0], sides[1], how)


def _chosen(record: Record, how: Reading) -> Iterator[Vote]:
    prompt = record.get("prompt", record.get("instruction"))
    questions, chosen = _preferred(record["chosen"], "chosen", prompt, how)
    others, rejected = _preferred(record["rejected"], "rejected", prompt, how)
    yield _shuffled(
        Vote(
            _id(record),
            _same(questions, others),
            chosen,
            rejected,
            _name(_first(record, "chosen_model", "chosen-model")),
            _name(_first(record, "rejected_model", "rejected-model")),
            _chosen_label(record) if how.labelled else None,
        )
    )


def _preferred(cell: Any, what: str, prompt: Any, how: Reading) -> tuple[Turns, Turns]:
    """Questions and answers of one side; the prompt comes first where the side does not hold it."""
    if isinstance(cell, str) and how.encoded:
        cell = decode(cell, what)
    if isinstance(cell, str):
        whole = prompt + cell if isinstance(prompt, str) else cell
        cell = transcript(cell) or transcript(whole) or [_said(cell)]
    if not is_messages(cell):
        raise RowError(f"{what} is neither text nor messages")
    if is_question(cell[0]):
        return dialog(cell, what)
    if prompt is None:
        raise RowError(f"{what} holds no question and there is no prompt")
    before = prompt if is_messages(prompt) else [{"role": "user", "content": prompt}]
    return dialog([*before, *cell], what)


def _chosen_label(record: Record) -> Probabilities:
    first = _first(record, "score_chosen", "chosen-rating", "chosen_score")
    second = _first(record, "score_rejected", "rejected-rating", "rejected_score")
    if first is None or second is None:
        return 1.0, 0.0, 0.0
    chosen, rejected = number(first, "score"), number(second, "score")
    if chosen < rejected:
        raise RowError(f"labels contradict: chosen scores {chosen:g}, rejected {rejected:g}")
    return of_scores(chosen, rejected)


def _ultrafeedback(record: Record, how: Reading) -> Iterator[Vote]:
    completions = record["completions"]
    if isinstance(completions, str):
        completions = decode(completions, "completions")
    if not isinstance(completions, list) or not all(isinstance(item, dict) for item in completions):
        raise RowError("completions is not a list of answers with scores")
    if len(completions) < 2:
        raise RowError("fewer than two completions")
    prompt = turns([record["instruction"]], "instruction", False)
    answers = [turns([completion.get("response")], "response", False) for completion in completions]
    scores = [_score(completion) for completion in completions] if how.labelled else []
    pairs = list(combinations(range(len(completions)), 2))
    if how.pairs_per_prompt is not None:
        pairs = sorted(pairs, key=lambda pair: _digest(repr((prompt, pair))))[: how.pairs_per_prompt]
    for first, second in pairs:
        yield _shuffled(
            Vote(
                None,
                prompt,
                answers[first],
                answers[second],
                _name(completions[first].get("model")),
                _name(completions[second].get("model")),
                of_scores(scores[first], scores[second]) if how.labelled else None,
            )
        )


def _score(completion: Record) -> float:
    """The mean over aspects where it is there: overall_score is known to confuse 1 with 10 in places."""
    columns = ("fine-grained_score", "fine_grained_score", "overall_score", "score")
    score = _first(completion, *columns)
    if score is None:
        raise RowError("a completion has no score")
    return number(score, "score")


PAIR = Shape(("prompt", "response_a", "response_b"), "prompt", _pair)
ARENA = Shape(("conversation_a", "conversation_b"), "conversation_a", _arena)
SHAPES = (
    PAIR,
    ARENA,
    Shape(("chosen", "rejected"), "chosen", _chosen),
    Shape(("instruction", "completions"), "completions", _ultrafeedback),
)

_OTHERS = """id question_id model_a model_b winner winner_model_a winner_model_b winner_tie p_a p_b p_tie weight
    chosen_model chosen-model rejected_model rejected-model score_chosen chosen-rating chosen_score
    score_rejected rejected-rating rejected_score"""
COLUMNS = frozenset(_OTHERS.split()).union(*(shape.needs for shape in SHAPES))
"""Every column that any shape reads."""

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


def _weight(record: Record) -> float | None:
    if record.get("weight") in (None, ""):
        return None
    weight = number(record["weight"], "weight")
    if weight < 0:
        raise RowError(f"weight is negative: {weight:g}")
    return weight


def _first(record: Record, *columns: str) -> Any:
    """The first of some columns that is given."""
    return next((record[column] for column in columns if record.get(column) is not None), None)


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
