"""A small HTTP server on loopback that serves ranges, remembers who asked for what, and breaks on demand."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

CHUNK = 16 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asked for."""

    target: str
    """Path and query; the whole URL if the client takes this server for a proxy."""

    headers: dict[str, str]
    """By name in lower case."""


class RangeServer:
    """Serves `files` by path, whatever the query, until a target is listed in `statuses`."""

    def __init__(self, files: dict[str, bytes] | None = None, *, pause: float = 0) -> None:
        """Serve without a limit, or wait `pause` seconds after each `CHUNK` of each connection."""
        self.files = files or {}
        self.pause = pause
        self.pages: dict[str, bytes] = {}
        """By target: an HTML page that is served with status 200, to a request for a range as well."""
        self.statuses: dict[str, int] = {}
        """By target: the status that is answered instead."""
        self.requests: list[Request] = []
        self.served = 0
        """Bytes of bodies."""
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = _QuietServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def cut(self) -> None:
        """Break every connection that is in the middle of a body."""
        with self._lock:
            for connection in self._open:
                with suppress(OSError):  # the client was quicker
                    connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.requests.append(Request(target=handler.path, headers=headers))
        content = self.files.get(handler.path.partition("?")[0])
        status = self.statuses.get(handler.path, 200 if content is not None else 404)
        if status != 200 or content is None:
            return self._send(handler, status, b"", {})
        if page := self.pages.get(handler.path):
            return self._send(handler, 200, page, {"Content-Type": "text/html"})
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
        if match is None:
            return self._send(handler, 200, content, {"Accept-Ranges": "bytes"})
        first, last = int(match[1]), min(int(match[2] or len(content)), len(content) - 1)
        content_range = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
        self._send(handler, 206, content[first:last + 1], content_range)

    def _send(
        self, handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]
    ) -> None:
        handler.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            handler.send_header(name, value)
        handler.end_headers()
        with self._lock:
            self._open.add(handler.connection)
        try:
            for start in range(0, len(body), CHUNK):
                handler.wfile.write(body[start:start + CHUNK])
                self.served += len(body[start:start + CHUNK])
                time.sleep(self.pause)
        finally:
            with self._lock:
                self._open.discard(handler.connection)


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: broken connections are what the tests are about."""
