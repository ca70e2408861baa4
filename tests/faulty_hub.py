"""A hub with faults on demand: everything that mirrors, proxies and lines do to a download, done for real.

    hub.fail(Corrupt(at=1000), path="model.safetensors", times=2)
    hub.fail(Status(code=429, retry_after=1), path="/api/*", times=1)

A fault says what happens to an answer; `FaultyHubServer.fail` says to which ones.
"""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Protocol

from bundler.demo.hub import Content, Hub, InMemory
from bundler.demo.messages import Host, Request, Response
from bundler.demo.server import Exchange, HubServer

Pause = Callable[[float], object]
"""Sleeps for a number of seconds, or until the server stops."""

Alter = Callable[[Iterator[bytes], int], Iterator[bytes]]
"""Spoils chunks on their way out; the number is the offset of the first one in the file."""

_PAGE = b"<!DOCTYPE html><html><body><h1>Please log in to the network</h1></body></html>"


class Fault(Protocol):
    """Something that goes wrong with an answer."""

    def hits(self, request: Request, response: Response) -> bool:
        """Say whether it makes a difference here; where it does not, it is not used up."""

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        """Return what is answered instead. A `ConnectionError` closes the connection without a word."""


class _Always:
    def hits(self, request: Request, response: Response) -> bool:
        return True


class _Delivery:
    """For faults that need the bytes of a file or a listing, not a redirect or an error."""

    def hits(self, request: Request, response: Response) -> bool:
        return _delivers(request, response)


def _delivers(request: Request, response: Response) -> bool:
    return response.status == 200 and request.method == "GET"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Altered:
    whole: Content
    alter: Alter

    @property
    def size(self) -> int:
        return self.whole.size

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        return self.alter(self.whole.chunks(start, stop), start)


def altered(response: Response, alter: Alter) -> Response:
    """Return an answer whose bytes are spoiled on their way out."""
    return replace(response, content=_Altered(whole=response.content, alter=alter))


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(_Always):
    """An error instead of an answer, such as 403, 404, 429, 500 or 503."""

    code: int
    retry_after: int | None = None
    """Seconds; None leaves the header out."""

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return Response(status=self.code, headers=headers, content=InMemory(raw=b"no"))


@dataclass(frozen=True, slots=True, kw_only=True)
class HtmlPage(_Always):
    """A page for people with status 200, as a captive portal or a proxy gives."""

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        return Response(status=200, headers={"Content-Type": "text/html"}, content=InMemory(raw=_PAGE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers(_Always):
    """Headers that are changed, or missing where the value is None."""

    change: Mapping[str, str | None]

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        changed = {**response.headers, **self.change}
        kept = {name: value for name, value in changed.items() if value is not None}
        return replace(response, headers=kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRange:
    """Always the whole file, whatever range was asked for."""

    def hits(self, request: Request, response: Response) -> bool:
        return "Accept-Ranges" in response.headers

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        return Headers(change={"Accept-Ranges": None}).spoil(request, response, pause)


@dataclass(frozen=True, slots=True, kw_only=True)
class Late(_Always):
    """A server that thinks before it answers."""

    seconds: float

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        pause(self.seconds)
        return response


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrupt(_Delivery):
    """One byte that is not the one that was published."""

    at: int
    """Offset in the file. A range without it stays as it is (and counts)."""

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        return altered(response, self._alter)

    def _alter(self, chunks: Iterator[bytes], start: int) -> Iterator[bytes]:
        for chunk in chunks:
            here = self.at - start
            if 0 <= here < len(chunk):
                chunk = chunk[:here] + bytes([chunk[here] ^ 0xFF]) + chunk[here + 1:]
            yield chunk
            start += len(chunk)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut(_Delivery):
    """A connection that ends in the middle of a body."""

    after: int
    """Bytes of this answer's body that still go out."""

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        return altered(response, self._alter)

    def _alter(self, chunks: Iterator[bytes], start: int) -> Iterator[bytes]:
        return _first(chunks, self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang:
    """A connection that stays open and says nothing more."""

    after: int | None = None
    """Bytes of the body that go out before; None stands for silence instead of any answer."""

    def hits(self, request: Request, response: Response) -> bool:
        return self.after is None or _delivers(request, response)

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        after = self.after
        if after is None:
            pause(3600)
            raise ConnectionAbortedError("the server stops")

        def alter(chunks: Iterator[bytes], start: int) -> Iterator[bytes]:
            yield from _first(chunks, after)
            pause(3600)

        return altered(response, alter)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongSize:
    """A file that is longer or shorter than the listing says, and consistent in itself."""

    by: int

    def hits(self, request: Request, response: Response) -> bool:
        return response.status == 200

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        return replace(response, content=InMemory(raw=_resized(response.content, self.by)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Gzipped:
    """A body that a proxy has compressed although nobody asked for it."""

    def hits(self, request: Request, response: Response) -> bool:
        return response.status == 200

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        raw = gzip.compress(_resized(response.content, 0), mtime=0)
        headers = {**response.headers, "Content-Encoding": "gzip"}
        headers.pop("Accept-Ranges", None)
        return replace(response, headers=headers, content=InMemory(raw=raw))


class _Line:
    """A line that carries so many bytes per second, whoever uses it."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._free_at = 0.0

    def book(self, count: int) -> float:
        """Take room for `count` bytes, and return after how many seconds they are through."""
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + count / self._rate
            return self._free_at - now


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow(_Delivery):
    """A limit for each answer, and so for each connection."""

    rate: float
    """Bytes per second."""

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        return _through(response, _Line(self.rate), self.rate, pause)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedLine(_Delivery):
    """A limit for all answers together."""

    rate: float
    """Bytes per second."""

    line: _Line = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "line", _Line(self.rate))

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        return _through(response, self.line, self.rate, pause)


def _through(response: Response, line: _Line, rate: float, pause: Pause) -> Response:
    piece_size = max(1, int(rate / 50))

    def alter(chunks: Iterator[bytes], start: int) -> Iterator[bytes]:
        for chunk in chunks:
            for offset in range(0, len(chunk), piece_size):
                piece = chunk[offset:offset + piece_size]
                pause(line.book(len(piece)))
                yield piece

    return altered(response, alter)


def _first(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk[:count]
        count -= len(chunk)
        if count <= 0:
            return


def _resized(content: Content, by: int) -> bytes:
    whole = b"".join(content.chunks(0, content.size))
    return whole[:by] if by < 0 else whole + bytes(by)


def matches(path: str, host: Host | None, method: str | None, seen: Request | Exchange) -> bool:
    """Say whether a request is meant: `path` is a pattern for the whole path from `/`, else for its end."""
    pattern = path if path.startswith("/") else f"*/{path}"
    return fnmatchcase(seen.path, pattern) and host in (None, seen.host) and method in (None, seen.method)


@dataclass(slots=True, kw_only=True)
class _Rule:
    fault: Fault
    path: str
    host: Host | None
    method: str | None
    left: float

    def takes(self, request: Request, response: Response) -> bool:
        """Say whether the fault strikes here, and count it."""
        meant = matches(self.path, self.host, self.method, request)
        if self.left <= 0 or not meant or not self.fault.hits(request, response):
            return False
        self.left -= 1
        return True


class FaultyHubServer(HubServer):
    """A hub server with its content at hand (`publish`, `tag`, `gate`) and faults on demand."""

    def __init__(self, hub: Hub | None = None, *, prefix: str = "", cdn: bool = True) -> None:
        super().__init__(hub, prefix=prefix, cdn=cdn)
        self.publish = self.hub.publish
        self.tag = self.hub.tag
        self.gate = self.hub.gate
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()

    def fail(
        self, fault: Fault, *, path: str = "*", host: Host | None = None, method: str | None = None,
        times: float = float("inf"),
    ) -> None:
        """Let `fault` strike the next `times` requests that it can make a difference to.

        `path` is a shell pattern for the end of the URL's path (`model.safetensors`, `*.json`), for all of it
        if it starts with `/`; the hub's URL of a file and the CDN's both end with the file's path. Faults are
        applied in the order in which they were asked for.
        """
        with self._lock:
            self._rules.append(_Rule(fault=fault, path=path, host=host, method=method, left=times))

    def heal(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._rules.clear()

    def expire_links(self) -> None:
        """Make every signed link that was given so far worthless: 403 from the CDN."""
        self.cdn.generation += 1

    def asked(
        self, path: str = "*", *, host: Host | None = None, method: str | None = None,
    ) -> tuple[Exchange, ...]:
        """Return the requests that are meant, in order; the arguments are those of `fail`."""
        return tuple(seen for seen in self.requests if matches(path, host, method, seen))

    def answer(self, request: Request) -> Response:
        """Answer truly, then let the faults have their way."""
        response = super().answer(request)
        with self._lock:
            rules = list(self._rules)
        for rule in rules:
            with self._lock:
                strikes = rule.takes(request, response)
            if strikes:
                response = rule.fault.spoil(request, response, self.stopped.wait)
        return response
