"""How fast a download goes, and how much of the line may be used. Pure; times are seconds of any one clock."""

from __future__ import annotations

from collections import deque

_SAMPLES = 20


class Pace:
    """The speed of one download over the last seconds."""

    def __init__(self, window: float) -> None:
        self._window = window
        self._samples: deque[tuple[float, int]] = deque()

    def at(self, done: int, now: float) -> float | None:
        """Note how many bytes are there, and return bytes per second over the window; None before it has passed."""
        while len(self._samples) > 1 and now - self._samples[1][0] >= self._window:
            self._samples.popleft()
        if not self._samples or now - self._samples[-1][0] >= self._window / _SAMPLES:
            self._samples.append((now, done))
        since, before = self._samples[0]
        return max(0, done - before) / (now - since) if now - since >= self._window else None


class Allowance:
    """Bytes per second, taken in advance: whoever takes waits until what was taken before is used up."""

    def __init__(self) -> None:
        self._free_at = 0.0

    def take(self, count: int, rate: float, now: float) -> float:
        """Take `count` bytes at `rate`, and return the seconds to wait before going on."""
        self._free_at = max(self._free_at, now) + count / rate
        return self._free_at - now
