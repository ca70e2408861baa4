"""Connections over HTTP, for many threads. They can all be shut at once, under whoever waits for one."""

from __future__ import annotations

import socket
import ssl
import threading
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from weakref import WeakSet

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager

from bundler.gateway.certificates import tls_context

_HOSTS = 8
"""Whose connections are kept at a time."""


class Connections:
    """Pools of connections: one set for each proxy, and each own certificate authority."""

    def __init__(self, *, at_once: int) -> None:
        """Connect to nothing yet. Up to `at_once` connections to a host are kept."""
        self._at_once = at_once
        self._lock = threading.Lock()
        self._managers: dict[tuple[bool, Path | None, str | None], PoolManager] = {}
        self._sockets = _Sockets()
        self._kinds = {
            "http": _watched(HTTPConnectionPool, self._sockets), "https": _watched(HTTPSConnectionPool, self._sockets),
        }

    def to(self, url: str, *, ca: Path | None, proxy: str | None) -> PoolManager:
        """Return what connects to a URL through `proxy`, trusting the system's certificates and those of `ca`."""
        secure = urlsplit(url).scheme == "https"
        key = (secure, ca if secure else None, proxy)
        with self._lock:
            if key not in self._managers:
                # The system's certificates take as long to read as a small file to fetch.
                self._managers[key] = self._manager(tls_context(ca) if secure else None, proxy)
            return self._managers[key]

    def _manager(self, trusted: ssl.SSLContext | None, proxy: str | None) -> PoolManager:
        options: dict[str, Any] = {"num_pools": _HOSTS, "maxsize": self._at_once, "ssl_context": trusted}
        if proxy is None:
            manager = PoolManager(**options)
        else:
            manager = ProxyManager(proxy, proxy_headers=_proxy_headers(proxy), **options)
        manager.pool_classes_by_scheme = self._kinds
        return manager

    def close(self) -> None:
        """Close all, those in use as well: whoever waits for bytes gets an error instead."""
        self._sockets.shut()
        with self._lock:
            for manager in self._managers.values():
                manager.clear()


def _proxy_headers(proxy: str) -> dict[str, str]:
    """Return what a proxy is told of the user that its URL names."""
    parts = urlsplit(proxy)
    if not parts.username:
        return {}
    secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(secret.encode()).decode()}"}


class _Sockets:
    """All sockets in use, so that they can be shut under a thread that waits for one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: WeakSet[socket.socket] = WeakSet()
        self._shut = False

    def add(self, connected: socket.socket) -> None:
        """Remember a socket, or shut it if that is what happened to the others."""
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


def _watched(pool: type[HTTPConnectionPool], sockets: _Sockets) -> type[HTTPConnectionPool]:
    """Return the same kind of pool, whose connections tell `sockets` of theirs."""

    class Connection(pool.ConnectionCls):  # type: ignore[name-defined, misc]  # a class that is urllib3's to choose
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})
