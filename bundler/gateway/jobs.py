"""Jobs in an order, for several threads: one that has to wait steps aside until its time, and holds up no thread."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Jobs(Generic[T]):
    """What is to be done, and what is being done."""

    def __init__(self, jobs: Iterable[T]) -> None:
        self._all = list(jobs)
        self._ready = list(range(len(self._all)))
        self._waiting: list[tuple[float, int]] = []
        self._left = len(self._all)
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._all)

    def take(self) -> tuple[int, T] | None:
        """Return the first job that can be done now, with its number; wait for one. None once all are done."""
        with self._changed:
            while self._left and not self._closed:
                now = time.monotonic()
                while self._waiting and self._waiting[0][0] <= now:
                    heapq.heappush(self._ready, heapq.heappop(self._waiting)[1])
                if self._ready:
                    number = heapq.heappop(self._ready)
                    # Somebody else should look after what is left.
                    self._changed.notify()
                    return number, self._all[number]
                self._changed.wait(self._waiting[0][0] - now if self._waiting else None)
            return None

    def put_off(self, number: int, until: float) -> None:
        """Give a job back that cannot be done before `until`, in seconds of the monotonic clock."""
        with self._changed:
            heapq.heappush(self._waiting, (until, number))
            self._changed.notify()

    def done(self) -> None:
        """Say that a job is done, well or badly."""
        with self._changed:
            self._left -= 1
            if not self._left:
                self._changed.notify_all()

    def close(self) -> None:
        """Give out no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
