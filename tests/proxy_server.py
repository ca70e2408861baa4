"""An HTTP proxy on loopback: it forwards, logs what it was told, and can stand for hosts of the wide world.

`ProxyServer(stands_for={"huggingface.co": hub.endpoint})` ends the TLS of such a host itself, with a certificate of an
authority of its own (`authority.ca`), and passes what comes through on to a server on loopback.
"""

from __future__ import annotations

import select
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

_BUFFER = 64 << 10


class Authority:
    """Signs certificates that nobody else trusts. Its files stand in `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.ca = folder / "ca.pem"
        """What a client has to trust."""

        self._key = folder / "ca.key"
        self._folder = folder
        _openssl("req", "-x509", *_new_key(self._key), "-out", self.ca, "-subj", "/CN=an own authority", "-days", "2")

    def context(self, host: str) -> ssl.SSLContext:
        """Return what a server needs to pass for `host`."""
        key, request, signed, names = (self._folder / f"{host}.{kind}" for kind in ("key", "csr", "pem", "ext"))
        names.write_text(f"subjectAltName=DNS:{host}\n")
        _openssl("req", *_new_key(key), "-out", request, "-subj", f"/CN={host}")
        _openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._key, "-CAcreateserial", "-out", signed,
                 "-days", "2", "-extfile", names)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(signed, key)
        return context


def _new_key(path: Path) -> list[object]:
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", path]


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class ProxyServer:
    """Runs while its context lasts. `url` is what clients are given."""

    def __init__(self, authority: Authority | None = None, *, stands_for: Mapping[str, str] | None = None) -> None:
        self.heads: list[str] = []
        """What clients told the proxy itself: request lines and headers, not what went through tunnels."""

        self.routes = {host: urlsplit(url) for host, url in (stands_for or {}).items()}
        self.contexts = {host: authority.context(host) for host in self.routes} if authority else {}
        self.stopped = threading.Event()
        self._server = _Listener(self)
        self.url = "http://{}:{}".format(*self._server.server_address[:2])

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


class _Listener(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, owner: ProxyServer) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients may leave when they like."""


class _Handler(socketserver.BaseRequestHandler):
    server: _Listener

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head and (piece := self.request.recv(_BUFFER)):
            head += piece
        self.server.owner.heads.append(head.decode("latin-1"))
        method, target, _ = head.split(b"\r\n")[0].decode("latin-1").split(" ")
        if method == "CONNECT":
            self._tunnel(target.partition(":")[0])
        else:
            self._forward(head, target)

    def _tunnel(self, host: str) -> None:
        owner = self.server.owner
        if host not in owner.routes:
            self.request.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        route = owner.routes[host]
        with (
            owner.contexts[host].wrap_socket(self.request, server_side=True) as client,
            socket.create_connection((str(route.hostname), route.port or 80)) as server,
        ):
            _relay(client, server, owner.stopped)

    def _forward(self, head: bytes, target: str) -> None:
        url = urlsplit(target)
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        last_lines = b"\r\nConnection: close\r\n\r\n"
        origin_form = head.replace(target.encode(), path.encode(), 1).replace(b"\r\n\r\n", last_lines)
        with socket.create_connection((str(url.hostname), url.port or 80)) as server:
            server.sendall(origin_form)
            while piece := server.recv(_BUFFER):
                self.request.sendall(piece)


def _relay(client: ssl.SSLSocket, server: socket.socket, stopped: threading.Event) -> None:
    """Pass bytes on in both directions until one side ends. In one thread: a TLS socket is not for two."""
    with suppress(OSError):
        while not stopped.is_set():
            ready = [client] if client.pending() else select.select([client, server], [], [], 0.1)[0]
            for source in ready:
                piece = source.recv(_BUFFER)
                if not piece:
                    return
                (server if source is client else client).sendall(piece)
