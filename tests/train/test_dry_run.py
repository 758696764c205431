import pytest

from tiebreak.errors import TiebreakError
from tiebreak.train.dry_run import FIXED_TOKENS, Memory, choose


def memory(
    free: float, bare: float = 10.0, layer: float = 1.0, tokens: int = 8192, layers: int = 80
) -> Memory:
    return Memory(layers, tokens, free, bare, layer)


def test_everything_is_kept_where_it_fits() -> None:
    assert choose(memory(free=90.0)) == (8192, 0)
    assert choose(memory(free=500.0)) == (8192, 0)


def test_a_little_too_much_is_computed_again() -> None:
    assert choose(memory(free=88.0)) == (8192, 2)


def test_half_the_tokens_beat_computing_half_of_the_layers_again() -> None:
    assert choose(memory(free=50.0)) == (4096, 0)


def test_the_choice_is_the_quickest_of_all() -> None:
    def seconds(tokens: int, again: int) -> float:
        return (1 + 0.5 * again / 80) * (1 + FIXED_TOKENS / tokens)

    for free in range(5, 100, 3):
        fits = [
            (tokens, again)
            for tokens in (8192, 4096, 2048, 1024)
            for again in range(81)
            if (10.0 + 80 - again) * tokens / 8192 <= free
        ]
        assert seconds(*choose(memory(free))) == min(seconds(*option) for option in fits)


def test_what_fits_nowhere_is_said() -> None:
    with pytest.raises(TiebreakError, match="fp8 or nf4"):
        choose(memory(free=1.0))


def test_a_small_budget_of_the_recipe_is_kept() -> None:
    assert choose(memory(free=200.0, tokens=512)) == (512, 0)
