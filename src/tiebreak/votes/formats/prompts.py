"""The prompt of a record, with what other columns hold of it.

Beside `prompt`, `instruction` or a question, `input` is the rest of it (Alpaca). Before it come `system`, `context` and
`history`. A context is text, or earlier turns as messages; a history is messages, or pairs of question and answer.
"""

from collections.abc import Mapping
from typing import Any

from tiebreak.votes.formats.dialog import RowError, decode, is_messages, is_question, turns

Record = Mapping[str, Any]
Messages = list[dict[str, Any]]

PARTS = ("input", "system", "context", "history")
"""The columns with parts of a prompt."""


def prompt_of(record: Record, encoded: bool) -> Any:
    """The prompt as it stands, text or turns or messages, with the record's PARTS. Raises RowError for what is none.

    encoded: strings hold JSON, lists of turns; otherwise they are text.
    """
    prompt = _with_input(record, encoded)
    before = earlier(record, prompt)
    if prompt is None or not before:
        return prompt
    if is_messages(prompt):
        return [*before, *prompt]
    first, *later = turns(prompt, "prompt", encoded) or [None]
    if not later:
        return [*before, {"role": "user", "content": first}]
    if any(message.get("role") != "system" for message in before):
        raise RowError("earlier turns, in history or context, beside a prompt of several turns")
    return ["\n\n".join(filter(None, (*(message["content"] for message in before), first))), *later]


def whole_conversation(record: Record, messages: Messages) -> Messages:
    """A conversation that begins with a question, behind what the record has of earlier turns beside it."""
    has_system = messages[0].get("role") == "system"
    before = earlier({**record, "system": None} if has_system else record, None)
    return messages if messages[: len(before)] == before else [*before, *messages]


def earlier(record: Record, prompt: Any) -> Messages:
    """The messages before a prompt, without those that it holds itself. Raises RowError."""
    system = _text(record, "system")
    return [*_system(system), *_context(record, prompt), *_history(record)]


def _with_input(record: Record, encoded: bool) -> Any:
    prompt = record.get("prompt")
    if prompt is None:
        prompt = record.get("instruction")
    more = record.get("input")
    if prompt is None or more in (None, "", prompt):
        return prompt
    if not isinstance(prompt, str) or encoded:
        raise RowError("input beside a prompt of turns or messages")
    more = _text(record, "input")
    return prompt if more in prompt and "prompt" in record else f"{prompt}\n{more}"


def _system(text: str) -> Messages:
    return [{"role": "system", "content": text}] if text else []


def _text(record: Record, column: str) -> str:
    """A column's text, empty if it has none. Raises RowError if it is something else."""
    if not isinstance(value := record.get(column) or "", str):
        raise RowError(f"{column} is no text", f"{value!r:.40}")
    return value


def _context(record: Record, prompt: Any) -> Messages:
    """The context as messages: text is like a system message, before the first question."""
    context = record.get("context") or []
    if isinstance(context, str):
        context = _decoded(context)
    if isinstance(context, str):
        return [] if isinstance(prompt, str) and context in prompt else _system(context)
    if context != [] and not is_messages(context):
        raise RowError("context is neither text nor messages (to leave it out: --map 'prompt=COLUMN')")
    asked_last = context and is_question(context[-1]) and context[-1].get("content") == prompt
    return list(context[:-1] if asked_last else context)


def _decoded(text: str) -> Any:
    """A text that is messages in JSON, as messages."""
    if not text.lstrip().startswith("["):
        return text
    try:
        found = decode(text, "context")
    except RowError:
        return text
    return found if is_messages(found) else text


def _history(record: Record) -> Messages:
    """Earlier turns as messages. Raises RowError unless they are messages or pairs of question and answer."""
    history = record.get("history") or []
    if isinstance(history, str):
        history = decode(history, "history") or []
    if is_messages(history) or history == []:
        return list(history)
    if not isinstance(history, list) or not all(isinstance(p, list) and len(p) == 2 for p in history):
        raise RowError("history holds neither messages nor pairs of question and answer")
    return [
        {"role": role, "content": text}
        for pair in history
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
