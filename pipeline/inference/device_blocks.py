"""Blocks of planes, overlapped: one is sent while another is computed and a third is fetched."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from voxtile.machine.memory_errors import is_out_of_memory

# Blocks that are sent or computed while the label values of an earlier block are written.
_AHEAD = 2

Begun = TypeVar("Begun")
Ended = TypeVar("Ended")
# Takes the first plane of a block; returns the plane after its last, and what is being sent.
Sending = Callable[[int], tuple[int, Any]]


def in_blocks(
    count: int,
    send: Sending,
    begin: Callable[[int, int, Any], Begun],
    end: Callable[[int, int, Begun], Ended],
    halve: Callable[[], None],
) -> Iterator[Ended]:
    """Yield the result of each block of planes, in order; smaller blocks if memory runs out.

    Parameters
    ----------
    count : int
        Planes.
    send : callable
        Takes the first plane of a block; returns the plane after its last,
        and what is being sent to the device while the previous block is
        computed.
    begin : callable
        Begins to compute what was sent.
    end : callable
        Waits for the result of `begin`, in a separate thread.
    halve : callable
        Is called when memory ran out; later blocks are smaller, or it raises an error.
    """
    ended = 0
    while ended < count:
        sent = block = work = None
        begun: deque[tuple[int, Future[Ended]]] = deque()
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="labels") as pool:
                start, sent = ended, send(ended)
                while start < count or begun:
                    if start < count and len(begun) <= _AHEAD:
                        (stop, block), first = sent, start
                        start = stop
                        sent = send(stop) if stop < count else sent
                        work = begin(first, stop, block)
                        begun.append((stop, pool.submit(end, first, stop, work)))
                        block = work = None  # frees the device's memory once it ends
                        continue
                    stop, ending = begun.popleft()
                    yield ending.result()
                    ended = stop
            return
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # This is outside the handler, because the error keeps earlier results in memory.
        sent = block = work = None
        begun.clear()
        halve()
