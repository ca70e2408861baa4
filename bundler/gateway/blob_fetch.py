"""One blob, from whichever source gives its true bytes: tried, proven, and tried elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from bundler.digest import Digest, hash_file
from bundler.errors import AccessDeniedError, BundlerError, FetchError, NoSourceError, ProxyError, WrongBytesError
from bundler.fsio import explain_os_errors
from bundler.gateway.courier import Courier
from bundler.gateway.health import Trial
from bundler.gateway.local import Store, copies
from bundler.gateway.pace import Pace
from bundler.gateway.patience import Patience
from bundler.gateway.roster import Roster
from bundler.gateway.sources import Source, Wanted
from bundler.gateway.staging import Staging, prove
from bundler.gateway.trouble import SourceError, Trouble
from bundler.gateway.web import Location
from bundler.lock import LockedFile
from bundler.manifest import OFFICIAL_ENDPOINT
from bundler.progress import Meter, Noted, OnEvent, Phase

_LOOK_SECONDS = 1.0
"""Between two looks at the speed of a download."""

_STAYS_FOR = 3
"""Failures in a row after which even a file that should come from one source alone is asked of another."""

Settled = Callable[[LockedFile, Digest, dict[str, int]], None]
"""Is told of a blob that stands in staging, proven, and how many of its bytes came from where."""


class Job:
    """A blob on its way. Belongs to one thread at a time."""

    def __init__(self, wanted: Wanted, sources: int, *, large: bool, on_event: OnEvent) -> None:
        """Prepare for a blob that so many sources may have."""
        self.wanted = wanted
        self.large = large
        self.result: Future[Digest] = Future()
        self.meter = Meter(Phase.FETCH, on_event)
        self.trials = dict.fromkeys(range(sources), Trial())
        """How it fared, by the number of the source."""

        self.errors: dict[int, SourceError] = {}
        self.begun = False
        self.furthest = 0
        """The most bytes that ever were there."""

        self.came_from: dict[str, int] = {}
        """Bytes of what is there now, by source; those of an earlier run under ''."""

        self.alone = False
        """Whether bytes of different sources must not be mixed any more."""

        self.current: int | None = None
        """The source that was asked last."""

    def candidates(self) -> dict[int, Trial]:
        """Return whom to ask: the same one again as long as it gets on, if bytes must not be mixed."""
        if self.alone and self.current is not None and self.came_from:
            trial = self.trials[self.current]
            if not trial.over and trial.failures < _STAYS_FOR:
                return {self.current: trial}
        return self.trials

    def credit(self, source: str, done: int) -> None:
        """Put down to a source what was not there before."""
        gain = done - sum(self.came_from.values())
        if gain > 0:
            self.came_from[source] = self.came_from.get(source, 0) + gain

    def start_over(self) -> None:
        """Forget what is there."""
        self.came_from.clear()
        self.meter.at(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobFetch:
    """What it takes to fetch blobs; used by many threads."""

    staging: Staging
    stores: tuple[Store, ...]
    roster: Roster
    courier: Courier
    patience: Patience
    stall_seconds: float
    sure: bool
    settled: Settled
    on_event: OnEvent
    stop: threading.Event

    def advance(self, job: Job) -> float | None:
        """Set the job's result, or return when to go on if it has to wait; raises what stands in the blob's way."""
        with explain_os_errors(f"fetching {job.wanted}"):
            if not job.begun:
                job.begun = True
                if self._have(job):
                    return None
                self._prepare(job)
            while True:
                self._check()
                turn = self.roster.turn(job.candidates())
                if turn is None:
                    raise _nobody_has(job, self.roster)
                if turn.at > time.monotonic():
                    later = self.patience.wait_until(turn.at, _reasons(job, self.roster))
                    if later is None:
                        raise _nobody_has(job, self.roster)
                    return later
                if self._try(job, turn.source):
                    return None

    def _check(self, count: int = 0) -> None:
        if self.stop.is_set():
            raise FetchError("interrupted")

    def _have(self, job: Job) -> bool:
        """Look for the blob on this machine: in staging, then in the stores."""
        file = job.wanted.file
        if digest := self.staging.adopt(file, sure=self.sure):
            self._settle(job, digest, {"": file.size})
            return True
        copy = self.staging.copy(file.etag)
        for store in self.stores:
            for place in copies(store, job.wanted, copy, check=self._check):
                if digest := prove(copy, file, on_bytes=self._check):
                    self.staging.admit(copy, file)
                    self._settle(job, digest, {store.name: file.size})
                    return True
                if store.promises(place, job.wanted):
                    self.on_event(Noted(f"{place} has the size of {job.wanted}, and other bytes: it is not used"))
        copy.unlink(missing_ok=True)
        return False

    def _settle(self, job: Job, digest: Digest, came_from: dict[str, int]) -> None:
        self.staging.discard(job.wanted.file)
        self.patience.moved()
        job.meter.at(job.wanted.file.size)
        self.settled(job.wanted.file, digest, came_from)
        job.result.set_result(digest)

    def _prepare(self, job: Job) -> None:
        if not job.large:
            self.staging.discard(job.wanted.file)
        elif begun := self.staging.begun(job.wanted.file):
            job.came_from[""] = begun

    def _try(self, job: Job, number: int) -> bool:
        """Ask a source; False if it did not deliver, which is noted for the source and for the file."""
        asked_at, before = time.monotonic(), job.furthest
        try:
            start = _address(self.roster[number], job.wanted)
            if start is None:
                job.trials[number] = Trial(over=True)
                return False
            self._download(job, number, start, asked_at)
            self._take_in(job, self.roster[number])
            return True
        except SourceError as error:
            self._check()
            self.roster.failed(number, error, asked_at)
            job.errors[number] = error
            job.trials[number] = job.trials[number].failed(
                error.trouble, now=time.monotonic(), got_further=job.furthest > before
            )
            return False
        except _MixedError as error:
            self.on_event(Noted(str(error)))
            return False

    def _download(self, job: Job, number: int, start: Location, asked_at: float) -> None:
        name, file = self.roster[number].name, job.wanted.file
        if job.alone and set(job.came_from) - {name}:
            self.staging.discard(file)
            job.start_over()
        job.current = number
        watch = _Watch(self, job, number, asked_at)
        try:
            self.courier.bring(
                start, self.staging.part(file.etag), size=file.size, large=job.large, on_bytes=watch
            )
        finally:
            job.credit(name, job.meter.told)

    def _take_in(self, job: Job, source: Source) -> None:
        wanted, file, part = job.wanted, job.wanted.file, self.staging.part(job.wanted.file.etag)
        digest = prove(part, file, on_bytes=self._check)
        if digest is not None:
            self._check()
            self.staging.admit(part, file)
            self._settle(job, digest, job.came_from or {source.name: 0})
            return
        found, givers = _found(part, file), sorted(job.came_from)
        self.staging.discard(file)
        job.start_over()
        if len(givers) > 1:
            job.alone = True
            names = " and ".join(giver or "an earlier run" for giver in givers)
            raise _MixedError(f"{wanted} came from {names} and has {found}: fetching it again, from one at a time")
        raise SourceError(f"{wanted} has {found}, the lock says {file.etag}", Trouble.WRONG)


class _MixedError(Exception):
    """Wrong bytes, and nobody knows whose."""


class _Watch:
    """Follows one download: passes its progress on, and gives it up when it stands still or another would be faster."""

    def __init__(self, fetch: BlobFetch, job: Job, number: int, asked_at: float) -> None:
        self._fetch = fetch
        self._job = job
        self._number = number
        self._pace = Pace(fetch.stall_seconds)
        self._first: int | None = None
        self._served = False
        self._asked_at = asked_at
        self._look_at = asked_at + _LOOK_SECONDS

    def __call__(self, done: int) -> None:
        """Take notice of how many bytes are there."""
        fetch, job = self._fetch, self._job
        fetch._check()
        job.meter.at(done)
        if done > job.furthest:
            job.furthest = done
            fetch.patience.moved()
        self._first = done if self._first is None else self._first
        if done > self._first and not self._served:
            self._served = True
            fetch.roster.served(self._number, self._asked_at)
        now = time.monotonic()
        rate = self._pace.at(done, now)
        if rate is not None and now >= self._look_at and done < job.wanted.file.size:
            self._look_at = now + _LOOK_SECONDS
            self._judge(rate)

    def _judge(self, rate: float) -> None:
        fetch, job = self._fetch, self._job
        if rate == 0:
            raise SourceError(
                f"{job.wanted} stands still: no byte in {fetch.stall_seconds:,.0f} seconds", Trouble.BROKEN
            )
        if fetch.roster.too_slow(self._number, rate, job.trials):
            message = f"{job.wanted} comes with {rate:,.0f} bytes per second alone"
            fetch.on_event(Noted(f"{fetch.roster[self._number].name}: {message}; going on with another source"))
            raise SourceError(message, Trouble.SLOW)


def _address(source: Source, wanted: Wanted) -> Location | None:
    try:
        return source.address(wanted)
    except (SourceError, ProxyError):
        raise
    except FetchError as error:
        raise SourceError(str(error), Trouble.UNREACHABLE, hint=error.hint) from error


def _found(path: Path, file: LockedFile) -> str:
    size, hasher = hash_file(path, git=True)
    return f"{size:,} bytes and {hasher.sha256 if isinstance(file.etag, Digest) else hasher.git_oid}"


def _reasons(job: Job, roster: Roster) -> str:
    return "; ".join(f"{roster[number].name}: {error}" for number, error in sorted(job.errors.items()))


def _nobody_has(job: Job, roster: Roster) -> BundlerError:
    troubles = {error.trouble for error in job.errors.values()}
    if troubles == {Trouble.WRONG}:
        return WrongBytesError(
            str(list(job.errors.values())[-1]),
            hint="name another endpoint with `--endpoint`; if the lock is wrong, make it again with `bundle lock`",
        )
    hint = "run the same command again: what is whole is kept. Name another source with `--endpoint`"
    if Trouble.REFUSED in troubles:
        hint = (
            f"if {job.wanted.repo} is gated, accept its terms on {OFFICIAL_ENDPOINT}, then `hf auth login` or set "
            "HF_TOKEN: the token goes there and nowhere else"
        )
    reasons = _reasons(job, roster) or ("they all rest" if job.trials else "there is none")
    kind = AccessDeniedError if troubles == {Trouble.REFUSED} else NoSourceError
    return kind(f"no source delivers {job.wanted}: {reasons}", hint=hint)
