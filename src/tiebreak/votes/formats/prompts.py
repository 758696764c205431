"""The prompt of a record, with what other columns hold of it.

Beside `prompt`, `instruction` or a question, `input` is the rest of it (Alpaca). Before it come `system`, `context` and
`history`. A context is text, or earlier turns as messages; a history is messages, or pairs of question and answer.
"""

from collections.abc import Mapping
from typing import Any

from tiebreak.limits import RAISE, raised
from tiebreak.votes.formats.dialog import RowError, decode, is_messages, is_question, turns

Record = Mapping[str, Any]
Messages = list[dict[str, Any]]

PARTS = ("input", "system", "context", "history")
"""The columns with parts of a prompt."""
_BEFORE = frozenset(PARTS) - {"input"}
MOST_JOINED = 1000
"""Messages that are compared with others, each with each."""
_TO_LEAVE_OUT = "(to leave it out: --map 'prompt=COLUMN')"


def prompt_of(record: Record, encoded: bool) -> Any:
    """The prompt as it stands, text or turns or messages, with the record's PARTS. Raises RowError for what is none.

    encoded: strings hold JSON, lists of turns; otherwise they are text.
    """
    prompt = _with_input(record, encoded)
    before = earlier(record, prompt)
    if prompt is None or not before:
        return prompt
    if is_messages(prompt):
        return joined(before, prompt)
    first, *later = turns(prompt, "prompt", encoded) or [None]
    if not later:
        return [*before, {"role": "user", "content": first}]
    texts = [message.get("content") if message.get("role") == "system" else None for message in before]
    if not all(isinstance(text, str) for text in texts):
        raise RowError("earlier turns, in history or context, beside a prompt of several turns")
    return ["\n\n".join(filter(None, (*texts, first))), *later]


def whole_conversation(record: Record, messages: Messages) -> Messages:
    """A conversation that begins with a question, behind the earlier messages and the prompt that the record has besides.

    Messages that both hold are taken once. A prompt that is text is taken to be among the questions. Raises RowError.
    """
    if messages[0].get("role") == "system":
        record = {**record, "system": None}
    texts = "\n".join(str(message.get("content")) for message in messages)
    prompt: Any = record.get("prompt")
    whole = joined(prompt, messages) if is_messages(prompt) else messages
    return joined(earlier(record, texts), whole)


def joined(before: Messages, messages: Messages) -> Messages:
    """Messages behind others, without repeating those with which the ones end and the others begin, or that they all hold.

    Raises RowError for more than MOST_JOINED.
    """
    if before and len(before) + len(messages) > raised(MOST_JOINED):
        raise RowError(
            f"more than {raised(MOST_JOINED)} messages, with the earlier ones",
            f"{len(before) + len(messages)}; {RAISE}",
        )
    shared = next((n for n in range(len(before), 0, -1) if before[-n:] == messages[:n]), 0)
    if not shared and all(message in messages for message in before):
        return messages
    return [*before[: len(before) - shared], *messages]


def earlier(record: Record, prompt: Any) -> Messages:
    """The messages before a prompt, without those that it holds itself. Raises RowError."""
    if _BEFORE.isdisjoint(record) or not any(map(record.get, _BEFORE)):
        return []
    return [*_system(record.get("system")), *_context(record, prompt), *_history(record)]


def _with_input(record: Record, encoded: bool) -> Any:
    prompt = record.get("prompt")
    if prompt is None:
        prompt = record.get("instruction")
    more = record.get("input")
    if prompt is None or more in (None, "", prompt):
        return prompt
    if not isinstance(more, str):
        raise RowError(f"input is no text {_TO_LEAVE_OUT}", f"{more!r:.40}")
    if not isinstance(prompt, str) or encoded:
        raise RowError(f"input beside a prompt of turns or messages {_TO_LEAVE_OUT}")
    is_held = record.get("prompt") is not None and more in prompt  # an instruction never holds it
    return prompt if is_held else f"{prompt}\n{more}"


def _system(text: Any) -> Messages:
    if not isinstance(text or "", str):
        raise RowError("system is no text", f"{text!r:.40}")
    return [{"role": "system", "content": text}] if text else []


def _context(record: Record, prompt: Any) -> Messages:
    """The context as messages: text is like a system message, before the first question."""
    context = record.get("context") or []
    if context == prompt:
        return []
    if isinstance(context, str):
        context = _decoded(context)
    if isinstance(context, str):
        return [] if isinstance(prompt, str) and context in prompt else _system(context)
    if context != [] and not is_messages(context):
        raise RowError(f"context is neither text nor messages {_TO_LEAVE_OUT}")
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
    return found if found == [] or is_messages(found) else text


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
