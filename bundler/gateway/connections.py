"""Connections over HTTP, with no rule of the library's own: not for proxies, passwords, cookies, redirects or trust."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any
from weakref import WeakSet

import requests
from requests.adapters import HTTPAdapter

from bundler.gateway.certificates import tls_context


class Connections:
    """Sessions for many threads, one for each own certificate authority."""

    def __init__(self, *, at_once: int) -> None:
        self._at_once = at_once
        self._lock = threading.Lock()
        self._sessions: dict[Path | None, _Session] = {}
        self._sockets = _Sockets()

    def session(self, ca: Path | None) -> requests.Session:
        """Return the session that trusts the system's certificates, and those of `ca` besides."""
        with self._lock:
            if ca not in self._sessions:
                self._sessions[ca] = _Session(tls_context(ca), self._sockets, at_once=self._at_once)
            return self._sessions[ca]

    def close(self) -> None:
        """Close all, those in use as well: whoever waits for bytes gets an error instead."""
        self._sockets.shut()
        with self._lock:
            for session in self._sessions.values():
                session.close()


class _Session(requests.Session):
    """Takes a redirect for an answer: else requests would parse it, and read all that comes with it."""

    def __init__(self, trusted: ssl.SSLContext, sockets: _Sockets, *, at_once: int) -> None:
        super().__init__()
        # Neither proxies nor ~/.netrc by the library's own rules.
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.headers["Accept-Encoding"] = "identity"
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(trusted, sockets, at_once=at_once))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """See no redirect."""


class _Adapter(HTTPAdapter):
    """Trusts the certificates that it is given, and makes its sockets known."""

    def __init__(self, trusted: ssl.SSLContext, sockets: _Sockets, *, at_once: int) -> None:
        self._trusted = trusted
        self._sockets = sockets
        super().__init__(pool_connections=8, pool_maxsize=at_once)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:  # Any: as the base class has it
        super().init_poolmanager(*arguments, ssl_context=self._trusted, **options)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, ssl_context=self._trusted, **options)

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        pool = super().get_connection_with_tls_context(*arguments, **options)
        self._sockets.watch(pool)
        return pool


class _Sockets:
    """All sockets in use, so that they can be shut under a thread that waits for one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: WeakSet[socket.socket] = WeakSet()
        self._kinds: dict[type, type] = {}
        self._shut = False

    def watch(self, pool: Any) -> None:
        """Let the connections that a pool of urllib3's makes from now on tell of their sockets."""
        with self._lock:
            if pool.ConnectionCls not in self._kinds.values():
                pool.ConnectionCls = self._kinds.setdefault(pool.ConnectionCls, self._telling(pool.ConnectionCls))

    def _telling(self, kind: type) -> type:
        sockets = self

        class Telling(kind):  # type: ignore[misc]  # which class it is, urllib3 decides
            def connect(self) -> None:
                super().connect()
                sockets._add(self.sock)

        return Telling

    def _add(self, connected: socket.socket) -> None:
        with self._lock:
            self._open.add(connected)
            if self._shut:
                _shut(connected)

    def shut(self) -> None:
        """Shut all, and those that are yet to come."""
        with self._lock:
            self._shut = True
            for each in tuple(self._open):
                _shut(each)


def _shut(connected: socket.socket) -> None:
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)
