import threading
from collections.abc import Iterator

import pytest

from tiebreak.tokens.prefetch import prefetch


def test_items_come_in_order_and_from_another_thread() -> None:
    threads = set()

    def items() -> Iterator[int]:
        for n in range(20):
            threads.add(threading.get_ident())
            yield n

    assert list(prefetch(items())) == list(range(20))
    assert threading.get_ident() not in threads


def test_the_next_item_is_made_while_one_is_in_use() -> None:
    made = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for n in range(3):
            made[n].set()
            yield n

    items_prefetched = prefetch(items())
    assert next(items_prefetched) == 0
    assert made[1].wait(5), "the second item was not begun"
    assert not made[2].wait(0.05), "more than one item was made ahead"
    assert list(items_prefetched) == [1, 2]


def test_an_error_is_raised_in_place_of_the_item() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    items_prefetched = prefetch(items())
    assert next(items_prefetched) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items_prefetched)
