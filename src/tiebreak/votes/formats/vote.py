"""One vote as a record gives it, its id, its weight, and the side that a preference's winner is shown on."""

from collections.abc import Mapping
from hashlib import blake2b
from itertools import chain
from typing import Any, NamedTuple

from tiebreak.votes.formats.dialog import RowError, Turns, clean
from tiebreak.votes.formats.labels import Probabilities, number

Record = Mapping[str, Any]
_MOST_WEIGHT = 1e6


class Vote(NamedTuple):
    """One vote, or an unlabelled pair (p is None). An id of None is to be made, a weight of None is 1.

    question_id: of the question, which several votes may share. session: votes with the same one belong together.
    """

    id: str | None
    prompt: Turns
    response_a: Turns
    response_b: Turns
    model_a: str | None
    model_b: str | None
    p: Probabilities | None
    weight: float | None = None
    question_id: str | None = None
    session: str | None = None
    tags: list[str] | None = None

    @property
    def chars(self) -> int:
        """The length of its texts."""
        return sum(map(len, filter(None, chain(self.prompt, self.response_a, self.response_b))))


def require_turns(vote: Vote) -> None:
    """Raise RowError for a vote without a question, or with another number of questions than of answers."""
    questions, a, b = len(vote.prompt), len(vote.response_a), len(vote.response_b)
    if vote.prompt.count(None) == questions:
        raise RowError("the prompt is empty")
    if not questions == a == b:
        raise RowError("turn counts differ", f"prompt {questions}, response_a {a}, response_b {b}")


def id_in(record: Record, column: str) -> str | None:
    """The id in a column as text, None if there is none. Raises RowError for a number that may have been rounded."""
    value = record.get(column)
    if value in (None, ""):
        return None
    return clean(str(_whole(value) if isinstance(value, float) else value))


def _whole(value: float) -> int:
    """An id that was read as a number. Raises RowError for one that a float cannot hold exactly."""
    if not value.is_integer() or abs(value) >= 2**53:
        raise RowError(
            "id is not a whole number below 2^53 and may have been rounded; make it text", f"{value!r}"
        )
    return int(value)


def weight_in(record: Record) -> float | None:
    """The weight of a record, None if it has none. Raises RowError for one that is none."""
    if record.get("weight") in (None, ""):
        return None
    weight = number(record["weight"], "weight")
    if not 0 <= weight <= _MOST_WEIGHT:
        raise RowError(f"weight is not between 0 and {_MOST_WEIGHT:g}", f"{weight:g}")
    return weight


def name_of(value: Any) -> str | None:
    """A model's name, None for what is none."""
    return clean(value) if isinstance(value, str) and value else None


def digest(text: str) -> str:
    """A short hash, the same everywhere."""
    return blake2b(text.encode("utf-8", "replace"), digest_size=10).hexdigest()


def content_id(vote: Vote) -> str:
    """An id made of the texts, so that it does not depend on the position of the row."""
    return digest(repr((vote.prompt, vote.response_a, vote.response_b)))


def unordered_id(prompt: Turns, response_a: Turns, response_b: Turns) -> str:
    """A hash of a pair's texts, the same whichever answer is called A."""
    return digest(repr((prompt, sorted(map(repr, (response_a, response_b))))))


def random_side(vote: Vote) -> Vote:
    """A preference with its winner on a side drawn by a hash of the texts, so that A does not always win."""
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
