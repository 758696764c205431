"""Columns of published datasets whose meaning their names do not tell.

LM Arena     full_conversation, the earlier turns before those that were voted on; evaluation_session_id; language, is_code,
             category_tag, occupational_tags (arena-human-preference-140k, arena-expert-5k)
MT-bench     turn: the vote is on the conversation up to there (mt_bench_human_judgments)
tiebreak     session and tags beside p_a, p_b and p_tie: votes in its own schema, written to a file
ms-swift     messages with the preferred answer last, and rejected_response, in its place, or rejected_messages
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tiebreak.limits import RAISE, raised
from tiebreak.votes.formats.dialog import RowError, Turns, clean, decode, dialog, is_messages, is_question
from tiebreak.votes.formats.labels import number
from tiebreak.votes.formats.prompts import MOST_JOINED, whole_conversation

Record = Mapping[str, Any]
_OWN = frozenset(("session", "tags", "p_a", "p_b", "p_tie"))
Side = tuple[Turns, Turns]
"""The questions and answers of one side."""

_NAMED_TAGS = ("language", "domain")
_TRUE_TAGS = {"category_tag": "category", "occupational_tags": "occupation"}
TAGS = {*_NAMED_TAGS, *_TRUE_TAGS, "is_code"}


def arena_sides(record: Record) -> tuple[Side, Side]:
    """Both sides of a vote on conversations, each with its earlier turns, up to the turn that was voted on. Raises RowError."""
    a, b = (_conversation(record, f"conversation_{side}") for side in "ab")
    a, b = _with_earlier_turns(record.get("full_conversation"), a, b)
    if "judge" in record and record.get("turn") not in (None, ""):
        turn = int(number(record["turn"], "turn"))  # a text in CSV
        if turn > 0:
            a, b = ((questions[:turn], answers[:turn]) for questions, answers in (a, b))
    return a, b


def _conversation(record: Record, what: str) -> Side:
    cell = decode(record[what], what) if isinstance(record[what], str) else record[what]
    if not is_messages(cell):
        raise RowError(f"{what} is not a list of messages")
    return dialog(whole_conversation({"system": record.get("system")}, cell), what)


def _with_earlier_turns(full: Any, a: Side, b: Side) -> tuple[Side, Side]:
    """The sides with the turns of the full conversation that come before them; as they are where it does not hold them."""
    if isinstance(full, str):
        full = decode(full, "full_conversation")
    if not isinstance(full, list) or not all(isinstance(turn, dict) for turn in full):
        return a, b
    if len(full) > raised(MOST_JOINED):
        raise RowError(
            f"full_conversation has more than {raised(MOST_JOINED)} turns", f"{len(full)}; {RAISE}"
        )
    whole = [
        dialog(
            [part for part in (turn.get("user"), turn.get(f"model_side_{side}")) if part], "full_conversation"
        )
        for side in "ab"
        for turn in full
    ]
    whole_a, whole_b = whole[: len(full)], whole[len(full) :]
    before = _position([[*q, *x, *y] for (q, x), (_, y) in zip(whole_a, whole_b, strict=True)], a, b)
    return _joined([*whole_a[:before], a]), _joined([*whole_b[:before], b])


def _position(whole: list[Turns], a: Side, b: Side) -> int:
    """How many turns of a conversation come before the given ones; 0 if it does not hold them."""
    voted = [[question, x, y] for question, x, y in zip(a[0], a[1], b[1], strict=False)]
    places = range(len(whole) - len(voted), -1, -1)
    return next((at for at in places if whole[at : at + len(voted)] == voted), 0)


def _joined(parts: list[Side]) -> Side:
    return [turn for questions, _ in parts for turn in questions], [
        turn for _, answers in parts for turn in answers
    ]


def swift_preference(record: Record) -> Record:
    """A record of ms-swift as one with `chosen` and `rejected`. Raises RowError."""
    messages = record["messages"]
    if isinstance(messages, str):
        messages = decode(messages, "messages")
    if not is_messages(messages):
        raise RowError("messages is not a list of messages")
    asked = max((n for n, message in enumerate(messages, 1) if is_question(message)), default=0)
    if asked == len(messages):
        raise RowError("messages ends without an answer")
    rejected = next(
        (record[name] for name in ("rejected_messages", "rejected_response") if record.get(name)), None
    )
    if rejected is None:
        raise RowError("no rejected_response and no rejected_messages")
    if isinstance(rejected, str):
        rejected = [{"role": "assistant", "content": rejected}]
    if not is_messages(rejected):
        raise RowError("the rejected answer is neither text nor messages")
    whole = rejected if any(map(is_question, rejected)) else [*messages[:asked], *rejected]
    return dict(record) | {"prompt": None, "instruction": None, "chosen": messages, "rejected": whole}


def session_column(record: Record) -> str:
    """The column with the session of a vote. `session` alone may be anything, so it counts in our own schema only."""
    return "session" if _is_own(record) else "evaluation_session_id"


def _is_own(record: Record) -> bool:
    return record.keys() >= _OWN


def tags(record: Record) -> list[str] | None:
    """What a vote is about, by the columns that say so; None if there are none. Raises RowError."""
    if _is_own(record):
        own = record["tags"] or None
        own = decode(own, "tags") if isinstance(own, str) else own
        if own is not None and not (isinstance(own, list) and all(isinstance(tag, str) for tag in own)):
            raise RowError("tags is no list of texts", f"{own!r:.40}")
        return own and list(map(clean, own))
    if TAGS.isdisjoint(record):
        return None
    found = [
        f"{name}: {value}" for name in _NAMED_TAGS if isinstance(value := record.get(name), str) and value
    ]
    if isinstance(is_code := record.get("is_code"), bool):
        found.append("code" if is_code else "no code")
    for column, name in _TRUE_TAGS.items():
        found += (f"{name}: {tag.replace('_', ' ')}" for tag in _true_keys(record.get(column)))
    return list(map(clean, dict.fromkeys(found))) or None


def _true_keys(tree: Any) -> Iterator[str]:
    """The keys whose value is true, in a dict and in the dicts in it."""
    branches = [tree, *tree.values()] if isinstance(tree, dict) else []
    for branch in branches:
        yield from (
            (str(key) for key, value in branch.items() if value is True) if isinstance(branch, dict) else ()
        )
