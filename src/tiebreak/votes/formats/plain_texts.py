"""The short way to the vote in a record whose prompt and answers are plain texts, as most are.

It finds what `RecordFormat.votes` finds, without looking for turns, messages, earlier ones and labels; or nothing, where a
record might hold any of these.
"""

from collections.abc import Callable, Mapping
from typing import Any

from tiebreak.votes.formats.dialog import clean
from tiebreak.votes.formats.mapping import top
from tiebreak.votes.formats.prompts import PARTS
from tiebreak.votes.formats.record_formats import ABOUT, PAIR, ReadOptions, RecordFormat
from tiebreak.votes.formats.vote import Vote, id_in, name_of

_OTHERS = frozenset(("prompt", "instruction", *PARTS, *ABOUT))
"""The fields that change what a vote of texts is, beside those texts."""
_IDS = (str, int, type(None))


def plain_reader(
    record_format: RecordFormat, options: ReadOptions
) -> Callable[[Mapping[str, Any]], Vote | None]:
    """What gives the unlabelled vote of a plain record of a file, None for any other record."""
    fields = options.fields
    names = (*record_format.needs, "id", "model_a", "model_b")
    columns = [fields.columns.get(name, name) for name in names]
    if (
        record_format.convert is not PAIR.convert
        or options.labelled
        or options.encoded
        or not fields.left_out.isdisjoint(names)
        or any("." in column for column in columns)  # a path
    ):
        return lambda _: None
    unread = {record_format.text, *fields.left_out}
    others = frozenset(top(fields.columns.get(name, name)) for name in _OTHERS - unread)

    def vote_of(record: Mapping[str, Any]) -> Vote | None:
        prompt, a, b, own_id, model_a, model_b = map(record.get, columns)
        if not (
            type(prompt) is type(a) is type(b) is str
            and prompt
            and a
            and b
            and type(own_id) in _IDS
            and others.isdisjoint(record)
        ):
            return None
        return Vote(
            None if own_id is None else id_in(record, columns[3]),
            [clean(prompt)],
            [clean(a)],
            [clean(b)],
            name_of(model_a),
            name_of(model_b),
            None,
        )

    return vote_of
