"""Work on many pieces at once, taken and given in order, with a bound on what is in flight."""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

MAX_IN_FLIGHT = 6
"""Pieces at once, whatever the number of workers: a piece is up to 16 MiB raw, and as much again coded."""

_AHEAD = 2
"""Pieces that wait for their turn, begun or done. More would only take memory."""

_WORTH_A_SWITCH = 256 << 10
"""Bytes. Less than this is done before another thread has woken up."""


class Aside:
    """One more thread, which works on bytes while its owner does something else with the same bytes."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1)

    @contextmanager
    def doing(self, work: Callable[[], object], *, size: int) -> Iterator[None]:
        """Have `work()`, which is over `size` bytes, done while the body runs, and be over when it ends."""
        if size < _WORTH_A_SWITCH:
            work()
            yield
            return
        future = self._pool.submit(work)
        try:
            yield
        finally:
            future.result()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()


class Behind:
    """One more thread, at most one piece of work behind its owner. A context manager that waits for it at the end."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._last: Future[object] | None = None

    def __enter__(self) -> Behind:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    def do(self, work: Callable[[], object]) -> None:
        """Have `work()` done, once what was begun before is over. Raises what that raised."""
        self.wait()
        self._last = self._pool.submit(work)

    def wait(self) -> None:
        """Return when nothing is left to do. Raises what was raised."""
        if self._last is not None:
            self._last.result()


class BufferPool:
    """Buffers of one size that are used again: fresh memory costs page faults, a tenth of all CPU time here."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        """Return a buffer with anything in it."""
        try:
            return self._free.pop()
        except IndexError:
            return self._new()

    def give(self, *buffers: memoryview) -> None:
        """Take back buffers that nobody looks at any more."""
        self._free.extend(buffers)

    def _new(self) -> memoryview:
        # Not zeroed by hand first, and, where the system has huge pages, with one fault for 2 MiB, not for 4 KiB.
        buffer = mmap.mmap(-1, max(1, self._size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a kernel without them
                buffer.madvise(mmap.MADV_HUGEPAGE)
        return memoryview(buffer)


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(work: Callable[[T], R], pieces: Iterable[T], *, workers: int) -> Generator[R, None, None]:
    """Yield `work(piece)` for every piece, in the order of `pieces`, done by `workers` threads.

    `pieces` is drawn from as results are taken, a few ahead, never more than `MAX_IN_FLIGHT`. An exception of `work` is
    raised in its place in the order, one of `pieces` at once; what else is in flight then is dropped.
    Close it where it may not be drawn to its end.
    """
    in_flight = min(max(1, workers) + _AHEAD, MAX_IN_FLIGHT)
    with ThreadPoolExecutor(max_workers=min(max(1, workers), in_flight)) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for piece in pieces:
                waiting.append(pool.submit(work, piece))
                if len(waiting) >= in_flight:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
