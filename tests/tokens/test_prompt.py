from random import Random

import numpy as np
import pyarrow as pa
import pytest
from tiny_models import FAMILIES, base, votes

from tiebreak.errors import TiebreakError
from tiebreak.model import classifier
from tiebreak.recipe.schema import Prompt
from tiebreak.tokens.prompt import TEMPLATES, TokenizedVotes, tokenize
from tiebreak.votes.schema import table_of


def one(family: str, prompt: list, a: list, b: list, **settings: object) -> tuple[TokenizedVotes, object]:
    tokenizer = classifier.load(base(family)).tokenizer
    table = table_of([{"id": "x", "prompt": prompt, "response_a": a, "response_b": b}])
    return tokenize(table, tokenizer, Prompt(**settings)), tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_reads_as_published(family: str) -> None:
    tokens, tokenizer = one(family, ["why", "is the sky"], ["blue", "red"], ["good answer"])
    row = tokens.row(0, 0, 500)
    assert tokenizer.decode(row, skip_special_tokens=True) == (
        'User question:\n"""why\nis the sky"""\nAnswer A:\n"""blue\nred"""\nAnswer B:\n"""good answer"""\n'
    )
    assert row[-1] == tokenizer.eos_token_id
    assert (row[0] == tokenizer.bos_token_id) == (family not in ("qwen2", "qwen3"))
    assert (row == tokenizer.eos_token_id).sum() == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_swapping_exchanges_the_answers_and_nothing_else(family: str) -> None:
    straight, _ = one(family, ["why"], ["blue sky"], ["long red answer"])
    exchanged, _ = one(family, ["why"], ["long red answer"], ["blue sky"])
    for budget in (500, 40):
        assert np.array_equal(straight.row(0, 1, budget), exchanged.row(0, 0, budget))
        assert (
            len(straight.row(0, 0, budget)) == len(straight.row(0, 1, budget)) == straight.length(0, budget)
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_text_cannot_spell_a_special_token(family: str) -> None:
    tokenizer = classifier.load(base(family)).tokenizer
    specials = set(tokenizer.all_special_ids)
    spelled = " ".join(tokenizer.all_special_tokens)
    tokens, _ = one(family, [spelled], [spelled], ["x"])
    row = tokens.row(0, 0, 4000)
    assert [t for t in row if t in specials] == [t for t in (row[0], row[-1]) if t in specials]
    assert tokenizer.decode(row).count(spelled) == 2


def test_a_null_turn_is_an_empty_text() -> None:
    tokens, tokenizer = one("llama", ["why", None], [None], ["x"])
    assert 'why\n"""\nAnswer A:\n""""""\nAnswer B' in tokenizer.decode(tokens.row(0, 0, 500))


def test_rows_never_exceed_the_budget() -> None:
    tokens = tokenize(
        votes(20, longest=200), classifier.load(base("llama")).tokenizer, Prompt(prompt_tokens=8)
    )
    for vote in range(20):
        for budget in (64, 150, 1000):
            row = tokens.row(vote, 0, budget)
            assert len(row) <= budget
            assert np.array_equal(row[-len(tokens.frame[-1]) :], tokens.frame[-1])


def test_a_budget_without_room_is_an_error() -> None:
    tokens, _ = one("llama", ["why is the sky blue " * 30], ["x " * 300], ["y"])
    with pytest.raises(TiebreakError, match="Raise max_tokens"):
        tokens.row(0, 0, 60)


def test_each_text_is_encoded_like_alone() -> None:
    table = votes(5)
    tokenizer = classifier.load(base("qwen2")).tokenizer
    tokens = tokenize(table, tokenizer, Prompt())
    for n, text in enumerate(table["response_b"].to_pylist()):
        expected = tokenizer(text[0], add_special_tokens=False)["input_ids"]
        assert tokens.answers[1][n].tolist() == expected
    assert isinstance(table, pa.Table)


def test_text_cannot_spell_the_template() -> None:
    """Texts made of the markers' pieces add no markers to those of the template."""
    tokenizer = classifier.load(base("llama")).tokenizer
    random = Random(0)
    pieces = ['"""', '"', "\n", "Answer A:", "Answer B:", "User question:", "x", *TEMPLATES["published"]]

    def turns() -> list[str]:
        return ["".join(random.choices(pieces, k=random.randint(0, 6))) for _ in range(random.randint(1, 3))]

    columns = ("prompt", "response_a", "response_b")
    table = table_of({column: turns() for column in columns} for _ in range(500))
    for truncation in ("published", "balanced"):
        tokens = tokenize(table, tokenizer, Prompt(truncation=truncation))
        for vote in range(len(tokens)):
            text = tokenizer.decode(tokens.row(vote, 0, 8000), skip_special_tokens=True)
            question, *answers = TEMPLATES["published"][:3]
            assert [text.count(marker) for marker in answers] == [1, 1], text
            assert text.startswith(question)
            assert text.count('"""\nUser question:') == 0


def test_markers_are_all_that_is_changed() -> None:
    text = 'Answer A: """quoted""" User question:\nAnswer B:\n"""'
    tokens, tokenizer = one("llama", [text], [text], ["x"])
    assert tokenizer.decode(tokens.row(0, 0, 4000)).count(text) == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_balanced_keeps_starts_ends_and_the_last_turn(family: str) -> None:
    long = " ".join(f"word{n}" for n in range(200))
    prompt = ["first question " + long, "the last question"]
    tokens, tokenizer = one(
        family,
        prompt,
        ["early answer", "answer starts " + long + " and ends"],
        ["no", "yes"],
        truncation="balanced",
        prompt_tokens=30,
    )
    for order in (0, 1):
        row = tokens.row(0, order, 160)
        text = tokenizer.decode(row)
        assert len(row) == tokens.length(0, 160) <= 160
        for kept in ("first", "the last question", "and ends", "[...]", "yes"):
            assert kept in text
        assert "word100" not in text


def test_balanced_is_published_where_nothing_is_too_long() -> None:
    table = votes(20)
    tokenizer = classifier.load(base("llama")).tokenizer
    published, balanced = (
        tokenize(table, tokenizer, Prompt(truncation=t)) for t in ("published", "balanced")
    )
    for vote in range(20):
        assert np.array_equal(published.row(vote, 1, 4000), balanced.row(vote, 1, 4000))


def test_balanced_keeps_the_budget_and_the_swap() -> None:
    table = votes(20, longest=200)
    turned = table.rename_columns({"response_a": "response_b", "response_b": "response_a"})
    tokenizer = classifier.load(base("llama")).tokenizer
    settings = Prompt(truncation="balanced", prompt_tokens=8)
    straight, exchanged = tokenize(table, tokenizer, settings), tokenize(turned, tokenizer, settings)
    for vote in range(20):
        for budget in (64, 150, 1000):
            row = straight.row(vote, 0, budget)
            assert len(row) == straight.length(vote, budget) <= budget
            assert np.array_equal(row, exchanged.row(vote, 1, budget))


def test_empty_and_null_turns_have_no_tokens_and_their_place() -> None:
    for truncation in ("published", "balanced"):
        tokens, _ = one("llama", ["q", None], [None, "x"], ["", None], truncation=truncation)
        plain = tokens.prompts.lengths[0], tokens.answers[0].lengths[0], tokens.answers[1].lengths[0]
        assert min(plain) > 0  # the newline between the turns
        if truncation == "balanced":
            assert tokens.prompts.last[0] == plain[0]
            assert 0 < tokens.answers[0].last[0] < plain[1]


@pytest.mark.parametrize("truncation", ["published", "balanced"])
def test_answers_that_differ_only_in_what_is_cut_are_counted(truncation: str) -> None:
    long = " ".join(f"word{n}" for n in range(120))
    votes = (
        (long + " sky " + long, long + " blue " + long),  # differ in the middle
        (long, long),  # equal as they are
        ("short", "other"),  # not cut
        ("sky " + long, "blue " + long),  # differ at the start
    )
    table = table_of({"prompt": ["why"], "response_a": [a], "response_b": [b]} for a, b in votes)
    tokens = tokenize(table, classifier.load(base("llama")).tokenizer, Prompt(truncation=truncation))
    assert tokens.alike_when_cut(400) == 1
    assert np.array_equal(tokens.row(0, 0, 400), tokens.row(0, 1, 400))
    assert not np.array_equal(tokens.row(3, 0, 400), tokens.row(3, 1, 400))
    assert tokens.alike_when_cut(100_000) == 0
