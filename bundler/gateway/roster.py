"""The sources of a fetch and how each of them is doing, for many threads; the rules are in `health`."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from bundler.gateway.health import DISTRUSTED_AFTER, Health, Standing, Trial, Turn, is_too_slow, next_turn
from bundler.gateway.sources import Source
from bundler.gateway.trouble import SourceError, Trouble
from bundler.progress import Noted, OnEvent

_WORTH_TELLING = 5.0
"""Seconds of rest."""

_TELLING = (Trouble.BROKEN, Trouble.UNREACHABLE, Trouble.PAGE, Trouble.MISFIT)
"""What tells of the source, where other troubles are of a file or its link."""

Trials = Mapping[int, Trial]
"""How a file fared, by the number of the source."""


@dataclass(slots=True)
class _Record:
    source: Source
    health: Health = field(default_factory=Health)
    told: bool = False
    """Whether people know that it rests."""

    told_troubles: set[Trouble] = field(default_factory=set)
    """What people know that befell it."""


class Roster:
    """Sources in the order in which they should be asked."""

    def __init__(self, sources: tuple[Source, ...], on_event: OnEvent) -> None:
        self._records = [_Record(source) for source in sources]
        self._on_event = on_event
        self._lock = threading.Lock()

    def __getitem__(self, number: int) -> Source:
        return self._records[number].source

    def turn(self, trials: Trials) -> Turn | None:
        """Return whose turn it is to give a file; `trials` has the sources that may have it."""
        with self._lock:
            now = time.monotonic()
            numbers, standings = self._standings(trials)
            turn = next_turn(standings, now)
            if turn is None:
                return None
            record = self._records[numbers[turn.source]]
            if turn.at <= now:
                record.health = record.health.probed(now)
            return Turn(source=numbers[turn.source], at=turn.at)

    def served(self, number: int, asked_at: float) -> None:
        """Note that bytes come that were asked for at `asked_at`."""
        with self._lock:
            record = self._records[number]
            record.health = record.health.served(asked_at=asked_at)
            record.told = record.told and bool(record.health.rests_until)

    def failed(self, number: int, error: SourceError, asked_at: float) -> None:
        """Note a failure; say so if it is the first of its kind, has the source rest for long, or is a wrong file."""
        with self._lock:
            record, now = self._records[number], time.monotonic()
            record.health = record.health.failed(
                error.trouble, asked_at=asked_at, now=now, retry_after=error.retry_after
            )
            rest = record.health.rests_until - now
            note = ""
            if error.trouble is Trouble.WRONG:
                note = str(error)
                record.health = record.health.gave_wrong_file()
                if record.health.wrong_files == DISTRUSTED_AFTER:
                    note += f"; this was wrong file number {DISTRUSTED_AFTER}: it is asked last from now on"
            elif rest >= _WORTH_TELLING and not record.told:
                record.told = True
                note = f"{error}; left alone for {rest:,.0f} seconds"
            elif error.trouble in _TELLING and error.trouble not in record.told_troubles:
                note = str(error)
            record.told_troubles.add(error.trouble)
            name = record.source.name
        if note:
            self._on_event(Noted(f"{name}: {note}"))

    def too_slow(self, number: int, rate: float, trials: Trials) -> bool:
        """Note a speed, and say whether another source should have this file."""
        with self._lock:
            now, record = time.monotonic(), self._records[number]
            record.health = record.health.measured(rate, now)
            numbers, standings = self._standings(trials)
            return is_too_slow(rate, standings, numbers.index(number), now)

    def _standings(self, trials: Trials) -> tuple[list[int], list[Standing]]:
        numbers = sorted(trials)
        return numbers, [
            Standing(health=self._records[number].health, trial=trials[number]) for number in numbers
        ]
