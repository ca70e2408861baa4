"""How much of the line may be used: a limit that aria2 and the HTTP pool share."""

from __future__ import annotations

import threading
import time

from bundler.gateway.pace import Allowance

_BUSY_SECONDS = 2.0


class Line:
    """Bytes per second for all downloads together: all of it for whichever of the two is at work, half if both are."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._pool = Allowance()
        self._pool_used_at = self._aria2_used_at = float("-inf")

    def aria2_limit(self) -> int:
        """Return what aria2 may use now that it has something to do, 0 for any amount."""
        if self._limit is None:
            return 0
        with self._lock:
            now = time.monotonic()
            self._aria2_used_at = now
            shared = now - self._pool_used_at < _BUSY_SECONDS
            return max(1, self._limit // 2 if shared else self._limit)

    def take(self, count: int) -> float:
        """Take bytes that came through the HTTP pool, and return the seconds to wait before more are read."""
        if self._limit is None:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._pool_used_at = now
            shared = now - self._aria2_used_at < _BUSY_SECONDS
            return self._pool.take(count, self._limit / 2 if shared else self._limit, now)
