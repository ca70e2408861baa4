"""Lock to proven blobs in staging: many at once, given out in the lock's order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundler.digest import Digest, Etag, hash_file
from bundler.errors import Aria2Error, BundlerError, FetchError, NoSourceError, WrongBytesError
from bundler.format.split import ProvenBlob
from bundler.fsio import explain_os_errors
from bundler.gateway.aria2 import Download
from bundler.gateway.downloader import DownloadFailedError, Downloader
from bundler.gateway.sources import Source, Wanted
from bundler.gateway.staging import Staging, prove
from bundler.gateway.web import Location, StatusError, Web
from bundler.lock import LockedFile
from bundler.manifest import OFFICIAL_ENDPOINT
from bundler.progress import Finished, Meter, Noted, OnEvent, Phase, Started, ignore

_SMALL_JOBS = 16
_ROUNDS = 3
_PAUSE = 1.0
"""Seconds before a source that got somewhere is asked to go on, and before a second round over all of them; four times
as long before each further round."""

_TRIES_OF_WRONG_BYTES = 2
_FINAL = (401, 403, 404, 410)
"""Statuses that asking again does not mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """How hard the line may be used."""

    aria2c: Path

    jobs: int = 4
    """Large files at once."""

    connections: int = 16
    """For each of them."""

    aria2_from: int = 8 << 20
    """Bytes. From here on a file is large and goes through aria2c; a smaller one costs less than its set-up."""

    def is_large(self, wanted: Wanted) -> bool:
        """Say whether a blob goes through aria2c."""
        return wanted.file.size >= max(1, self.aria2_from)


class FetchRecord:
    """What a fetch found out, to be read when it is over."""

    def __init__(self) -> None:
        self.by_source: dict[str, int] = {}
        """Bytes that came from each source; of blobs that were staged already, under ''."""

        self.digests: dict[Etag, Digest] = {}
        """The SHA-256 of every blob that was proven."""

        self._lock = threading.Lock()

    def note(self, file: LockedFile, digest: Digest, source: str) -> None:
        """Note that a blob is proven, and where it came from."""
        with self._lock:
            self.by_source[source] = self.by_source.get(source, 0) + file.size
            self.digests[file.etag] = digest


@contextmanager
def fetching(
    blobs: tuple[Wanted, ...],
    sources: tuple[Source, ...],
    staging: Staging,
    options: FetchOptions,
    *,
    record: FetchRecord,
    on_event: OnEvent = ignore,
) -> Iterator[Iterator[ProvenBlob]]:
    """Fetch in the background; give the body every blob, proven in this run, in the order of `blobs`.

    A file that no source delivers does not stop the others: they are fetched, then its error is raised in its place.
    When the body is left, so is all fetching. The caller holds `staging` exclusively.
    """
    on_event(Started(Phase.FETCH, sum(wanted.file.size for wanted in blobs)))
    stop = threading.Event()
    with ExitStack() as stack:
        pools = stack.enter_context(_Pools(options.jobs))
        web = stack.enter_context(Web(connections=_SMALL_JOBS + options.jobs))
        downloader = stack.enter_context(Downloader(options.aria2c, staging.partial, jobs=options.jobs))
        stack.callback(stop.set)
        work = _Fetch(
            sources=sources, staging=staging, options=options, record=record, web=web, downloader=downloader, stop=stop
        )
        yield _in_order(blobs, pools.submit_all(blobs, work, on_event), staging, on_event)


def _in_order(
    blobs: tuple[Wanted, ...], results: list[Future[Digest]], staging: Staging, on_event: OnEvent
) -> Iterator[ProvenBlob]:
    seen: set[Digest] = set()
    for wanted, result in zip(blobs, results):
        try:
            digest = result.result()
        except FetchError:
            _finish_the_rest(results)
            raise
        if digest not in seen:
            seen.add(digest)
            yield ProvenBlob(path=staging.blob(wanted.file.etag), sha256=digest, size=wanted.file.size)
    on_event(Finished(Phase.FETCH))


def _finish_the_rest(results: list[Future[Digest]]) -> None:
    """Let the others come in: the next run then has only what failed left to do."""
    failures = [error for error in (result.exception() for result in results) if isinstance(error, BundlerError)]
    if len(failures) > 1:
        failures[0].hint = f"{len(failures):,} files failed; all others are staged. {failures[0].hint}".strip()


class _Pools:
    """Threads for small files, and for large ones; a few more than downloads run, so that some can hash."""

    def __init__(self, jobs: int) -> None:
        self._small = ThreadPoolExecutor(max_workers=_SMALL_JOBS, thread_name_prefix="small")
        self._large = ThreadPoolExecutor(max_workers=jobs + 2, thread_name_prefix="large")

    def __enter__(self) -> _Pools:
        return self

    def __exit__(self, *error: object) -> None:
        for pool in (self._small, self._large):
            pool.shutdown(wait=True, cancel_futures=True)

    def submit_all(self, blobs: tuple[Wanted, ...], work: _Fetch, on_event: OnEvent) -> list[Future[Digest]]:
        """Start on all blobs, in order."""
        return [
            (self._large if work.options.is_large(wanted) else self._small).submit(work.fetch, wanted, on_event)
            for wanted in blobs
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetch:
    """One blob after another, from whichever source gives its true bytes."""

    sources: tuple[Source, ...]
    staging: Staging
    options: FetchOptions
    record: FetchRecord
    web: Web
    downloader: Downloader
    stop: threading.Event

    def fetch(self, wanted: Wanted, on_event: OnEvent) -> Digest:
        """Return the SHA-256 of a blob that stands in staging, proven."""
        meter = Meter(Phase.FETCH, on_event)
        source = ""
        with explain_os_errors(f"fetching {wanted}"):
            digest = self.staging.adopt(wanted.file)
            if digest is None:
                digest, source = self._fetch_from_any(wanted, meter, on_event)
        meter.at(wanted.file.size)
        self.record.note(wanted.file, digest, source)
        return digest

    def _fetch_from_any(self, wanted: Wanted, meter: Meter, on_event: OnEvent) -> tuple[Digest, str]:
        wrong = 0
        failures: dict[str, FetchError] = {}
        for source in self._rounds(failures):
            start = source.address(wanted)
            if start is None:
                continue
            try:
                return self._fetch_once(wanted, start, meter), source.name
            except WrongBytesError as error:
                on_event(Noted(f"{source.name}: {error}"))
                failures[source.name] = error
                wrong += 1
                meter.at(0)
                if wrong >= max(_TRIES_OF_WRONG_BYTES, len(self.sources)):
                    raise
            except Aria2Error:
                # Not the source's fault, nor would another one help.
                raise
            except FetchError as error:
                failures[source.name] = error
        raise _nobody_has(wanted, failures)

    def _rounds(self, failures: dict[str, FetchError]) -> Iterator[Source]:
        """Yield the sources in order, then again after a pause those that may have recovered."""
        for number in range(_ROUNDS):
            hopeful = [source for source in self.sources if not _is_final(failures.get(source.name))]
            if number and hopeful:
                self.stop.wait(_PAUSE * 4 ** (number - 1))
            for source in hopeful:
                if not self.stop.is_set():
                    yield source

    def _fetch_once(self, wanted: Wanted, start: Location, meter: Meter) -> Digest:
        file = wanted.file
        staged = self._download_on(wanted, start, meter)
        digest = prove(staged, file)
        if digest is None:
            found = _found(staged, file)
            self.downloader.discard(staged.name)
            raise WrongBytesError(
                f"{wanted} has {found}, the lock says {file.etag}",
                hint="name another endpoint with `--endpoint`; if the lock is wrong, make it again with `bundle lock`",
            )
        self.staging.admit(staged, file)
        return digest

    def _download_on(self, wanted: Wanted, start: Location, meter: Meter) -> Path:
        """Download, and go on after a failure for as long as each attempt gets further: lines drop, links expire."""
        path = self.staging.partial / f"{wanted.file.etag}.part"
        if not self.options.is_large(wanted):
            path.unlink(missing_ok=True)
            meter.at(0)
        reached = meter.told
        while True:
            try:
                self._download(wanted, start, path, meter)
                return path
            except Aria2Error:
                raise
            except FetchError:
                if meter.told <= reached or self.stop.wait(_PAUSE):
                    raise
                reached = meter.told

    def _download(self, wanted: Wanted, start: Location, path: Path, meter: Meter) -> None:
        size = wanted.file.size
        if not self.options.is_large(wanted):
            self.web.download(start, path, size=size, meter=meter)
            return
        location = self.web.locate(start)
        if location.token:
            # Only Python may know a token; aria2 would pass it on.
            self.web.download(location, path, size=size, meter=meter)
            return
        download = Download(name=path.name, size=size, urls=(location.url,), connections=self.options.connections)
        self.downloader.download(download, meter)


def _is_final(error: FetchError | None) -> bool:
    # A link that the hub gave may expire on the way: asking for a fresh one mends a 403 there.
    if isinstance(error, DownloadFailedError):
        return error.failure.http_status in _FINAL and error.failure.http_status != 403
    if isinstance(error, StatusError):
        return error.status in _FINAL and not (error.status == 403 and error.redirected)
    return False


def _found(path: Path, file: LockedFile) -> str:
    size, hasher = hash_file(path, git=True)
    return f"{size:,} bytes and {hasher.sha256 if isinstance(file.etag, Digest) else hasher.git_oid}"


def _nobody_has(wanted: Wanted, failures: dict[str, FetchError]) -> NoSourceError:
    reasons = "; ".join(f"{name}: {error}" for name, error in failures.items())
    hint = "run the same command again: what is whole is kept. Name another source with `--endpoint`"
    if any(isinstance(error, StatusError) and error.status in (401, 403) for error in failures.values()):
        hint = (
            f"if {wanted.repo} is gated, accept its terms on {OFFICIAL_ENDPOINT}, then `hf auth login` or set "
            "HF_TOKEN: the token goes there and nowhere else"
        )
    return NoSourceError(f"no source delivers {wanted}: {reasons or 'there is none'}", hint=hint)
