"""Downloads through one aria2c daemon for many threads: each waits for its own file, the daemon may die."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

from bundler.errors import Aria2Error, FetchError, FileSystemError
from bundler.gateway.aria2 import Aria2Daemon
from bundler.gateway.aria2_values import Aria2Gone, Download, Failure, State, Status
from bundler.gateway.aria2c import find_aria2c
from bundler.gateway.line import Line
from bundler.gateway.trouble import SourceError, Trouble, trouble_of_status

_POLL_SECONDS, _LAST_POLL_SECONDS = 0.1, 0.005
"""Between two looks, and when a download is about to end."""

_TIMED_OUT, _NO_RANGES, _DISK_FULL = 2, 8, 9
_NO_CONNECTION = (1, 6, 19)
"""aria2's exit codes (aria2c manual, EXIT STATUS); 1, unknown, is what a failed TLS handshake gives."""

_LIVES = 5
"""How often a daemon is started again before its deaths are taken for a fault of this machine."""

Follow = Callable[[int], str | None]
"""Is told again and again how many bytes of a file are there. Returns a URL to use from now on, None for the same;
raises to give the download up."""


class DownloadFailedError(SourceError):
    """aria2 gave up on a file."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"aria2c says: {failure.text}", _trouble_of(failure))


def _trouble_of(failure: Failure) -> Trouble:
    # aria2 is given the last URL of a chain of redirects, which may be a signed one.
    if failure.http_status is not None:
        return trouble_of_status(failure.http_status, redirected=True)
    if failure.code == _NO_RANGES:
        return Trouble.MISFIT
    return Trouble.UNREACHABLE if failure.code in _NO_CONNECTION else Trouble.BROKEN


class Downloader:
    """A blocking `download` over an asynchronous daemon, which is started when first needed."""

    def __init__(
        self, aria2c: Path | None, folder: Path, *, jobs: int, line: Line, certificates: bytes | None = None
    ) -> None:
        """Start nothing yet, and look for no `aria2c` if it is None.

        `certificates`, in PEM, are to be trusted in place of the system's.
        """
        self._aria2c = aria2c
        self._found: Path | None = None
        self._folder = folder
        self._jobs = jobs
        self._line = line
        self._certificates = certificates
        self._trust_file = folder / "certificates.pem"
        self._daemon: Aria2Daemon | None = None
        self._limit = 0
        self._deaths = 0
        self._polls = 0
        self._pause = _POLL_SECONDS
        self._ready_early = False
        self._known: dict[str, Status] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._poller = threading.Thread(target=self._poll_until_closed, name="aria2-poll", daemon=True)

    def __enter__(self) -> Self:
        self._poller.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._poller.join()
        with self._changed:
            self._stop()
        self._trust_file.unlink(missing_ok=True)

    def make_ready(self) -> None:
        """Start the daemon in the background: something is going to be downloaded. Raises `Aria2MissingError`."""
        self._program()
        with self._changed:
            self._ready_early = True
            self._changed.notify_all()

    def download(self, wanted: Download, follow: Follow) -> None:
        """Fetch a file of the right size, going on where an earlier attempt ended; the bytes are not proven.

        Raises `DownloadFailedError`, what `follow` raises, and `Aria2Error` if no daemon stays alive.
        """
        while True:
            status, wanted = self._follow(wanted, follow)
            if status is None:
                self._bury()
                continue
            if status.error is None:
                follow(wanted.size)
                return
            if status.error.code == _DISK_FULL:
                raise FileSystemError(
                    f"{self._folder} is full", hint="free some space and run the same command again: it goes on"
                )
            if status.error.code != _NO_RANGES or wanted.connections == 1:
                raise DownloadFailedError(status.error)
            self.discard(wanted.name)
            wanted = replace(wanted, connections=1)

    def discard(self, name: str) -> None:
        """Delete what was fetched of a file."""
        for path in (self._folder / name, self._folder / f"{name}.aria2"):
            path.unlink(missing_ok=True)

    def _follow(self, wanted: Download, follow: Follow) -> tuple[Status | None, Download]:
        """Return how a download ended, None if its daemon is gone, and what to add to the next one."""
        try:
            daemon, gid = self._add(wanted)
            polls = -1
            while True:
                status, polls = self._next(daemon, gid, polls)
                if status.state in (State.COMPLETE, State.FAILED):
                    return status, wanted
                if status.state is State.ACTIVE and (url := self._told(daemon, gid, status, follow)):
                    self._replace(daemon, gid, wanted.urls[0], url)
                    wanted = replace(wanted, urls=(url,))
        except Aria2Gone:
            return None, wanted

    def _told(self, daemon: Aria2Daemon, gid: str, status: Status, follow: Follow) -> str | None:
        try:
            return follow(status.completed)
        except BaseException:
            self._cancel(daemon, gid)
            raise

    def _add(self, wanted: Download) -> tuple[Aria2Daemon, str]:
        with self._changed:
            if self._closing:
                raise FetchError(f"{wanted.name}: interrupted")
            if self._daemon is None:
                self._daemon = self._start()
            (gid,) = self._daemon.add([wanted])
            return self._daemon, gid

    def _start(self) -> Aria2Daemon:
        self._limit = self._line.aria2_limit()
        return Aria2Daemon(
            self._program(), self._folder, max_downloads=self._jobs, rate_limit=self._limit,
            ca_certificate=self._trusted(),
        ).__enter__()

    def _program(self) -> Path:
        self._found = self._found or find_aria2c(self._aria2c)
        return self._found

    def _trusted(self) -> Path | None:
        if self._certificates is None:
            return None
        self._trust_file.write_bytes(self._certificates)
        return self._trust_file

    def _next(self, daemon: Aria2Daemon, gid: str, polls: int) -> tuple[Status, int]:
        """Wait for news that are younger than poll number `polls`."""
        with self._changed:
            while True:
                if self._closing:
                    raise FetchError("interrupted")
                if self._daemon is not daemon:
                    raise Aria2Gone("the daemon of this download is gone")
                status = self._known.get(gid)
                if status is not None and self._polls > polls:
                    if status.state in (State.COMPLETE, State.FAILED):
                        del self._known[gid]
                    if status.state is State.COMPLETE:
                        self._deaths = 0
                    return status, self._polls
                self._changed.wait()

    def _replace(self, daemon: Aria2Daemon, gid: str, old: str, new: str) -> None:
        with self._changed:
            if self._daemon is daemon:
                daemon.replace_url(gid, old, new)

    def _cancel(self, daemon: Aria2Daemon, gid: str) -> None:
        with self._changed:
            if self._daemon is daemon and not self._closing:
                with suppress(Aria2Gone):
                    daemon.cancel(gid)
            self._known.pop(gid, None)

    def _poll_until_closed(self) -> None:
        with self._changed:
            while not self._closing:
                if self._ready_early and self._daemon is None:
                    with suppress(Aria2Error, OSError):  # whoever needs it tries again, and says what is wrong
                        self._daemon = self._start()
                self._ready_early = False
                if self._daemon is not None:
                    try:
                        self._poll(self._daemon)
                    except Aria2Error:
                        self._stop()
                    self._changed.notify_all()
                self._changed.wait(self._pause)

    def _poll(self, daemon: Aria2Daemon) -> None:
        statuses = daemon.poll()
        self._known.update((status.gid, status) for status in statuses)
        self._polls += 1
        active = [status for status in statuses if status.state is State.ACTIVE]
        soonest = min((status.seconds_left for status in active), default=_POLL_SECONDS)
        self._pause = min(max(soonest, _LAST_POLL_SECONDS), _POLL_SECONDS)
        if active:
            limit = self._line.aria2_limit()
            if limit != self._limit:
                daemon.limit_rate(limit)
                self._limit = limit

    def _bury(self) -> None:
        with self._changed:
            if self._daemon is not None and not self._daemon.alive:
                self._stop()
            self._deaths += 1
            if self._deaths > _LIVES * self._jobs:
                raise Aria2Error("aria2c dies again and again", hint="look at this machine's memory and logs")

    def _stop(self) -> None:
        if self._daemon is not None:
            self._daemon.__exit__(None, None, None)
            self._daemon = None
            self._known.clear()
