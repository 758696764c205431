"""Parsing of conversations into turns: JSON lists, chat messages, Human/Assistant transcripts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tiebreak import json_files

Turns = list[str | None]

_LONGEST = 300
"""Characters of a detail of an error."""

_USER = frozenset({"user", "human", "prompter"})
_ASSISTANT = frozenset({"assistant", "gpt", "bot", "model", "chatbot"})
_UNPRINTABLE = re.compile("[\0\ud800-\udfff]")
_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):[ \t]?")


@dataclass(unsafe_hash=True)
class RowError(ValueError):
    """The reason why a record is no vote: the kind of problem, and what it is here, cut where it is long.

    raw: the beginning of its text, of a record that cannot be read.
    """

    kind: str
    detail: str = ""
    raw: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if len(self.detail) > _LONGEST:
            self.detail = f"{self.detail[:_LONGEST]} [...]"

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


def clean(text: str) -> str:
    """The text with lone surrogates and NUL bytes, which no tokenizer or file takes, replaced by U+FFFD."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNPRINTABLE.sub("\ufffd", text)


def turns(cell: Any, what: str, encoded: bool) -> Turns:
    """The turns of one side. `encoded`: strings hold JSON lists; otherwise a string is one turn.

    Raises RowError naming `what`.
    """
    if isinstance(cell, str):
        if not encoded:
            return [clean(cell)]
        cell = decode(cell, what)
    if not isinstance(cell, list):
        raise RowError(f"{what} is neither text nor a list", _kind(cell))
    for turn in cell:
        if turn is not None and not isinstance(turn, str):
            raise RowError(f"{what} holds something other than text", _kind(turn))
    return [turn if turn is None else clean(turn) for turn in cell]


def decode(cell: str, what: str) -> Any:
    """The value of a JSON cell. Raises RowError."""
    try:
        return json_files.loads(cell)
    except ValueError as error:
        raise RowError(f"{what} is not JSON", str(error)) from None


def is_messages(cell: Any) -> bool:
    """True if the cell is a list of chat messages: dicts with the key role, or in some data sets from."""
    return isinstance(cell, list) and bool(cell) and all(map(_role, cell))


def is_question(message: dict[str, Any]) -> bool:
    """True if a message is the user's."""
    return _role(message) not in _ASSISTANT


def dialog(messages: Sequence[Any], what: str) -> tuple[Turns, Turns]:
    """Questions and answers of chat messages, as many of the one as of the other.

    Messages are dicts with role and content (or from and value). A system message goes in front of the first
    question; a last question without an answer gets a null. Raises RowError.
    """
    questions: list[list[str]] = []
    answers: list[list[str]] = []
    system: list[str] = []
    for message in messages:
        role, text = _message(message, what)
        if role == "system":
            system.append(f"{text}\n\n")
        elif role in _USER and len(questions) == len(answers):
            questions.append(["".join(system) + text])
            system.clear()
        elif role in _USER:
            questions[-1].append(text)
        elif role not in _ASSISTANT:
            raise RowError(f"{what} has a message of an unknown role", str(role))
        elif len(questions) > len(answers):
            answers.append([text])
        elif not answers:
            raise RowError(f"{what} starts with an answer")
        else:
            answers[-1].append(text)
    if not questions:
        raise RowError(f"{what} holds no question")
    unanswered: Turns = [None] * (len(questions) - len(answers))
    return list(map("\n".join, questions)), [*map("\n".join, answers), *unanswered]


def transcript(text: str) -> list[dict[str, str]]:
    """Chat messages of a text of the form Human: ... Assistant: ..., empty if it does not start so."""
    if not (start := _SPEAKER.match(text)) or start[1] != "Human":
        return []
    _, *pieces = _SPEAKER.split(text)
    return [
        {"role": "user" if speaker == "Human" else "assistant", "content": text.strip()}
        for speaker, text in zip(pieces[::2], pieces[1::2], strict=True)
    ]


def _role(message: Any) -> str | None:
    role = message.get("role", message.get("from")) if isinstance(message, dict) else None
    return role.lower() if isinstance(role, str) else None


def _message(message: Any, what: str) -> tuple[str, str]:
    role = _role(message)
    if role is None:
        raise RowError(f"{what} holds something other than messages", _kind(message))
    content = message.get("content", message.get("value"))
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):  # multi-modal parts
        content = "\n".join(
            str(part["text"]) for part in content if isinstance(part, dict) and part.get("text")
        )
    if content is not None and not isinstance(content, str):
        raise RowError(f"{what} has a message that is no text", _kind(content))
    return role, clean(content or "")


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
