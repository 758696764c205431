"""Rendering of a data card: the same sections on the terminal and as one self-contained HTML file."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tiebreak import pages, plain
from tiebreak.data_card.card import Card, labels_of
from tiebreak.data_card.standings import Model
from tiebreak.output import write_atomically
from tiebreak.pages import notebook
from tiebreak.stats.clustered import FEWEST_PROMPTS, Share
from tiebreak.terminal import counted
from tiebreak.votes import sample_size
from tiebreak.votes.near_duplicates import THRESHOLD

_TERMINAL_ROWS = 20
_ADVANTAGE = "what side A is worth, models being equal"


@dataclass(frozen=True)
class Section:
    """A table with a heading; the first column is text, the others are figures.

    question: what it answers. note: an explanation below the table. last_is_text: the last column is text too.
    """

    title: str
    question: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""
    last_is_text: bool = False


def terminal(card: Card) -> Group:
    """The card as a renderable of rich."""
    parts: list[Text | Table] = [
        Text(f"! {plain.line(warning)}", style="yellow") for warning in warnings(card)
    ]
    for section in sections(card):
        rows = section.rows[:_TERMINAL_ROWS]
        hidden = len(section.rows) - len(rows)
        table = Table(box=None, pad_edge=False)
        texts = (0, len(section.columns) - 1) if section.last_is_text else (0,)
        for n, column in enumerate(section.columns):
            table.add_column(column, justify="left" if n in texts else "right", overflow="fold")
        for row in rows:
            table.add_row(*(Text(plain.line(cell)) for cell in row))
        parts += [Text(f"\n{section.title}", style="bold"), table]
        parts += [
            Text(note, style="dim") for note in (f"and {hidden} more" * bool(hidden), section.note) if note
        ]
    return Group(*parts)


def html(card: Card) -> str:
    """The card as one HTML page."""
    return pages.render(
        "tiebreak.data_card",
        "card.html.j2",
        card=card,
        warnings=list(warnings(card)),
        parts=list(sections(card)),
    )


def fragment(card: Card) -> str:
    """The card as a notebook shows it: its warnings and tables."""
    tables = [notebook.Table(part.columns, part.rows, part.title) for part in sections(card) if part.rows]
    return notebook.fragment(f"{card.votes:,} votes", tables, warnings(card))


def write_html(card: Card, path: Path) -> None:
    """Write the HTML page, atomically."""
    write_atomically(path, html(card))


def warnings(card: Card) -> Iterator[str]:
    """The warnings of the card: defects and biases that matter in training."""
    yield from sample_size.notices(labels_of(card))
    for file in card.files:
        if file.rejects:
            yield f"{file.name}: {sum(file.rejects.values()):,} of {file.records:,} records cannot be used"
    for one, other, rows in card.overlaps:
        yield f"{rows:,} rows of {one} ask what {other} asks"
    yield from _position(card)
    if card.longer_wins.low > 0.5:
        yield f"length bias: the longer answer wins {_share(card.longer_wins)} of the votes that are no ties"
    if card.disagreement.contradicted:
        yield f"votes on the same pair have different labels: {counted(card.disagreement.contradicted, 'pair')}"
    for budget in card.budgets[:1]:
        if budget.rows_cut > 0.05:
            yield f"{budget.rows_cut:.1%} of the rows are longer than {budget.max_tokens} tokens"
    for budget in card.budgets:
        if budget.alike:
            yield f"{budget.alike:,} votes have answers that differ only after the cut at {budget.max_tokens} tokens"


def _position(card: Card) -> Iterator[str]:
    """The warning of a position bias, given the models' strengths where models are named."""
    found = card.standings
    if found.why_unknown:
        yield f"what position is worth cannot be told: {found.why_unknown}"
    elif found.advantage is not None and found.margin is not None:
        if abs(found.advantage) > found.margin:
            points = _points(found.advantage, found.margin)
            yield f"position bias: side A is worth {points}, models being equal"
    elif card.a_wins.low > 0.5 or card.a_wins.high < 0.5:
        yield f"position bias: A wins {_share(card.a_wins)} of the votes that are no ties"


def sections(card: Card) -> Iterator[Section]:
    """The tables of the card that have rows."""
    yield _files(card)
    rejects = [(f.name, kind, f"{n:,}") for f in card.files for kind, n in f.rejects.items()]
    if rejects:
        yield Section(
            "Rejected records",
            "Which records cannot be used, and why?",
            ("file", "reason", "records"),
            rejects,
        )
    not_read = [(f.name, ", ".join(f.not_read)) for f in card.files if f.not_read]
    if not_read:
        note = "Prompts that differ only there are one prompt. What belongs to it: --map 'context=COLUMN'."
        yield Section(
            "Columns that are not read",
            "What do the files hold that no vote is made of?",
            ("file", "columns"),
            not_read,
            note,
            last_is_text=True,
        )
    if card.labelled:
        yield from _labels(card)
    yield from _texts(card)
    if card.standings.models:
        yield from _models(card.standings.models)
    yield _repeats(card)
    if card.overlaps:
        rows = [(one, other, f"{n:,}") for one, other, n in card.overlaps]
        note = (
            f"Prompts or answers that a split keeps together: equal ones, at least {THRESHOLD:.0%} of 5-character "
            "shingles in common, other signs of a copy, or a chain of these."
        )
        yield Section(
            "Overlap between files",
            "Which files ask the same questions, so that one gives the other's answers away?",
            ("file", "has prompts of", "rows"),
            rows,
            note,
        )


def _files(card: Card) -> Section:
    rows = [
        (f.name, f"{f.records:,}", f"{f.votes:,}", f"{sum(f.rejects.values()):,}", f"{f.distinct_prompts:,}")
        for f in card.files
    ]
    return Section(
        "Files",
        "What was read, and how much of it can be used?",
        ("file", "records", "votes", "rejects", "distinct prompts"),
        rows,
    )


def _labels(card: Card) -> Iterator[Section]:
    rows = [(name, _share(part)) for name, part in card.labels.items()]
    note = (
        f"{card.labelled:,} labelled votes. 95 % intervals take the votes on one prompt, or on nearly the same, "
        f"together; there is none for what fewer than {FEWEST_PROMPTS} prompts tell (Kish's effective number of them)."
    )
    yield Section(
        "Labels", "How often do people prefer A, prefer B, or call it a tie?", ("label", "share"), rows, note
    )
    bias = [("A wins", _share(card.a_wins)), ("the longer answer wins", _share(card.longer_wins))]
    found = card.standings
    if found.advantage is not None and found.margin is not None:
        bias.append((_ADVANTAGE, _points(found.advantage, found.margin)))
    elif found.why_unknown:
        bias.append((_ADVANTAGE, "cannot be told"))
    note = "Several votes on one pair of answers count as one, here and for models."
    yield Section(
        "Bias, among votes that are no ties",
        "Does the position or the length of an answer win votes?",
        ("what", "share"),
        bias,
        note,
    )
    bins = [
        (
            f"{b.low:+.1f} to {b.high:+.1f}",
            f"{b.a_wins.votes:,}",
            _share(b.a_wins),
            "no votes" if math.isnan(b.ties) else f"{b.ties:.1%}",
        )
        for b in card.length_bins
    ]
    note = "(tokens of A - tokens of B) / (tokens of A + tokens of B)."
    yield Section(
        "A wins by how much longer it is",
        "Does the longer answer win the more, the longer it is?",
        ("difference", "decisive votes", "A wins", "ties"),
        bins,
        note,
    )


def _texts(card: Card) -> Iterator[Section]:
    rows = [(text, *(f"{n:,}" for n in found.values())) for text, found in card.tokens.items()]
    note = (
        "Estimated at four bytes a token; give a tokenizer for exact counts."
        if card.tokens_are_estimated
        else ""
    )
    yield Section(
        "Length in tokens", "How long are the texts?", ("text", *next(iter(card.tokens.values()))), rows, note
    )
    budgets = [
        (
            f"{b.max_tokens:,}",
            f"{b.rows_cut:.1%}",
            f"{b.tokens_cut:.1%}",
            "unknown" if b.alike is None else f"{b.alike:,}",
        )
        for b in card.budgets
    ]
    columns = ("tokens of a row", "rows cut", "tokens that go", "votes whose answers become equal")
    yield Section(
        "What a budget cuts",
        "How much of them would a model of so many tokens a row not see?",
        columns,
        budgets,
    )
    scripts = [(name, f"{part:.1%}") for name, part in card.scripts.items()]
    yield Section(
        "Scripts of the prompts", "What scripts are the prompts written in?", ("script", "votes"), scripts
    )


def _models(models: Sequence[Model]) -> Iterator[Section]:
    ranked = [
        (m.name, f"{m.votes:,}", _share(m.wins), _points(m.elo, m.margin)) for m in models if not m.why_apart
    ]
    note = "Bradley-Terry strengths with ties (Davidson 1970) about their mean, position accounted for."
    if ranked:
        yield Section(
            "Models",
            "Which models wrote the better answers, by these votes?",
            ("model", "votes", "wins of decisive votes", "strength"),
            ranked,
            note,
        )
    unranked = [(m.name, f"{m.votes:,}", _share(m.wins), m.why_apart) for m in models if m.why_apart]
    if unranked:
        columns = ("model", "votes", "wins of decisive votes", "why")
        yield Section(
            "Models that are not ranked",
            "Which models cannot be placed, and why?",
            columns,
            unranked,
            last_is_text=True,
        )


def _repeats(card: Card) -> Section:
    disagreement = card.disagreement
    rows = [
        ("groups of equal or nearly equal prompts", f"{card.groups:,}"),
        ("votes in the largest group", f"{card.largest_group:,}"),
        ("votes with more than one turn", f"{card.multi_turn:.1%}"),
        ("votes with an empty answer", f"{card.missing_answers:,}"),
        ("votes with identical answers", f"{card.identical_answers:,}"),
        ("votes on a pair that another vote is on", f"{card.duplicates:,}"),
        ("pairs with several votes", f"{disagreement.repeated:,}"),
    ]
    note = ""
    if disagreement.noise is not None:
        low = "" if disagreement.noise_low is None else f" ({disagreement.noise_low:.2f} at 95 % confidence)"
        rows += [
            ("of these with different labels", f"{disagreement.contradicted:,}"),
            ("chance that two votes on such a pair agree", _share(disagreement.agreement)),
            ("log loss that voters cost on them, at least", f"{disagreement.noise:.2f}{low}"),
        ]
        note = (
            "No prediction has a lower expected log loss where voters disagree so often; how they vote on pairs with "
            "one vote is not known."
        )
    return Section(
        "Repetition and oddities",
        "How often does the same thing come again, and what is missing?",
        ("what", "votes"),
        rows,
        note,
    )


def _points(value: float, margin: float) -> str:
    return f"{value:+.0f} ± {margin:.0f} Elo"


def _share(part: Share) -> str:
    if not part.votes:
        return "no votes"
    if not part.has_interval:
        return f"{part.value:.1%} (prompts: {part.prompts:.0f})"
    return f"{part.value:.1%} ({part.low:.1%} to {part.high:.1%})"
