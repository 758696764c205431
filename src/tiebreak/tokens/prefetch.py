"""Prefetching: the next item of an iterator is made in a thread while the current one is in use."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

T = TypeVar("T")
_END = object()


def prefetch(items: Iterable[T]) -> Iterator[T]:
    """Yield the items in order, each made in another thread while the one before it is in use."""
    iterator = iter(items)
    with ThreadPoolExecutor(1) as worker:
        pending = worker.submit(next, iterator, _END)
        while (item := pending.result()) is not _END:
            pending = worker.submit(next, iterator, _END)
            yield cast(T, item)
