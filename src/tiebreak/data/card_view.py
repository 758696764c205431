"""A data card for people: the same sections on the terminal and as one HTML file, which needs no other."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tiebreak.data.card import Card
from tiebreak.data.groups import THRESHOLD
from tiebreak.data.rates import Share

_TERMINAL_ROWS = 20

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("tiebreak.data"), autoescape=True, undefined=jinja2.StrictUndefined
)


@dataclass(frozen=True)
class Section:
    """A table with a heading; the first column is text, the others are figures. note: how to read it."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""


def terminal(card: Card) -> Group:
    """The card as something that rich prints."""
    parts: list[Text | Table] = [Text(f"! {warning}", style="yellow") for warning in warnings(card)]
    for section in sections(card):
        rows = section.rows[:_TERMINAL_ROWS]
        hidden = len(section.rows) - len(rows)
        table = Table(box=None, pad_edge=False)
        for n, column in enumerate(section.columns):
            table.add_column(column, justify="right" if n else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        parts += [Text(f"\n{section.title}", style="bold"), table]
        parts += [
            Text(note, style="dim") for note in (f"and {hidden} more" * bool(hidden), section.note) if note
        ]
    return Group(*parts)


def html(card: Card) -> str:
    """The card as one HTML page."""
    return _templates.get_template("card.html.j2").render(
        votes=f"{card.votes:,}",
        files=len(card.files),
        warnings=list(warnings(card)),
        sections=list(sections(card)),
    )


def write_html(card: Card, path: Path) -> None:
    """Write the page, under a temporary name first."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(html(card), encoding="utf-8")
    partial.replace(path)


def warnings(card: Card) -> Iterator[str]:
    """What someone should know before training on this."""
    for file in card.files:
        if file.rejects:
            yield f"{file.name}: {sum(file.rejects.values()):,} of {file.records:,} records cannot be used"
    for one, other, rows in card.overlaps:
        yield f"{rows:,} rows of {one} ask what {other} asks"
    if card.a_wins.votes and not card.a_wins.low <= 0.5 <= card.a_wins.high:
        yield f"position bias: A wins {_share(card.a_wins)} of the votes that are no ties"
    if card.longer_wins.votes and card.longer_wins.low > 0.5:
        yield f"length bias: the longer answer wins {_share(card.longer_wins)} of the votes that are no ties"
    if card.disagreement.contradicted:
        yield f"{card.disagreement.contradicted:,} pairs were voted on more than once with different labels"
    for budget in card.budgets[:1]:
        if budget.rows_cut > 0.05:
            yield f"{budget.rows_cut:.1%} of the rows are longer than {budget.max_tokens} tokens"


def sections(card: Card) -> Iterator[Section]:
    """Every table of the card that has something to say."""
    yield _files(card)
    rejects = [(f.name, kind, f"{n:,}") for f in card.files for kind, n in f.rejects.items()]
    if rejects:
        yield Section("Rejected records", ("file", "reason", "records"), rejects)
    if card.labelled:
        yield from _labels(card)
    yield from _texts(card)
    if card.models:
        yield _models(card)
    yield _repeats(card)
    if card.overlaps:
        rows = [(one, other, f"{n:,}") for one, other, n in card.overlaps]
        note = (
            f"Prompts or answers that a split keeps together: equal ones, at least {THRESHOLD:.0%} of 5-character "
            "shingles in common, other signs of a copy, or a chain of these."
        )
        yield Section("Overlap between files", ("file", "has prompts of", "rows"), rows, note)


def _files(card: Card) -> Section:
    rows = [
        (f.name, f"{f.records:,}", f"{f.votes:,}", f"{sum(f.rejects.values()):,}", f"{f.distinct_prompts:,}")
        for f in card.files
    ]
    return Section("Files", ("file", "records", "votes", "rejects", "distinct prompts"), rows)


def _labels(card: Card) -> Iterator[Section]:
    rows = [(name, _share(part)) for name, part in card.labels.items()]
    yield Section("Labels", ("label", "share"), rows, f"{card.labelled:,} labelled votes; 95 % intervals.")
    bias = [("A wins", _share(card.a_wins)), ("the longer answer wins", _share(card.longer_wins))]
    if card.advantage_of_a is not None and card.advantage_error is not None:
        worth = f"{card.advantage_of_a:+.0f} ± {1.96 * card.advantage_error:.0f} Elo"
        bias.append(("what side A is worth, models being equal", worth))
    yield Section("Bias, among votes that are no ties", ("", "share"), bias)
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
        "A wins by how much longer it is", ("difference", "decisive votes", "A wins", "ties"), bins, note
    )


def _texts(card: Card) -> Iterator[Section]:
    rows = [(text, *(f"{n:,}" for n in found.values())) for text, found in card.tokens.items()]
    note = (
        "Estimated at four bytes a token; give a tokenizer for exact counts."
        if card.tokens_are_estimated
        else ""
    )
    yield Section("Length in tokens", ("text", *next(iter(card.tokens.values()))), rows, note)
    budgets = [(f"{b.max_tokens:,}", f"{b.rows_cut:.1%}", f"{b.tokens_cut:.1%}") for b in card.budgets]
    yield Section("What a budget cuts", ("tokens of a row", "rows cut", "tokens that go"), budgets)
    scripts = [(name, f"{part:.1%}") for name, part in card.scripts.items()]
    yield Section("Scripts of the prompts", ("script", "votes"), scripts)


def _models(card: Card) -> Section:
    rows = [
        (m.name, f"{m.votes:,}", _share(m.wins), f"{m.elo:+.0f} ± {1.96 * m.error:.0f}") for m in card.models
    ]
    note = "Bradley-Terry strengths with ties (Davidson 1970) about their mean, position accounted for."
    return Section("Models", ("model", "votes", "wins of decisive votes", "Elo"), rows, note)


def _repeats(card: Card) -> Section:
    again = card.disagreement
    agreement = "none repeats" if again.agreement is None else f"{again.agreement:.1%}"
    rows = [
        ("groups of equal or nearly equal prompts", f"{card.groups:,}"),
        ("votes in the largest group", f"{card.largest_group:,}"),
        ("votes on a pair that another vote is on", f"{card.duplicates:,}"),
        ("pairs with several votes", f"{again.repeated:,}"),
        ("of these with different labels", f"{again.contradicted:,}"),
        ("chance that two votes on a pair agree", agreement),
        ("votes with more than one turn", f"{card.multi_turn:.1%}"),
        ("votes with an empty answer", f"{card.missing_answers:,}"),
        ("votes with identical answers", f"{card.identical_answers:,}"),
    ]
    return Section("Repetition and oddities", ("", "votes"), rows)


def _share(part: Share) -> str:
    return f"{part.value:.1%} ({part.low:.1%} to {part.high:.1%})" if part.votes else "no votes"
