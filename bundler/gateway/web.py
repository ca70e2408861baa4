"""Plain HTTP: questions to endpoints, small files, and where large ones are.

A token goes to the origin it was given for. Redirects are followed here, one by one, and at the first that leaves the
origin the token stays behind.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urljoin

from urllib3 import BaseHTTPResponse, Timeout
from urllib3.exceptions import (
    ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError, ProtocolError, ReadTimeoutError, SSLError
)
from urllib3.exceptions import ProxyError as NoProxyError

from bundler import __version__
from bundler.errors import FetchError, ProxyError
from bundler.gateway.connections import Connections
from bundler.gateway.endpoint import Endpoint, origin
from bundler.gateway.proxies import Proxies, without_user
from bundler.gateway.trouble import SourceError, Trouble, trouble_of_status
from bundler.manifest import EndpointKind

CONNECT_SECONDS = 15.0
_TIMEOUTS = (CONNECT_SECONDS, 30.0)
"""Seconds to connect, and between two bytes."""

MAX_ANSWER_SIZE = 256 << 20
"""Bytes of an answer to a question. A million files are listed in less."""

_MAX_REDIRECTS = 8
_CHUNK_SIZE = 16 << 10
"""Small enough that a slow source is seen to be slow."""

_REDIRECTS = (301, 302, 303, 307, 308)
_PROXY_WANTS_A_USER = 407
_NO_HEAD = (400, 403, 405, 501)
"""What servers answer that know no HEAD, or do not want one."""

_IN_WORDS: dict[type[Exception], str] = {
    NameResolutionError: "no host of that name is known",
    NewConnectionError: "no connection",
    ConnectTimeoutError: "no connection in time",
    SSLError: "its certificate is not trusted, or it speaks no TLS",
    ReadTimeoutError: "no answer in time",
    ProtocolError: "the connection was cut",
}
"""The first that fits."""

_PLAIN_URL = re.compile(r"https?://[^/?#@\\\s]+([/?#]\S*)?\Z")
_NEXT_PAGE = re.compile(r'<([^<>]*)>[^<]*;\s*rel\s*=\s*"?next\b', re.IGNORECASE)
"""In a `Link` header (RFC 8288, 3), which may hold several links."""

_HEADERS = {"User-Agent": f"hf-bundler/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}


class StatusError(SourceError):
    """A server answered, but not with the file."""

    def __init__(self, url: str, status: int, *, redirected: bool, retry_after: float | None = None) -> None:
        trouble = trouble_of_status(status, redirected=redirected)
        super().__init__(f"{_without_query(url)} answered {status}", trouble, retry_after=retry_after)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A URL that gives a file's bytes now. It may expire: nothing but the bytes' digest is to be trusted."""

    url: str

    token: str | None = field(default=None, repr=False)
    """Needed there, and allowed there: the origin is the endpoint's own."""

    cookie: str = ""
    """Name of a cookie that holds the token as well, for servers that look for it there."""

    ca: Path | None = None
    """Certificates to trust besides the system's."""

    proxies: Proxies = Proxies()

    @classmethod
    def at(cls, endpoint: Endpoint, url: str) -> Location:
        """Return a URL of an endpoint's, with all that it takes to get there."""
        if origin(url) != origin(endpoint.url):
            raise ValueError(f"{_without_query(url)} is not of {endpoint.url}")
        cookie = "m_session_id" if endpoint.kind is EndpointKind.MODELSCOPE else ""
        return cls(url=url, token=endpoint.token, cookie=cookie, ca=endpoint.ca, proxies=endpoint.proxies)

    @property
    def proxy(self) -> str | None:
        """The proxy to use, None for none. Raises `ProxyError`."""
        return self.proxies.for_url(self.url)

    @property
    def headers(self) -> dict[str, str]:
        """What the server is told of the user."""
        if not self.token:
            return {}
        cookie = {"Cookie": f"{self.cookie}={self.token}"} if self.cookie else {}
        return {"Authorization": f"Bearer {self.token}", **cookie}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server says to a question, whatever its status."""

    status: int
    headers: Mapping[str, str]
    """By name, in any case."""

    body: bytes

    next_page: str | None
    """Where the `Link` header says that the answer goes on. May lead anywhere."""


class Web:
    """A pool of connections, safe to use from many threads."""

    def __init__(self, *, connections: int, timeouts: tuple[float, float] = _TIMEOUTS) -> None:
        self._connections = Connections(at_once=connections)
        self._timeout = Timeout(connect=timeouts[0], read=timeouts[1])
        self._closing = threading.Event()

    def __enter__(self) -> Web:
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._connections.close()

    def ask(self, location: Location, *, method: str = "GET", limit: int = MAX_ANSWER_SIZE) -> Answer:
        """Ask a question, following redirects; errors by status are answers too.

        Raises `FetchError` if there is no answer, or more than `limit` bytes of it.
        """
        with self._answer(method, location, any_status=True) as (answering, response):
            body = bytearray()
            for chunk in _chunks(response, answering.url):
                body += chunk
                if len(body) > limit:
                    raise FetchError(f"{_without_query(location.url)} answers with more than {limit:,} bytes")
            following = _NEXT_PAGE.search(response.headers.get("Link", ""))
            return Answer(
                status=response.status, headers=response.headers, body=bytes(body),
                next_page=following[1] if following else None,
            )

    def locate(self, start: Location) -> Location:
        """Follow redirects as far as the first that leaves the origin; its target may be signed for a GET alone.

        Raises `FetchError`; `StatusError` for no such file.
        """
        try:
            with self._answer("HEAD", start) as (location, _):
                return location
        except StatusError as error:
            if error.status not in _NO_HEAD:
                raise
        with self._answer("GET", start, asking="bytes=0-0", to_the_end=False) as (location, _):
            return location

    def download(self, start: Location, path: Path, *, size: int, on_bytes: Callable[[int], None]) -> None:
        """Write what a URL gives to `path`, going on behind the bytes that it has. Never more than `size` bytes.

        `on_bytes` is told how many are there, and may raise to give up. Raises `SourceError` if the line or the server
        failed, or the length is not `size`; what came stays in `path`.
        """
        done = path.stat().st_size if path.is_file() else 0
        done = done if done < size else 0
        with self._answer("GET", start, asking=f"bytes={done}-" if done else "") as (location, response):
            done = done if response.status == 206 else 0
            _check_length(location.url, response, size - done)
            self._check_open(start)
            with path.open("r+b" if done else "wb") as stream:
                stream.seek(done)
                stream.truncate()
                on_bytes(done)
                for chunk in _chunks(response, location.url):
                    done += len(chunk)
                    self._check_open(start)
                    if done > size:
                        raise _misfit(start.url, f"gave more than {size:,} bytes")
                    stream.write(chunk)
                    on_bytes(done)
        if done < size:
            raise SourceError(f"{_without_query(start.url)} gave only {done:,} of {size:,} bytes", Trouble.BROKEN)

    def explain(self, location: Location, *, size: int) -> None:
        """Ask for the first byte of a file of `size` bytes, and raise what is wrong with the answer."""
        with self._answer("GET", location, asking="bytes=0-0") as (_, response):
            _check_length(location.url, response, 1 if response.status == 206 else size)

    def _check_open(self, start: Location) -> None:
        if self._closing.is_set():
            raise FetchError(f"{_without_query(start.url)}: interrupted")

    @contextmanager
    def _answer(
        self, method: str, location: Location, *, asking: str = "", any_status: bool = False, to_the_end: bool = True
    ) -> Iterator[tuple[Location, BaseHTTPResponse]]:
        home = origin(location.url)
        for _ in range(_MAX_REDIRECTS):
            with closing(self._ask(method, location, asking)) as response:
                if response.status in _REDIRECTS and "location" in response.headers:
                    location = _next(location, response.headers["location"])
                    # A body that was read lets the connection be used again.
                    next(_chunks(response, location.url), b"")
                    if (method == "HEAD" or not to_the_end) and origin(location.url) != home:
                        yield location, response
                        return
                    continue
                if response.status == _PROXY_WANTS_A_USER and location.proxy:
                    raise _wants_a_user(location.proxy)
                if response.status not in (200, 206) and not any_status:
                    raise StatusError(
                        location.url, response.status, redirected=origin(location.url) != home,
                        retry_after=_retry_after(response.headers.get("Retry-After", "")),
                    )
                yield location, response
                return
        raise _misfit(location.url, "redirects without end")

    def _ask(self, method: str, location: Location, asking: str) -> BaseHTTPResponse:
        proxy = location.proxy
        try:
            return self._connections.to(location.url, ca=location.ca, proxy=proxy).request(
                method, location.url, headers=_HEADERS | location.headers | ({"Range": asking} if asking else {}),
                timeout=self._timeout, redirect=False, retries=False, preload_content=False,
            )
        except NoProxyError as error:
            raise _proxy_error(location.url, proxy or "", error) from error
        except ReadTimeoutError as error:  # it is there, and says nothing
            raise _line_error(location.url, error, Trouble.BROKEN) from error
        except (HTTPError, UnicodeError) as error:  # UnicodeError: a host's name that TLS cannot spell
            raise _line_error(location.url, error, Trouble.UNREACHABLE) from error


def _next(location: Location, target: str) -> Location:
    try:
        url = urljoin(location.url, target)
        stays = origin(url) == origin(location.url)
    except ValueError:
        url, stays = "", False
    if not _PLAIN_URL.match(url):
        raise _misfit(location.url, "redirects to what is not a plain http or https URL")
    return replace(location, url=url, token=location.token if stays else None)


def _chunks(response: BaseHTTPResponse, url: str) -> Iterator[bytes]:
    try:
        yield from response.stream(_CHUNK_SIZE, decode_content=True)
    except (HTTPError, ValueError) as error:  # ValueError: a chunk of less than no bytes
        raise _line_error(url, error, Trouble.BROKEN) from error


def _line_error(url: str, error: Exception, trouble: Trouble) -> SourceError:
    words = next((words for kind, words in _IN_WORDS.items() if isinstance(error, kind)), "it makes no sense")
    detail = f"{error} " if isinstance(error, SSLError) else ""
    return SourceError(f"{_without_query(url)}: {words} ({detail}{type(error).__name__})", trouble)


def _proxy_error(url: str, proxy: str, error: NoProxyError) -> FetchError:
    name, reason = without_user(proxy), str(error.original_error)
    if f" {_PROXY_WANTS_A_USER}" in reason:
        return _wants_a_user(proxy)
    if isinstance(error.original_error, (NewConnectionError, ConnectTimeoutError)):
        reason = "it cannot be reached"
    return SourceError(f"{_without_query(url)}: the proxy {name} does not help: {reason}", Trouble.UNREACHABLE)


def _wants_a_user(proxy: str) -> ProxyError:
    return ProxyError(
        f"the proxy {without_user(proxy)} wants a user and a password, or others than it was given (407)",
        hint="write them into its URL, as in `http://user:password@host:port`",
    )


def _misfit(url: str, what: str) -> SourceError:
    return SourceError(f"{_without_query(url)} {what}", Trouble.MISFIT)


def _check_length(url: str, response: BaseHTTPResponse, expected: int) -> None:
    """Refuse an answer of another length, where it tells its length, before it is read."""
    told = response.headers.get("Content-Length", "")[:20]  # so much is more than any file has
    if "Content-Encoding" in response.headers or not told.isdecimal() or int(told) == expected:
        return
    if "html" in response.headers.get("Content-Type", ""):
        raise SourceError(f"{_without_query(url)} gave a web page instead of the file", Trouble.PAGE)
    raise _misfit(url, f"offers {int(told):,} bytes where {expected:,} should come")


def _retry_after(text: str) -> float | None:
    """Read the header of RFC 9110, 10.2.3: seconds, or a date."""
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):  # no date, or one without a time zone
        return None


def _without_query(url: str) -> str:
    # A signed URL is a key: it does not belong into a log.
    return url.partition("?")[0]
