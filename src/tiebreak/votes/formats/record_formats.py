"""Record formats: conversion of records to votes by the columns of a file.

pair             prompt or instruction, response_a, response_b (Kaggle, and what this project writes)
arena            conversation_a, conversation_b (LM Arena exports, MT-bench)
chosen           chosen, rejected: texts, messages or Human/Assistant transcripts, with or without prompt
swift            messages with rejected_response or rejected_messages (ms-swift)
UltraFeedback    instruction, completions with scores (Cui et al. 2023, arXiv:2310.01377): all pairs

Columns of other names are found by mapping.py and known_names.py; what belongs to the prompt is put together by prompts.py.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from typing import Any

from tiebreak.limits import RAISE, raised
from tiebreak.votes.formats import known_names
from tiebreak.votes.formats.dialog import (
    RowError,
    Turns,
    decode,
    dialog,
    is_messages,
    is_question,
    transcript,
    turns,
)
from tiebreak.votes.formats.labels import (
    TIE,
    A,
    B,
    Probabilities,
    is_labelled,
    label,
    label_of_scores,
    number,
    tie_or_not,
)
from tiebreak.votes.formats.mapping import NO_MAP, ColumnMap, ColumnNames, Fields, fields_of, value_at
from tiebreak.votes.formats.named_datasets import TAGS, arena_sides, session_column, swift_preference, tags
from tiebreak.votes.formats.prompts import PARTS, joined, prompt_of, whole_conversation
from tiebreak.votes.formats.vote import Vote, digest, id_in, name_of, random_side, require_turns, weight_in

Record = Mapping[str, Any]
MOST_RESPONSES = 64
"""Responses to one prompt: n are n (n - 1) / 2 pairs."""


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading the records of one file.

    labelled: labels are required; otherwise they are ignored.
    encoded: strings hold JSON, lists of turns or messages; otherwise they are text.
    pairs_per_prompt: of several scored answers, how many pairs to take; None for all.
    random_sides: a preference has its winner on a random side; otherwise `chosen` is answer A.
    fields: the columns of the file.
    """

    labelled: bool = True
    encoded: bool = False
    pairs_per_prompt: int | None = None
    random_sides: bool = True
    fields: Fields = field(default_factory=lambda: fields_of((), NO_MAP))


@dataclass(frozen=True)
class RecordFormat:
    """A record format: the columns that it needs, and the function that converts a record to votes.

    text: the column whose first values show if strings hold JSON. reads: the columns that it takes besides, if they are there.
    has_labels: columns of its own hold the labels. is_preference: its answers are a chosen and a rejected one.
    """

    needs: tuple[str, ...]
    text: str
    convert: Callable[[Record, ReadOptions], Iterable[Vote]]
    reads: tuple[str, ...] = ()
    has_labels: bool = False
    is_preference: bool = False

    def not_read(self, columns: Collection[str], options: ReadOptions) -> list[str]:
        """Those of a file's columns that no vote is made of, sorted."""
        fields = options.fields
        names = {"id", *self.needs, *self.reads, *ABOUT} - (set() if options.labelled else {*_LABELS})
        names -= {"instruction"} if "prompt" in fields.has() - fields.left_out else set()
        read = {fields.columns.get(name, name) for name in names - fields.left_out}
        read |= {*fields.names.annotators} if options.labelled and self.has_labels else set()
        return sorted({*columns} - read - {column.partition(".")[0] for column in read})

    def votes(self, record: Record, options: ReadOptions) -> list[Vote]:
        """The votes in a record: one, or several for scored completions. Raises RowError."""
        record = options.fields.apply(record, options.labelled and self.has_labels)
        if missing := [name for name in self.needs if name not in record]:
            raise RowError("missing columns", ", ".join(sorted(missing)))
        about = {} if ABOUT.isdisjoint(record) else _about(record)
        votes = list(self.convert(record, options))
        if about:
            votes = [vote._replace(**about) for vote in votes]
        for vote in votes:
            require_turns(vote)
        return votes


def detect_format(
    samples: Iterable[Record], labelled: bool, mapping: ColumnMap = NO_MAP
) -> tuple[RecordFormat, ReadOptions] | None:
    """The format whose columns the first records have, and its options; None if there is none.

    Columns of a field's own name, and mapped ones, tell before those of other names.
    """
    records = list(samples)
    fields = fields_of(set().union(*records), mapping)
    has_label = not labelled or is_labelled(fields.has())
    record_format = next(
        (
            record_format
            for known in (fields.certain(), fields.has())
            for record_format in RECORD_FORMATS
            if known.issuperset(record_format.needs) and (has_label or not record_format.has_labels)
        ),
        None,
    )
    if record_format is None:
        return None
    column = fields.columns.get(record_format.text, record_format.text)
    texts = [text for record in records if isinstance(text := value_at(record, column), str)]
    encoded = 2 * sum(map(_is_json_list, texts)) > len(texts)
    return record_format, ReadOptions(labelled=labelled, encoded=encoded, fields=fields)


def _is_json_list(cell: str) -> bool:
    try:
        return isinstance(decode(cell, ""), list)
    except RowError:
        return False


# --- the formats


def _pair(record: Record, options: ReadOptions) -> Iterable[Vote]:
    side = _side_of(prompt_of(record, options.encoded), options)
    a, b = side(record["response_a"], "response_a"), side(record["response_b"], "response_b")
    return [_vote(record, a, b, options)]


def _vote(
    record: Record, side_a: tuple[Turns, Turns], side_b: tuple[Turns, Turns], options: ReadOptions
) -> Vote:
    return Vote(
        id_in(record, "id"),
        _require_same(side_a[0], side_b[0]),
        side_a[1],
        side_b[1],
        name_of(record.get("model_a")),
        name_of(record.get("model_b")),
        label(record) if options.labelled else None,
    )


def _side_of(prompt: Any, options: ReadOptions) -> Callable[[Any, str], tuple[Turns, Turns]]:
    """What gives the questions and answers of a side, by its answer, behind a prompt of text, turns or messages. Raises RowError."""
    if is_messages(prompt):
        return partial(_continued, prompt)
    return partial(_answered, turns(prompt, "prompt", options.encoded), options.encoded)


def _continued(prompt: list[Any], answer: Any, what: str) -> tuple[Turns, Turns]:
    answers = [] if answer is None else answer if is_messages(answer) else [_as_answer(answer)]
    is_whole = bool(answers) and is_question(answers[0])
    return dialog(joined(prompt, answers) if is_whole else [*prompt, *answers], what)


def _answered(questions: Turns, encoded: bool, answer: Any, what: str) -> tuple[Turns, Turns]:
    if answer is None or answer == "":
        return questions, [None] * len(questions)
    if is_messages(answer):
        answer = [message.get("content") for message in answer if not is_question(message)]
    return questions, turns(answer, what, encoded)


def _as_answer(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def _arena(record: Record, options: ReadOptions) -> Iterator[Vote]:
    yield _vote(record, *arena_sides(record), options)


def _chosen(record: Record, options: ReadOptions) -> Iterator[Vote]:
    questions, chosen = _preferred(record, "chosen", options)
    others, rejected = _preferred(record, "rejected", options)
    vote = Vote(
        id_in(record, "id"),
        _require_same(questions, others),
        chosen,
        rejected,
        *_models(record),
        _chosen_label(record, options.fields) if options.labelled else None,
    )
    yield random_side(vote) if options.random_sides else vote


def _swift(record: Record, options: ReadOptions) -> Iterator[Vote]:
    return _chosen(swift_preference(record), options)


def _preferred(record: Record, what: str, options: ReadOptions) -> tuple[Turns, Turns]:
    """The questions and answers of one side; the prompt comes first where the side does not hold it."""
    cell, prompt = record[what], prompt_of(record, encoded=False)
    if isinstance(cell, str) and options.encoded:
        cell = decode(cell, what)
    if isinstance(cell, str):
        whole = prompt + cell if isinstance(prompt, str) else cell
        cell = transcript(cell) or transcript(whole) or [_as_answer(cell)]
    if not is_messages(cell):
        raise RowError(f"{what} is neither text nor messages")
    if is_question(cell[0]):
        return dialog(whole_conversation(record, cell), what)
    if prompt is None:
        raise RowError(f"{what} holds no question and there is no prompt")
    before = prompt if is_messages(prompt) else [{"role": "user", "content": prompt}]
    return dialog([*before, *cell], what)


_CHOSEN_SCORES = ("score_chosen", "chosen-rating", "chosen_score", "chosen_rating", "rating_chosen")
_REJECTED_SCORES = tuple(name.replace("chosen", "rejected") for name in _CHOSEN_SCORES)


def _chosen_label(record: Record, fields: Fields) -> Probabilities:
    """Chosen wins, unless the columns beside it say that it is a tie. Raises RowError where they contradict each other."""
    if record.get("status") == "tie" and "rating" in record:  # argilla/distilabel-intel-orca-dpo-pairs
        return TIE
    is_common = "winner" in fields.names.common  # a column such as `label`, which may be anything
    said = {
        "winner": None if is_common else fields.winners.of_preference(record.get("winner"), *_models(record)),
        "is_tie": tie_or_not(record.get("is_tie")),
        "the scores": _by_scores(record),
    }
    labels = {label for label in said.values() if label is not None} or {A}
    if len(labels) > 1 or B in labels:
        names = {A: "chosen", B: "rejected", TIE: "a tie"}
        stated = (f"by {what} {names[label]}" for what, label in said.items() if label is not None)
        raise RowError("labels contradict", ", ".join(stated))
    return labels.pop()


def _models(record: Record) -> tuple[str | None, str | None]:
    names = ("chosen_model", "chosen-model"), ("rejected_model", "rejected-model")
    chosen, rejected = (name_of(_first(record, *columns)) for columns in names)
    return chosen, rejected


def _by_scores(record: Record) -> Probabilities | None:
    first, second = _first(record, *_CHOSEN_SCORES), _first(record, *_REJECTED_SCORES)
    if first is None or second is None:
        return None
    return label_of_scores(number(first, "score"), number(second, "score"))


def _ultrafeedback(record: Record, options: ReadOptions) -> Iterator[Vote]:
    completions = record["completions"]
    if isinstance(completions, str):
        completions = decode(completions, "completions")
    if not isinstance(completions, list) or not all(isinstance(item, dict) for item in completions):
        raise RowError("completions is not a list of answers with scores")
    if not 2 <= len(completions) <= raised(MOST_RESPONSES):
        raise RowError(
            f"not 2 to {raised(MOST_RESPONSES)} completions",
            str(len(completions)) + f"; {RAISE}" * (len(completions) > 1),
        )
    text = ReadOptions()
    side = _side_of(prompt_of(record, text.encoded), text)
    sides = [side(completion.get("response"), "response") for completion in completions]
    prompt, answers = sides[0][0], [side[1] for side in sides]
    scores = [_score(completion) for completion in completions] if options.labelled else []
    pairs = list(combinations(range(len(completions)), 2))
    if options.pairs_per_prompt is not None:
        pairs = sorted(pairs, key=lambda pair: digest(repr((prompt, pair))))[: options.pairs_per_prompt]
    for first, second in pairs:
        yield random_side(
            Vote(
                None,
                prompt,
                answers[first],
                answers[second],
                name_of(completions[first].get("model")),
                name_of(completions[second].get("model")),
                label_of_scores(scores[first], scores[second]) if options.labelled else None,
            )
        )


def _score(completion: Record) -> float:
    """The score of a completion: the mean over aspects if it is there, because overall_score sometimes confuses 1 with 10."""
    columns = ("fine-grained_score", "fine_grained_score", "overall_score", "score")
    score = _first(completion, *columns)
    if score is None:
        raise RowError("a completion has no score")
    return number(score, "score")


_MODELS = ("model_a", "model_b")
_LABELS = ("winner", "winner_model_a", "winner_model_b", "winner_tie", "p_a", "p_b", "p_tie")
_PREFERRED = (
    *PARTS,
    *_CHOSEN_SCORES,
    *_REJECTED_SCORES,
    "winner",
    "is_tie",
    "status",
    "rating",
    "chosen_model",
    "rejected_model",
    "chosen-model",
    "rejected-model",
)
ABOUT = frozenset(("question_id", "weight", "evaluation_session_id", "session", "tags", *TAGS))
"""The columns that all formats take beside the id."""

PAIR = RecordFormat(
    ("prompt", "response_a", "response_b"),
    "prompt",
    _pair,
    ("instruction", *PARTS, *_MODELS, *_LABELS),
    has_labels=True,
)
COMPLETIONS = RecordFormat(("instruction", "completions"), "completions", _ultrafeedback, PARTS)
RECORD_FORMATS = (
    PAIR,
    replace(PAIR, needs=("instruction", "response_a", "response_b"), text="instruction"),
    RecordFormat(
        ("conversation_a", "conversation_b"),
        "conversation_a",
        _arena,
        ("system", *_MODELS, *_LABELS, "turn", "judge", "full_conversation"),
        has_labels=True,
    ),
    RecordFormat(
        ("chosen", "rejected"), "chosen", _chosen, ("prompt", "instruction", *_PREFERRED), is_preference=True
    ),
    RecordFormat(("messages", "rejected_response"), "messages", _swift, _PREFERRED, is_preference=True),
    RecordFormat(("messages", "rejected_messages"), "messages", _swift, _PREFERRED, is_preference=True),
    COMPLETIONS,
)

COLUMNS = ColumnNames(
    known_names.KNOWN.union(["id"], ABOUT, *(found.needs + found.reads for found in RECORD_FORMATS))
)
"""The columns that any format reads, by any way of writing them."""

# --- helpers


def _about(record: Record) -> dict[str, Any]:
    """What a record says of its votes beside texts, models and labels. Raises RowError."""
    return {
        "weight": weight_in(record),
        "question_id": id_in(record, "question_id"),
        "session": id_in(record, session_column(record)),
        "tags": tags(record),
    }


def _require_same(questions_a: Turns, questions_b: Turns) -> Turns:
    if questions_a != questions_b:
        raise RowError("the two conversations ask different questions")
    return questions_a


def _first(record: Record, *columns: str) -> Any:
    """The value of the first of some columns that has one."""
    return next((record[column] for column in columns if record.get(column) is not None), None)
