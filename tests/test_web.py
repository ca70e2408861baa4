"""Servers that speak HTTP in ways of their own: whatever they say, there is an answer or a clear error."""

from __future__ import annotations

import gzip
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bundler.errors import FetchError, ProxyError
from bundler.gateway.proxies import Proxies
from bundler.gateway.trouble import SourceError
from bundler.gateway.web import Location, Web

CONTENT = b"0123456789"
OK = b"HTTP/1.1 200 OK\r\n"

Answering = Callable[[bytes], bytes]
"""Takes the head of a request, gives all bytes of the answer."""


@contextmanager
def serving(answering: Answering) -> Iterator[str]:
    """Answer as a function says, on connections that stay open, and give the URL."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while head := b"".join(iter(self.rfile.readline, b"\r\n")):
                self.wfile.write(answering(head))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up is no news."""

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield "http://127.0.0.1:{}".format(server.server_address[1])
        finally:
            server.shutdown()


@pytest.fixture
def web() -> Iterator[Web]:
    """A pool of connections."""
    with Web(connections=2, timeouts=(5.0, 5.0)) as pool:
        yield pool


def chunked(*chunks: bytes) -> bytes:
    """Write a body in chunks."""
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


def bring(web: Web, url: str, path: Path) -> bytes:
    """Download `CONTENT`."""
    web.download(Location(url=url), path, size=len(CONTENT), on_bytes=lambda count: None)
    return path.read_bytes()


@pytest.mark.parametrize("framed", [
    lambda body: b"Content-Length: %d\r\n\r\n%s" % (len(body), body),
    lambda body: b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body[:7], body[7:]),
], ids=["with a length", "in chunks"])
def test_what_was_compressed_on_the_way_is_unpacked(web: Web, tmp_path: Path, framed: Answering) -> None:
    """Some proxies compress though nobody asked for it."""
    packed = OK + b"Content-Encoding: gzip\r\n" + framed(gzip.compress(CONTENT))

    with serving(lambda head: packed) as url:
        asked = web.ask(Location(url=url)).body
        brought = bring(web, url, tmp_path / "file")

    assert asked == brought == CONTENT


def test_a_body_after_a_head_request_is_not_taken_for_the_next_answer(web: Web, tmp_path: Path) -> None:
    """Servers that send one to HEAD are out there."""
    whole = OK + b"Content-Length: %d\r\n\r\n%s" % (len(CONTENT), CONTENT)

    with serving(lambda head: whole) as url:
        for number in range(10):
            assert web.locate(Location(url=url)).url == url
            assert bring(web, url, tmp_path / str(number)) == CONTENT


@pytest.mark.parametrize(("links", "expected"), [
    (['<http://x.example/b?cursor=1>; rel="next"'], "http://x.example/b?cursor=1"),
    (['<http://x.example/a>; rel="prev", <http://x.example/b>; title="more"; REL=next'], "http://x.example/b"),
    (["<http://x.example/a>; rel=last"], None),
    (["<http://[x>; rel=next"], "http://[x"),
    (["<" * 60_000] * 20, None),
    (["<x>" + ";" * 60_000] * 20, None),
], ids=["one", "several", "another", "no URL", "many beginnings", "many parameters"])
def test_finds_the_next_page_in_any_header(web: Web, links: list[str], expected: str | None) -> None:
    """Also in one that was made to keep whoever reads it busy for hours."""
    headers = "".join(f"Link: {link}\r\n" for link in links).encode()

    with serving(lambda head: OK + headers + b"Content-Length: 0\r\n\r\n") as url:
        answer = web.ask(Location(url=url))

    assert answer.next_page == expected


@pytest.mark.parametrize("answer", [
    OK + b"Transfer-Encoding: chunked\r\n\r\n-2\r\n" + CONTENT,
    OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + CONTENT,
    OK + b"Content-Encoding: gzip\r\nContent-Length: 10\r\n\r\n" + CONTENT,
    OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\nRetry-After: Mon, 01 Jan 2001 00:00:00 +999999999999999999\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\nRetry-After: " + b"9" * 5000 + b"\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://\xff[/\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: https://a..b/\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 9\r\n\r\n", b"\r\n", b"200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
])
def test_what_makes_no_sense_is_the_fault_of_the_source(web: Web, tmp_path: Path, answer: bytes) -> None:
    """Never a traceback, and never bytes: the next source is asked."""
    with serving(lambda head: answer) as url, pytest.raises(SourceError):
        bring(web, url, tmp_path / "file")


def test_a_host_that_cannot_be_spelled_is_refused_behind_a_proxy_too(web: Web) -> None:
    """The proxy says yes to any name, TLS does not."""
    with serving(lambda head: b"HTTP/1.1 200 Connected\r\n\r\n") as proxy:
        for host in ("a..b", ".example", "a" * 64 + ".example"):
            with pytest.raises(FetchError):
                web.ask(Location(url=f"https://{host}/", proxies=Proxies(https=proxy)))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password_says_so_itself(web: Web, scheme: str) -> None:
    """No endpoint is blamed for it, and what it was given is not repeated."""
    wants = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    with serving(lambda head: wants) as proxy:
        given = proxy.replace("://", "://me:hunter2@")

        with pytest.raises(ProxyError, match=f"the proxy {proxy} wants a user and a password") as caught:
            web.ask(Location(url=f"{scheme}://hub.example/", proxies=Proxies(http=given, https=given)))

    assert "hunter2" not in str(caught.value) + caught.value.hint


def test_a_proxy_that_does_not_help_is_named(web: Web) -> None:
    """Whether it is not there, or refuses to connect."""
    nowhere = "http://127.0.0.1:9"
    with serving(lambda head: b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n") as refusing:
        for proxy, reason in ((nowhere, "it cannot be reached"), (refusing, "Tunnel connection failed: 502")):
            with pytest.raises(SourceError, match=f"the proxy {proxy} does not help: {reason}"):
                web.ask(Location(url="https://hub.example/", proxies=Proxies(https=proxy)))
