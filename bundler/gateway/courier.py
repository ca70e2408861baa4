"""One download from one source: small files through the HTTP pool, large ones through aria2."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bundler.errors import FetchError
from bundler.gateway.aria2_values import Download
from bundler.gateway.downloader import Downloader, DownloadFailedError
from bundler.gateway.line import Line
from bundler.gateway.links import renew_after
from bundler.gateway.staging import control_of
from bundler.gateway.trouble import Trouble
from bundler.gateway.web import Location, Web

_UNCLEAR = (Trouble.BUSY, Trouble.BROKEN, Trouble.MISFIT)
"""Of what aria2 tells, where the server's own answer says more: for how long it is busy, what it gives instead."""

_RENEW_AGAIN = 30.0
"""Seconds after which a link is asked for again that could not be renewed."""

OnBytes = Callable[[int], None]
"""Is told how many bytes of a file are there; raises to give the download up."""


class Courier:
    """Brings the bytes of a file; safe to use from many threads, each with a file of its own."""

    def __init__(
        self, web: Web, downloader: Downloader, *, connections: int, line: Line, stop: threading.Event
    ) -> None:
        self._web = web
        self._downloader = downloader
        self._connections = connections
        self._line = line
        self._stop = stop

    def bring(self, start: Location, path: Path, *, size: int, large: bool, on_bytes: OnBytes) -> None:
        """Bring a file to `path`, going on behind what is there. The bytes are not proven.

        Raises `SourceError`; what came stays, to be gone on with from this source or another one.
        """
        if large:
            link = _Link(self._web, start)
            if not link.location.token:
                self._by_aria2(link, path, size, on_bytes)
                return
            # Only Python may know a token: aria2 would pass it on.
            start = link.location
        self._by_pool(start, path, size, on_bytes)

    def _by_pool(self, start: Location, path: Path, size: int, on_bytes: OnBytes) -> None:
        if control_of(path).exists():
            # What aria2 has left has holes.
            self._downloader.discard(path.name)
        paid = path.stat().st_size if path.is_file() else 0

        def pay(done: int) -> None:
            nonlocal paid
            on_bytes(done)
            self._stop.wait(self._line.take(max(0, done - paid)))
            paid = done

        self._web.download(start, path, size=size, on_bytes=pay)

    def _by_aria2(self, link: _Link, path: Path, size: int, on_bytes: OnBytes) -> None:
        def follow(done: int) -> str | None:
            on_bytes(done)
            return link.renewed() if done < size else None

        location = link.location
        download = Download(
            name=path.name, size=size, urls=(location.url,), connections=self._connections, proxy=location.proxy
        )
        try:
            self._downloader.download(download, follow)
        except DownloadFailedError as error:
            if error.trouble in _UNCLEAR:
                self._web.explain(link.location, size=size)
            raise


class _Link:
    """Where the bytes are, found anew before a signed URL dies."""

    def __init__(self, web: Web, start: Location) -> None:
        self._web = web
        self._start = start
        self.location = web.locate(start)
        self._renew_at = time.monotonic() + renew_after(self.location.url, datetime.now(UTC))

    def renewed(self) -> str | None:
        """Return a fresh URL if it is time for one."""
        if time.monotonic() < self._renew_at or self.location.url == self._start.url:
            return None
        try:
            fresh = self._web.locate(self._start)
        except FetchError:
            # The old one may do for the rest; if not, aria2 will say so.
            self._renew_at = time.monotonic() + _RENEW_AGAIN
            return None
        self._renew_at = time.monotonic() + renew_after(fresh.url, datetime.now(UTC))
        if fresh.token or fresh.url == self.location.url:
            return None
        self.location = fresh
        return fresh.url
