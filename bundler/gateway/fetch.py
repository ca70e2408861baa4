"""Lock to blobs in staging: many at once, each proven as it comes in, given out in the lock's order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bundler.digest import Digest, Etag
from bundler.errors import AccessDeniedError, BundlerError, FetchError
from bundler.format.blob_file import BlobFile
from bundler.gateway.blob_fetch import BlobFetch, Job
from bundler.gateway.certificates import merged_certificates
from bundler.gateway.courier import Courier
from bundler.gateway.downloader import Downloader
from bundler.gateway.jobs import Jobs
from bundler.gateway.line import Line
from bundler.gateway.local import Store, is_to_be_fetched
from bundler.gateway.patience import Patience
from bundler.gateway.roster import Roster
from bundler.gateway.sources import Source, Wanted
from bundler.gateway.staging import Staging
from bundler.gateway.web import CONNECT_SECONDS, Web
from bundler.lock import LockedFile
from bundler.progress import Finished, OnEvent, Phase, Started, ignore

_SMALL_JOBS = 32
"""Threads for small files, most of which wait for an answer."""

_HASHING = 2
"""More threads for large files than downloads run, so that some can hash."""

_NAMED = 4
"""So many more files are named, where many failed."""

_LEAVE_SECONDS = 5.0
"""How long the end waits for threads. They touch no file any more; one may still be making a connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """How hard the line may be used, and for how long to wait for it."""

    aria2c: Path | None = None
    """None for the one that is found, if anything large is to be fetched at all."""

    jobs: int = 4
    """Large files at once."""

    connections: int = 16
    """For each of them."""

    aria2_from: int = 8 << 20
    """Bytes. From here on a file is large and goes through aria2c; a smaller one costs less than its set-up."""

    rate_limit: int | None = None
    """Bytes per second, of all downloads together."""

    patience: float = 6 * 3600.0
    """Seconds without a single new byte after which what may yet recover is given up."""

    stall_seconds: float = 30.0
    """Without a byte for so long a download stands still; a look at its speed takes as long."""

    sure: bool = False
    """Read what is staged already once more, rather than leave its proof to whoever packs it."""

    def is_large(self, wanted: Wanted) -> bool:
        """Say whether a blob goes through aria2c."""
        return wanted.file.size >= max(1, self.aria2_from)


@dataclass(slots=True)
class FetchRecord:
    """What a fetch found out, to be read when it is over."""

    by_source: dict[str, int] = field(default_factory=dict)
    """Bytes that came from each source; of blobs that were staged already, under ''."""

    digests: dict[Etag, Digest] = field(default_factory=dict)
    """The SHA-256 of every blob that was proven."""

    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, file: LockedFile, digest: Digest, came_from: dict[str, int]) -> None:
        """Note that a blob is proven, and how many of its bytes came from where."""
        with self._lock:
            self.digests[file.etag] = digest
            for source, size in came_from.items():
                self.by_source[source] = self.by_source.get(source, 0) + size


@contextmanager
def fetching(
    blobs: tuple[Wanted, ...],
    sources: tuple[Source, ...],
    staging: Staging,
    options: FetchOptions,
    *,
    record: FetchRecord,
    stores: tuple[Store, ...] = (),
    on_event: OnEvent = ignore,
) -> Iterator[Iterator[BlobFile]]:
    """Fetch in the background; give the body every blob, in the order of `blobs`.

    All that comes in is proven. What is staged already was proven when it came, and is read again if `options.sure`.
    What `stores` on this machine have is copied, the rest comes from `sources`. A file that no source delivers does not
    stop the others: they are fetched, then its error is raised in its place. When the body is left, so is all
    fetching. The caller holds `staging` exclusively.
    """
    on_event(Started(Phase.FETCH, sum(wanted.file.size for wanted in blobs)))
    jobs = [Job(wanted, len(sources), large=options.is_large(wanted), on_event=on_event) for wanted in blobs]
    stop, line = threading.Event(), Line(options.rate_limit)
    with ExitStack() as stack:
        crew = stack.enter_context(_Crew())
        web = stack.enter_context(
            Web(connections=_SMALL_JOBS + options.jobs, timeouts=(CONNECT_SECONDS, options.stall_seconds))
        )
        downloader = stack.enter_context(
            Downloader(
                options.aria2c, staging.partial, jobs=options.jobs, line=line, certificates=_certificates(sources)
            )
        )
        stack.callback(stop.set)
        work = BlobFetch(
            staging=staging,
            stores=stores,
            roster=Roster(sources, on_event),
            courier=Courier(web, downloader, connections=options.connections, line=line, stop=stop),
            patience=Patience(options.patience, on_event),
            stall_seconds=options.stall_seconds,
            sure=options.sure,
            settled=record.note,
            on_event=on_event,
            stop=stop,
        )
        if any(job.large and is_to_be_fetched(job.wanted, staging, stores) for job in jobs):
            downloader.make_ready()
        crew.employ(Jobs(job for job in jobs if not job.large), work, threads=_SMALL_JOBS)
        crew.employ(Jobs(job for job in jobs if job.large), work, threads=options.jobs + _HASHING)
        yield _in_order(jobs, staging, on_event)


def _certificates(sources: tuple[Source, ...]) -> bytes:
    own = {source.ca for source in sources if source.ca is not None}
    return merged_certificates(sorted(own))


def _in_order(jobs: list[Job], staging: Staging, on_event: OnEvent) -> Iterator[BlobFile]:
    seen: set[Digest] = set()
    for job in jobs:
        try:
            digest = job.result.result()
        except (FetchError, AccessDeniedError):
            _finish_the_rest(jobs)
            raise
        if digest not in seen:
            seen.add(digest)
            file = job.wanted.file
            yield BlobFile(path=staging.blob(file.etag), sha256=digest, size=file.size)
    on_event(Finished(Phase.FETCH))


def _finish_the_rest(jobs: list[Job]) -> None:
    """Let the others come in: the next run then has only what failed left to do."""
    failures = {str(job.wanted): error for job in jobs if isinstance(error := job.result.exception(), BundlerError)}
    if len(failures) > 1:
        named = [*list(failures)[1:1 + _NAMED], *(["and so on"] if len(failures) > 1 + _NAMED else [])]
        first = next(iter(failures.values()))
        rest = "all others are staged" if len(failures) < len(jobs) else "none is left"
        first.hint = f"{len(failures):,} files failed ({', '.join(named)} as well), {rest}; {first.hint}"


class _Crew:
    """Threads that do jobs until there are none, or until the block is left."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._jobs: list[Jobs[Job]] = []

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *error: object) -> None:
        for jobs in self._jobs:
            jobs.close()
        deadline = time.monotonic() + _LEAVE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def employ(self, jobs: Jobs[Job], work: BlobFetch, *, threads: int) -> None:
        """Start on jobs, in order."""
        self._jobs.append(jobs)
        for _ in range(min(threads, len(jobs))):
            # A daemon: the process need not wait for a connection that does not come about.
            thread = threading.Thread(target=_do_all, args=(jobs, work), name="fetch", daemon=True)
            thread.start()
            self._threads.append(thread)


def _do_all(jobs: Jobs[Job], work: BlobFetch) -> None:
    while taken := jobs.take():
        number, job = taken
        try:
            later = work.advance(job)
        except BaseException as error:  # whatever it is, whoever waits for the result is told
            job.result.set_exception(error)
            later = None
        if later is None:
            jobs.done()
        else:
            jobs.put_off(number, later)
