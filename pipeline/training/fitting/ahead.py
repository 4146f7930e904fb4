"""Batches prepared ahead by threads, in their order: the device should not wait."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import TypeVar

from voxtile.machine.processors import thread_count

Item = TypeVar("Item")

# More threads than this only take turns at Python's lock.
_MOST_THREADS = 4


def ahead(make: Callable[[int], Item], start: int, *, threads: int | None = None) -> Iterator[Item]:
    """Yield ``make(start)``, ``make(start + 1)``, ... without end, made ahead of their turn.

    Parameters
    ----------
    make : callable
        Of a number; called from several threads at once.
    start : int
    threads : int, optional
        By default one less than the processors that may be used, 1 to 4.

    Examples
    --------
    >>> stream = ahead(lambda number: number * number, 3)
    >>> next(stream), next(stream)
    (9, 16)
    >>> stream.close()
    """
    threads = threads or min(_MOST_THREADS, max(1, thread_count() - 1))
    with ThreadPoolExecutor(threads, thread_name_prefix="batches") as pool:
        waiting: deque[Future[Item]] = deque()
        try:
            for number in count(start):
                waiting.append(pool.submit(make, number))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
