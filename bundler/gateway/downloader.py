"""Downloads through one aria2c daemon for many threads: each waits for its own file, the daemon may die."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Self

from bundler.errors import Aria2Error, FetchError, FileSystemError
from bundler.gateway.aria2 import Aria2Daemon, Aria2Gone, Download, Failure, State, Status
from bundler.progress import Meter

_POLL_SECONDS = 0.25
_DISK_FULL, _NO_RANGES = 9, 8
"""aria2's exit codes (aria2c manual, EXIT STATUS)."""

_LIVES = 5
"""How often a daemon is started again before its deaths are taken for a fault of this machine."""


class DownloadFailedError(FetchError):
    """aria2 gave up on a file."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"aria2c says: {failure.text}")
        self.failure = failure


class Downloader:
    """A blocking `download` over an asynchronous daemon, which is started when first needed."""

    def __init__(self, aria2c: Path, folder: Path, *, jobs: int) -> None:
        self._aria2c = aria2c
        self._folder = folder
        self._jobs = jobs
        self._daemon: Aria2Daemon | None = None
        self._deaths = 0
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

    def download(self, wanted: Download, meter: Meter) -> None:
        """Fetch a file of the right size, going on where an earlier attempt ended; the bytes are not proven.

        Raises `DownloadFailedError`; `Aria2Error` if no daemon stays alive.
        """
        while True:
            try:
                status = self._wait(self._add(wanted), meter)
            except Aria2Gone:
                self._bury()
                continue
            if status.error is None:
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

    def _add(self, wanted: Download) -> tuple[Aria2Daemon, str]:
        with self._changed:
            if self._closing:
                raise FetchError(f"{wanted.name}: interrupted")
            if self._daemon is None:
                daemon = Aria2Daemon(self._aria2c, self._folder, max_downloads=self._jobs)
                self._daemon = daemon.__enter__()
            (gid,) = self._daemon.add([wanted])
            return self._daemon, gid

    def _wait(self, added: tuple[Aria2Daemon, str], meter: Meter) -> Status:
        daemon, gid = added
        with self._changed:
            while True:
                status = self._known.get(gid)
                if status is not None:
                    meter.at(status.completed)
                    if status.state in (State.COMPLETE, State.FAILED):
                        return self._known.pop(gid)
                if self._closing:
                    raise FetchError("interrupted")
                if self._daemon is not daemon:
                    raise Aria2Gone("the daemon of this download is gone")
                self._changed.wait()

    def _poll_until_closed(self) -> None:
        with self._changed:
            while not self._closing:
                if self._daemon is not None:
                    try:
                        self._known.update((status.gid, status) for status in self._daemon.poll())
                    except Aria2Error:
                        self._stop()
                    self._changed.notify_all()
                self._changed.wait(_POLL_SECONDS)

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
