"""Progress for people: tqdm bars on a terminal, plain lines elsewhere, always on stderr."""

from __future__ import annotations

import sys
import threading
import time
from typing import Self

import click

from bundler.cli.render.words import human_size, printable
from bundler.progress import Advanced, Event, Finished, Noted, Phase, Started

_DOING = {
    Phase.LOCK: "locking",
    Phase.FETCH: "fetching",
    Phase.PACK: "packing",
    Phase.VERIFY: "verifying",
    Phase.INSTALL: "installing",
}
_LINE_SECONDS = 30.0
_FORESEEABLE = 7 * 24 * 60
"""Minutes. What would take longer stands still."""


class Bars:
    """A context manager that is an `OnEvent`; safe to call from many threads."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        """All that was said in a line of its own."""

        self._terminal = sys.stderr.isatty()
        self._lock = threading.Lock()
        self._bars: dict[Phase, _Bar | _Lines] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for bar in self._bars.values():
            bar.close()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        with self._lock:
            match event:
                case Started():
                    self._bars[event.phase] = (_Bar if self._terminal else _Lines)(event)
                case Advanced() if event.phase in self._bars:
                    self._bars[event.phase].advance(event.count)
                case Finished() if event.phase in self._bars:
                    self._bars.pop(event.phase).finish()
                case Noted():
                    self.notes.append(event.text)
                    self._say(printable(event.text))

    def _say(self, text: str) -> None:
        if self._terminal:
            from tqdm import tqdm

            tqdm.write(text, file=sys.stderr)  # above the bars
        else:
            click.echo(text, err=True)


def _amount(phase: Phase, count: float) -> str:
    return f"{count:,.0f} repositor{'y' if count == 1 else 'ies'}" if phase is Phase.LOCK else human_size(count)


class _Bar:
    """A tqdm bar."""

    def __init__(self, started: Started) -> None:
        from tqdm import tqdm  # where nobody watches, nobody waits for it either

        in_bytes = started.phase is not Phase.LOCK
        self._bar = tqdm(
            total=started.total, desc=f"{_DOING[started.phase]:>10}", unit="B" if in_bytes else " repos",
            unit_scale=in_bytes, dynamic_ncols=True, file=sys.stderr,
        )

    def advance(self, count: int) -> None:
        """Move on, or back."""
        self._bar.update(count)

    def finish(self) -> None:
        """Leave the bar on the screen, full."""
        self._bar.close()

    close = finish


class _Lines:
    """A line at the start, one now and then, one at the end."""

    def __init__(self, started: Started) -> None:
        self._phase = started.phase
        self._total = started.total
        self._done = 0
        self._start = self._told = time.monotonic()
        click.echo(f"{_DOING[self._phase]} {_amount(self._phase, self._total)}", err=True)

    def advance(self, count: int) -> None:
        """Move on, or back; say so if nothing was said for long."""
        self._done += count
        now = time.monotonic()
        if now - self._told >= _LINE_SECONDS and self._done:
            self._told = now
            minutes = (now - self._start) / self._done * (self._total - self._done) / 60
            left = f", {minutes:,.0f} minutes left" if minutes < _FORESEEABLE else ""
            click.echo(f"{_DOING[self._phase]}: {self._progress()}{left}", err=True)

    def finish(self) -> None:
        """Say how long it took."""
        seconds = max(time.monotonic() - self._start, 0.001)
        rate = "" if self._phase is Phase.LOCK else f", {human_size(self._total / seconds)}/s"
        click.echo(f"{_DOING[self._phase]}: done in {seconds:,.1f} s{rate}", err=True)

    def close(self) -> None:
        """Say nothing: it was not finished."""

    def _progress(self) -> str:
        return f"{_amount(self._phase, self._done)} of {_amount(self._phase, self._total)}"
