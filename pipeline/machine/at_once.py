"""Several files read at the same time: headers take time to parse and, on a network, to arrive."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .processors import processor_count

# More threads do not read faster, because each has a child process for DICOM.
_MOST = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Item], Result], items: Sequence[Item], *, at_once: int | None = None
) -> Iterator[Result]:
    """Yield ``function(item)`` of each item in order, with several calls at the same time.

    The calls run in `at_once` threads; the default is one per processor, at most 8.
    """
    count = at_once or min(_MOST, processor_count())
    if count == 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(count)
    try:
        yield from pool.map(function, items)
    finally:  # also if the caller stops early, as after Ctrl-C
        pool.shutdown(cancel_futures=True)
