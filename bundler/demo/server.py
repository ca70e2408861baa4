"""A `Hub` on loopback sockets: HTTP/1.1 with keep-alive, a second host for large files, a log of requests.

A subclass changes what is answered by overriding `HubServer.answer`; the sockets only write what it returns.
"""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from bundler.demo.answers import Cdn, HubApi
from bundler.demo.hub import Hub
from bundler.demo.messages import Host, Request, Response, cut_range

HUB_ADDRESS = "127.0.0.1"
CDN_ADDRESS = "127.0.0.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request, and what came of it so far."""

    host: Host
    method: str
    path: str
    """Unquoted, without the query."""

    headers: Mapping[str, str]
    """By lower-case name."""

    status: int
    sent: int
    """Bytes of the body that were handed to the network."""


class HubServer:
    """Serves a hub while its context lasts; the end closes every connection.

    LFS files are redirected to a second host, on another loopback address where the system has one, else on
    another port. `cdn=False` serves them in place; `prefix` puts the endpoint below a path.
    """

    def __init__(self, hub: Hub | None = None, *, prefix: str = "", cdn: bool = True) -> None:
        self.hub = hub or Hub()
        self.prefix = prefix
        self.stopped = threading.Event()
        """Set at the end; whatever sleeps in an answer should wait for it instead."""
        self.log = RequestLog()
        self._has_cdn = cdn
        self._running = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            starting.callback(self.stopped.set)
            cdn_url = starting.enter_context(_listening(self, "cdn", CDN_ADDRESS))
            hub_url = starting.enter_context(_listening(self, "hub", HUB_ADDRESS))
            self.endpoint = hub_url + self.prefix
            """The base URL that clients are given."""
            self.cdn = Cdn(hub=self.hub, url=cdn_url)
            self._api = HubApi(hub=self.hub, url=self.endpoint, cdn=self.cdn if self._has_cdn else None)
            self._running = starting.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._running.close()

    @property
    def requests(self) -> tuple[Exchange, ...]:
        """All that was asked, in the order of the answers; what a client has received is already counted."""
        return self.log.exchanges()

    def answer(self, request: Request) -> Response:
        """Say what to answer; runs in the connection's thread. A `ConnectionError` closes it silently."""
        if request.host == "cdn":
            return self.cdn.answer(request)
        return self._api.answer(request)

    def serve(self, request: Request) -> Response:
        """Return the final answer, cut to the range that was asked for."""
        return cut_range(self.answer(request), request.headers.get("range"))


class RequestLog:
    """What was asked so far, kept up to date while the answers are under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._exchanges: list[Exchange] = []

    def open(self, request: Request, status: int) -> int:
        """Note that an answer begins, and return its number."""
        exchange = Exchange(
            host=request.host, method=request.method, path=request.path, headers=request.headers,
            status=status, sent=0)
        with self._lock:
            self._exchanges.append(exchange)
            return len(self._exchanges) - 1

    def add(self, number: int, count: int) -> None:
        """Note that `count` more bytes of an answer go out."""
        with self._lock:
            known = self._exchanges[number]
            self._exchanges[number] = replace(known, sent=known.sent + count)

    def exchanges(self) -> tuple[Exchange, ...]:
        """Return all of it, in the order in which the answers began."""
        with self._lock:
            return tuple(self._exchanges)


@contextmanager
def _listening(owner: HubServer, host: Host, address: str) -> Iterator[str]:
    """Run a listener in the background and give its URL."""
    listener = _bind(owner, host, address)
    # The interval is how long the end may take, not how fast requests are seen.
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield "http://{}:{}".format(*listener.server_address[:2])
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


def _bind(owner: HubServer, host: Host, address: str) -> _Listener:
    try:
        return _Listener(owner, host, address)
    except OSError:
        # Not every system answers on the whole of 127.0.0.0/8; another port is another origin, too.
        return _Listener(owner, host, HUB_ADDRESS)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, owner: HubServer, host: Host, address: str) -> None:
        self.owner = owner
        self.host = host
        self._connections: set[socket.socket] = set()
        super().__init__((address, 0), _Handler)

    def server_bind(self) -> None:
        """Bind without HTTPServer's look-up of a host name, which may wait for a DNS server in vain."""
        socketserver.TCPServer.server_bind(self)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for connection in tuple(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Reads requests and writes what the owner answers."""

    server: _Listener
    protocol_version = "HTTP/1.1"
    # Headers and body are two writes: with Nagle's algorithm the second waits for the client's delayed ACK.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._exchange()

    def do_HEAD(self) -> None:
        self._exchange()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: `HubServer.requests` has it all."""

    def _exchange(self) -> None:
        request = Request(
            host=self.server.host, method=self.command, target=self.path,
            headers={name.lower(): value for name, value in self.headers.items()}, time=time.time())
        try:
            self._write(request, self.server.owner.serve(request))
        except ConnectionError:
            self.close_connection = True

    def _write(self, request: Request, response: Response) -> None:
        log = self.server.owner.log
        number = log.open(request, response.status)
        size = response.content.size
        self.send_response(response.status)
        for name, value in {**response.headers, "Content-Length": str(size)}.items():
            self.send_header(name, value)
        self.end_headers()
        if request.method == "HEAD":
            return
        sent = 0
        for chunk in response.content.chunks(0, size):
            # Counted first, so that whoever has received a byte finds it in the log.
            log.add(number, len(chunk))
            self.wfile.write(chunk)
            sent += len(chunk)
        if sent != size:
            self.close_connection = True
