"""What is asked of aria2 and what it tells: plain values, which never hold what aria2 must not see."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from bundler.digest import parse_etag
from bundler.errors import Aria2Error

MAX_CONNECTIONS = 16
"""aria2's own limit for one server."""

_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie"})


class Aria2Gone(Aria2Error):
    """The daemon died or does not answer; what it fetched is on disk, for another one to resume."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """One file to fetch. What aria2 must not see is a ValueError; a proxy it cannot use, an Aria2Error."""

    name: str
    """`<digest>.part`, never a name that a hub chose."""

    size: int
    """Bytes, at least 1: 0 means unknown to aria2, which then believes the server."""

    urls: tuple[str, ...]
    """Of the bytes themselves, signed where need be, without a user and password. All are used at once."""

    connections: int
    """At most so many at a time."""

    headers: tuple[tuple[str, str], ...] = ()
    """Sent to every host, a redirect's target as well: no credentials."""

    proxy: str | None = None
    """`http://host:port`; None for none, whatever the environment says."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.size < 1 or not self.urls or not 1 <= self.connections <= MAX_CONNECTIONS:
            raise ValueError(f"{self.size} bytes, {len(self.urls)} URLs, {self.connections} connections")
        for url in self.urls:
            check_url(url)
        for field, value in self.headers:
            _check_header(field, value)
        if self.proxy is not None and not self.proxy.startswith("http://"):
            raise Aria2Error(
                f"aria2 cannot use a proxy of the kind `{self.proxy.partition(':')[0]}:`",
                hint="set `http_proxy` and `https_proxy` to an `http://` one, or the host in `no_proxy`",
            )


def check_name(name: str) -> None:
    if not name.endswith(".part"):
        raise ValueError(f"`{name[:80]}` is not `<digest>.part`")
    parse_etag(name.removesuffix(".part"))


def check_url(url: str) -> None:
    """Refuse what is not HTTP or names a user. The message leaves out the URL, which may hold a secret."""
    if not re.fullmatch(r"https?://[^/?#@\\\s]+([/?#].*)?", url):
        raise ValueError("a URL is not http or https, or holds a user")


def _check_header(field: str, value: str) -> None:
    """Refuse a line break, which begins another header, and what a redirect's target must not see."""
    if not re.fullmatch(r"[A-Za-z0-9-]+", field) or re.search(r"[\r\n\0]", value):
        raise ValueError(f"{field[:80]!r} is not the name of a header, or its value has a line break")
    if field.lower() in _CREDENTIALS:
        raise ValueError(f"aria2 must not be given the header {field}")


class State(StrEnum):
    """Where a download stands, in aria2's words."""

    ACTIVE = "active"
    WAITING = "waiting"
    COMPLETE = "complete"
    FAILED = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why aria2 gave up."""

    code: int
    """An exit code of aria2: 3 not found, 8 no range or another length, 9 disk full, 22 an HTTP status, …"""

    text: str
    """The cause in aria2's words; of several URLs, that of the last one to fail."""

    @property
    def http_status(self) -> int | None:
        """What the server answered; None if the trouble was another, or if aria2 does not tell."""
        match = re.search(r"\bstatus=(\d{3})\b", self.text)
        return int(match[1]) if match else {3: 404, 24: 401}.get(self.code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A download at the time of the poll."""

    gid: str
    state: State
    completed: int
    """Bytes on disk, those of earlier runs included; 0 while waiting."""

    size: int
    """Bytes of the whole file."""

    speed: int
    """Bytes per second."""

    error: Failure | None
    """None unless `state` is FAILED."""

    @property
    def seconds_left(self) -> float:
        """How long it takes from here on at this speed."""
        return (self.size - self.completed) / max(1, self.speed)
