"""Work on many pieces at once, taken and given in order, with a bound on what is in flight."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

MAX_IN_FLIGHT = 6
"""Pieces at once, whatever the number of workers: a piece is up to 16 MiB raw, and as much again coded."""


class BufferPool:
    """Buffers of one size that are used again: fresh memory costs page faults, a tenth of all CPU time here."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free: list[bytearray] = []

    def take(self) -> bytearray:
        """Return a buffer with anything in it; its memory is only taken up as it is written to."""
        try:
            return self._free.pop()
        except IndexError:
            return bytearray(self._size)

    def give(self, *buffers: bytearray) -> None:
        """Take back buffers that nobody looks at any more."""
        self._free.extend(buffers)


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(work: Callable[[T], R], pieces: Iterable[T], *, workers: int) -> Generator[R, None, None]:
    """Yield `work(piece)` for every piece, in the order of `pieces`, done by `workers` threads.

    `pieces` is drawn from as results are taken, never more than `MAX_IN_FLIGHT` ahead. An exception of `work` is
    raised in its place in the order, one of `pieces` at once; what else is in flight then is dropped.
    Close it where it may not be drawn to its end.
    """
    with ThreadPoolExecutor(max_workers=max(1, min(workers, MAX_IN_FLIGHT))) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for piece in pieces:
                waiting.append(pool.submit(work, piece))
                if len(waiting) >= MAX_IN_FLIGHT:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
