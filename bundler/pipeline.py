"""Work on many pieces at once, taken and given in order, with a bound on what is in flight."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Bytes = bytes | memoryview
T = TypeVar("T")
R = TypeVar("R")

MAX_IN_FLIGHT = 6
"""Pieces at once, whatever the number of workers: a piece is up to 16 MiB raw, and as much again coded."""

_WORTH_A_SWITCH = 256 << 10
"""Bytes. Less than this is done before another thread has woken up."""


class Aside:
    """One more thread, which works on bytes while its owner does something else with the same bytes."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1)

    @contextmanager
    def doing(self, work: Callable[[Bytes], object], content: Bytes) -> Iterator[None]:
        """Have `work(content)` done while the body runs, and be over when it ends."""
        if len(content) < _WORTH_A_SWITCH:
            work(content)
            yield
            return
        future = self._pool.submit(work, content)
        try:
            yield
        finally:
            future.result()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()


class BufferPool:
    """Buffers of one size that are used again: fresh memory costs page faults, a tenth of all CPU time here."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free: list[bytearray] = []

    def take(self) -> bytearray:
        """Return a buffer with anything in it."""
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
