"""How long to wait for a line that is down: what is started on Friday is to be whole on Monday."""

from __future__ import annotations

import threading
import time

from bundler.progress import Noted, OnEvent

_QUIET_SECONDS = 30.0
"""Without a byte for so long people are told that the fetch waits."""


class Patience:
    """Knows when the last new byte of any file came."""

    def __init__(self, seconds: float, on_event: OnEvent) -> None:
        self._seconds = seconds
        self._on_event = on_event
        self._lock = threading.Lock()
        self._moved_at = time.monotonic()
        self._told = False

    def moved(self) -> None:
        """Note that a byte came that was not there before."""
        with self._lock:
            self._moved_at = time.monotonic()
            self._told = False

    def wait_until(self, at: float, reason: str) -> float | None:
        """Return when to go on if it cannot be before `at`; None if the patience is at its end."""
        with self._lock:
            now, end = time.monotonic(), self._moved_at + self._seconds
            if now >= end:
                return None
            tell = now - self._moved_at >= _QUIET_SECONDS and not self._told
            self._told = self._told or tell
        if tell:
            hours = self._seconds / 3600
            self._on_event(Noted(
                f"nothing comes at the moment ({reason}); still trying, and giving up after {hours:,.1f} hours of this"
            ))
        return min(at, end)
