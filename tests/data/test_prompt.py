import numpy as np
import pyarrow as pa
import pytest
from models import FAMILIES, base, votes

from tiebreak.data.prompt import TEMPLATES, TokenizedVotes, keep_lengths, tokenize
from tiebreak.data.votes import table_of
from tiebreak.errors import TiebreakError
from tiebreak.model import classifier
from tiebreak.recipe import Prompt


def one(family: str, prompt: list, a: list, b: list) -> tuple[TokenizedVotes, object]:
    tokenizer = classifier.load(base(family)).tokenizer
    table = table_of([{"id": "x", "prompt": prompt, "response_a": a, "response_b": b}])
    return tokenize(table, tokenizer, Prompt()), tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_reads_as_published(family: str) -> None:
    tokens, tokenizer = one(family, ["why", "is the sky"], ["blue", "red"], ["good answer"])
    row = tokens.row(0, 0, 500)
    assert tokenizer.decode(row, skip_special_tokens=True) == (
        'User question:\n"""why\nis the sky"""\nAnswer A:\n"""blue\nred"""\nAnswer B:\n"""good answer"""\n'
    )
    assert row[-1] == tokenizer.eos_token_id
    assert (row[0] == tokenizer.bos_token_id) == (family != "qwen2")
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
    spelled = " ".join(tokenizer.all_special_tokens) + TEMPLATES["published"][1]
    tokens, _ = one(family, [spelled], [spelled], ["x"])
    row = tokens.row(0, 0, 4000)
    assert [t for t in row if t in specials] == [t for t in (row[0], row[-1]) if t in specials]
    assert tokenizer.decode(row).count(spelled) == 2


def test_a_null_turn_is_an_empty_text() -> None:
    tokens, tokenizer = one("llama", ["why", None], [None], ["x"])
    assert 'why\n"""\nAnswer A:\n""""""\nAnswer B' in tokenizer.decode(tokens.row(0, 0, 500))


def pop_one_at_a_time(prompt: int, first: int, second: int, budget: int, cap: int) -> tuple[int, int, int]:
    """The published truncation as it is described: a token at a time."""
    if prompt + first + second <= budget:
        return prompt, first, second
    prompt = min(prompt, cap)
    while prompt + first + second > budget:
        if first > second:
            first -= 1
        elif second > first:
            second -= 1
        else:
            first, second = first - 1, second - 1
    return prompt, first, second


def test_truncation_equals_popping_one_token_at_a_time() -> None:
    generator = np.random.default_rng(0)
    for _ in range(3000):
        prompt, first, second, budget = (int(x) for x in generator.integers(1, 60, 4))
        cap = int(generator.integers(1, 20))
        if budget - min(prompt, cap) < 2 < prompt + first + second - budget + 3:
            continue
        assert keep_lengths(prompt, first, second, budget, cap) == pop_one_at_a_time(
            prompt, first, second, budget, cap
        ), (prompt, first, second, budget, cap)


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
