"""Plain HTTP for small files and for finding out where large ones are. The only module that imports requests.

A token goes to the origin it was given for. Redirects are followed here, one by one, and at the first that leaves the
origin the token stays behind; no token ever comes from `~/.netrc`, and no cookie is kept.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter

from bundler.errors import FetchError
from bundler.gateway.endpoint import origin
from bundler.progress import Meter

_TIMEOUTS = (15.0, 30.0)
"""Seconds to connect, and between two bytes."""

_MAX_REDIRECTS = 8
_CHUNK_SIZE = 1 << 16
_REDIRECTS = (301, 302, 303, 307, 308)
_NO_HEAD = (405, 501)
_PLAIN_URL = re.compile(r"https?://[^/?#@\\\s]+([/?#]\S*)?\Z")


class StatusError(FetchError):
    """A server answered, but not with the file."""

    def __init__(self, url: str, status: int, *, redirected: bool) -> None:
        super().__init__(f"{_without_query(url)} answered {status}")
        self.status = status

        self.redirected = redirected
        """Whether another origin said so than the one that was asked first: its links may expire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A URL that gives a file's bytes now. It may expire: nothing but the bytes' digest is to be trusted."""

    url: str

    token: str | None = None
    """Needed there, and allowed there: the origin is the endpoint's own."""


class _Session(requests.Session):
    """Takes a redirect for an answer: else requests would parse it, and read all that comes with it."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """See no redirect."""


class Web:
    """A pool of connections, safe to use from many threads."""

    def __init__(self, *, connections: int) -> None:
        self._closing = threading.Event()
        self._session = _Session()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers["Accept-Encoding"] = "identity"
        # Something callable keeps requests from looking into ~/.netrc.
        self._session.auth = lambda request: request
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=8, pool_maxsize=connections))

    def __enter__(self) -> Web:
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._session.close()

    def locate(self, start: Location) -> Location:
        """Follow redirects as far as the first that leaves the origin; its target may be signed for a GET alone.

        Raises `FetchError`; `StatusError` for no such file.
        """
        try:
            with self._answer("HEAD", start) as (location, _):
                return location
        except StatusError as error:
            if error.status in _NO_HEAD:
                return start
            raise

    def download(self, start: Location, path: Path, *, size: int, meter: Meter) -> None:
        """Write what a URL gives to `path`, going on behind the bytes that it has. Never more than `size` bytes.

        Raises `FetchError` if the line or the server failed, or the length is not `size`; what came stays in `path`.
        """
        done = path.stat().st_size if path.is_file() else 0
        done = done if done < size else 0
        with self._answer("GET", start, from_byte=done) as (_, response), path.open("r+b" if done else "wb") as stream:
            if response.status_code != 206:
                done = 0
            stream.seek(done)
            stream.truncate()
            for chunk in _chunks(response):
                done += len(chunk)
                if done > size:
                    break
                if self._closing.is_set():
                    raise FetchError(f"{_without_query(start.url)}: interrupted")
                stream.write(chunk)
                meter.at(done)
        if done != size:
            raise FetchError(f"{_without_query(start.url)} gave {'more' if done > size else 'only'} "
                             f"{size if done > size else done:,} of {size:,} bytes")

    @contextmanager
    def _answer(
        self, method: str, location: Location, *, from_byte: int = 0
    ) -> Iterator[tuple[Location, requests.Response]]:
        home = origin(location.url)
        for _ in range(_MAX_REDIRECTS):
            response = self._ask(method, location, from_byte)
            with response:
                if response.status_code in _REDIRECTS and "location" in response.headers:
                    location = _next(location, response.headers["location"])
                    # A body that was read lets the connection be used again.
                    next(_chunks(response), b"")
                    if method == "HEAD" and origin(location.url) != home:
                        yield location, response
                        return
                    continue
                if response.status_code not in (200, 206):
                    raise StatusError(location.url, response.status_code, redirected=origin(location.url) != home)
                yield location, response
                return
        raise FetchError(f"{_without_query(location.url)} redirects without end")

    def _ask(self, method: str, location: Location, from_byte: int) -> requests.Response:
        headers = {"Authorization": f"Bearer {location.token}"} if location.token else {}
        if from_byte:
            headers["Range"] = f"bytes={from_byte}-"
        try:
            return self._session.request(
                method, location.url, headers=headers, stream=True, allow_redirects=False, timeout=_TIMEOUTS
            )
        except requests.RequestException as error:
            raise _line_error(location.url, error) from error


def _next(location: Location, target: str) -> Location:
    try:
        url = urljoin(location.url, target)
        stays = origin(url) == origin(location.url)
    except ValueError:
        url, stays = "", False
    if not _PLAIN_URL.match(url):
        raise FetchError(f"{_without_query(location.url)} redirects to what is not a plain http or https URL")
    return Location(url=url, token=location.token if stays else None)


def _chunks(response: requests.Response) -> Iterator[bytes]:
    try:
        yield from response.iter_content(_CHUNK_SIZE)
    except requests.RequestException as error:
        raise _line_error(response.url, error) from error


def _line_error(url: str, error: Exception) -> FetchError:
    return FetchError(f"{_without_query(url)}: {type(error).__name__}")


def _without_query(url: str) -> str:
    # A signed URL is a key: it does not belong into a log.
    return url.partition("?")[0]
