"""Which source to ask next, and when: rules over what is known of each. Pure; times are seconds of any one clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bundler.gateway.trouble import Trouble

MAX_REST = 600.0
"""Seconds that a source rests at most, whatever it asks for: hubs count requests per five minutes."""

DISTRUSTED_AFTER = 3
"""So many wrong files, and a source is asked last."""

_FIRST_PAUSE, _MAX_PAUSE = 1.0, 120.0
_PROBE_SECONDS = 3.0
"""How long the others wait for the first one that asks a source after its rest."""

_FAR_SLOWER = 4.0
_RATE_IS_KNOWN_FOR = 600.0
_SUSPICIOUSLY_SLOW = 128 << 10
"""Bytes per second, below which a source that was never tried is worth a try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a trouble means."""

    strikes: int | None
    """After so many a source is not asked for this file any more; None if it may yet recover, however long it takes."""

    rest_after: int | None
    """After so many in a row the source rests, for all files; None for never: it is this file's trouble alone."""


RULES: Mapping[Trouble, Rule] = {
    # Two, because mirrors that fetch on demand say such things by mistake.
    Trouble.ABSENT: Rule(strikes=2, rest_after=None),
    Trouble.REFUSED: Rule(strikes=2, rest_after=None),
    Trouble.WRONG: Rule(strikes=2, rest_after=None),
    Trouble.MISFIT: Rule(strikes=3, rest_after=3),
    Trouble.EXPIRED: Rule(strikes=5, rest_after=None),
    Trouble.SLOW: Rule(strikes=None, rest_after=None),
    Trouble.BUSY: Rule(strikes=None, rest_after=1),
    Trouble.PAGE: Rule(strikes=None, rest_after=1),
    Trouble.UNREACHABLE: Rule(strikes=None, rest_after=1),
    Trouble.BROKEN: Rule(strikes=None, rest_after=3),
}


def pause_after(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row: 1, then half as long again, two minutes at most."""
    return min(_MAX_PAUSE, _FIRST_PAUSE * 1.5 ** min(failures - 1, 30))


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What is known of a source."""

    rests_until: float = 0.0
    """0 if it did not have to rest since it last gave a byte."""

    failures: int = 0
    """In a row, of those that count against the source. Failures at the same time count once."""

    failed_at: float = 0.0
    wrong_files: int = 0

    rate: float | None = None
    """Bytes per second of one large file."""

    measured_at: float = 0.0

    @property
    def distrusted(self) -> bool:
        """Whether it gave so many wrong files that any other source is better."""
        return self.wrong_files >= DISTRUSTED_AFTER

    def known_rate(self, now: float) -> float | None:
        """Return the rate if it was measured lately."""
        return self.rate if now - self.measured_at < _RATE_IS_KNOWN_FOR else None

    def served(self, *, asked_at: float) -> Health:
        """Return what is known after a byte came, or an answer, that was asked for at `asked_at`."""
        return self if asked_at < self.failed_at else replace(self, rests_until=0.0, failures=0)

    def gave_wrong_file(self) -> Health:
        """Return what is known after a whole file with other bytes."""
        return replace(self, wrong_files=self.wrong_files + 1)

    def measured(self, rate: float, now: float) -> Health:
        """Return what is known after a look at the speed."""
        return replace(self, rate=rate, measured_at=now)

    def probed(self, now: float) -> Health:
        """Return what is known when it is asked again: after a rest by one alone, until it is clear how that goes."""
        return replace(self, rests_until=now + _PROBE_SECONDS) if self.rests_until else self

    def failed(self, trouble: Trouble, *, asked_at: float, now: float, retry_after: float | None = None) -> Health:
        """Return what is known after a failure of something that was asked for at `asked_at`."""
        rest_after = RULES[trouble].rest_after
        if rest_after is None:
            # It answers; what is wrong is wrong with the file.
            return self.served(asked_at=asked_at)
        asked_for = 0.0 if retry_after is None else now + min(MAX_REST, max(_FIRST_PAUSE, retry_after))
        if asked_at < self.failed_at:
            return replace(self, rests_until=max(self.rests_until, asked_for))
        failures, until = self.failures + 1, asked_for
        if not until and (failures >= rest_after or self.rests_until):
            until = now + pause_after(max(1, failures - rest_after + 1))
        return replace(self, failures=failures, failed_at=now, rests_until=until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How one file fared at one source."""

    strikes: tuple[Trouble, ...] = ()
    """What may become final if it happens again."""

    failures: int = 0
    """In a row, without a byte between them."""

    not_before: float = 0.0
    slow: bool = False
    over: bool = False
    """The source will not be asked for this file again."""

    def failed(self, trouble: Trouble, *, now: float, got_further: bool) -> Trial:
        """Return how it stands after a failure; `got_further` if bytes came that were not there before."""
        if trouble is Trouble.SLOW:
            return replace(self, slow=True)
        failures = 1 if got_further else self.failures + 1
        # Bytes show that the source recovered; that they were wrong is not forgotten.
        kept = tuple(strike for strike in self.strikes if strike is Trouble.WRONG or not got_further)
        strikes, limit = (*kept, trouble), RULES[trouble].strikes
        over = limit is not None and strikes.count(trouble) >= limit
        strikes = strikes if limit is not None else kept
        return replace(self, strikes=strikes, failures=failures, not_before=now + pause_after(failures), over=over)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A source as a file sees it."""

    health: Health = Health()
    trial: Trial = Trial()

    @property
    def ready_at(self) -> float:
        """When it can be asked."""
        return max(self.health.rests_until, self.trial.not_before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Whose turn it is."""

    source: int
    """Its number in the list."""

    at: float
    """When to ask; now, if that is not later than now."""


def next_turn(standings: Sequence[Standing], now: float) -> Turn | None:
    """Return which source a file should be asked of, None if there is none left to ask.

    The first in the list that is ready, but those that give wrong files, or are far slower than another, come last.
    """
    possible = [number for number, standing in enumerate(standings) if not standing.trial.over]
    if not possible:
        return None
    ready = [number for number in possible if standings[number].ready_at <= now]
    if not ready:
        soonest = min(possible, key=lambda number: standings[number].ready_at)
        return Turn(source=soonest, at=standings[soonest].ready_at)
    best = max((standings[number].health.known_rate(now) or 0.0 for number in ready), default=0.0)

    def preference(number: int) -> tuple[bool, bool, int]:
        health = standings[number].health
        rate = health.known_rate(now)
        far_slower = rate is not None and rate * _FAR_SLOWER < best
        return health.distrusted, far_slower or standings[number].trial.slow, number

    return Turn(source=min(ready, key=preference), at=now)


def is_too_slow(rate: float, standings: Sequence[Standing], source: int, now: float) -> bool:
    """Say whether a file that comes from `source` at `rate` should rather come from another that is ready."""
    others = [
        standing for number, standing in enumerate(standings)
        if number != source and not standing.trial.over and standing.ready_at <= now and not standing.health.distrusted
    ]
    rates = [other.health.known_rate(now) for other in others]
    untried = any(
        known is None and not other.trial.slow for known, other in zip(rates, others)
    )
    far_better = any(known is not None and known > rate * _FAR_SLOWER for known in rates)
    return far_better or untried and rate < _SUSPICIOUSLY_SLOW
