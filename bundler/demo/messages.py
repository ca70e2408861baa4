"""HTTP requests and responses as plain values; ranges are cut out of whole answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import parse_qs, unquote

from bundler.demo.hub import Content, InMemory

Host = Literal["hub", "cdn"]

_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asks for."""

    host: Host
    method: str
    target: str
    """Path and query as they came, still quoted."""

    headers: Mapping[str, str]
    """By lower-case name."""

    time: float
    """Seconds since the epoch."""

    @property
    def path(self) -> str:
        """Unquoted, without the query."""
        return unquote(self.target.partition("?")[0])

    @property
    def segments(self) -> tuple[str, ...]:
        """The path, unquoted after it was split: a quoted slash is not a border."""
        return tuple(unquote(part) for part in self.target.partition("?")[0].strip("/").split("/"))

    @property
    def query(self) -> Mapping[str, str]:
        """The last value of each name."""
        return {name: values[-1] for name, values in parse_qs(self.target.partition("?")[2]).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What is answered. A Range is cut out of it last, by `cut_range`, if it says `Accept-Ranges: bytes`."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    """Without `Content-Length`, which is the content's size."""

    content: Content


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A range of other content."""

    whole: Content
    offset: int
    size: int

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """Give the bytes from `start` to `stop`, counted from the slice's own beginning."""
        return self.whole.chunks(self.offset + start, self.offset + stop)


def cut_range(response: Response, asked: str | None) -> Response:
    """Turn a whole answer into the 206 or 416 that the `Range` header `asked` wants, where it offers that.

    Several ranges at once, and units other than bytes, get the whole content, as HTTP allows.
    """
    match = _RANGE.match(asked or "")
    if response.status != 200 or response.headers.get("Accept-Ranges") != "bytes" or not match:
        return response
    size = response.content.size
    start, stop = _bounds(match[1], match[2], size)
    if start >= stop:
        headers = {"Content-Range": f"bytes */{size}"}
        return replace(text_response("range not satisfiable"), status=416, headers=headers)
    headers = {**response.headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    part = Slice(whole=response.content, offset=start, size=stop - start)
    return Response(status=206, headers=headers, content=part)


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last or 0)), size
    return int(first), min(int(last) + 1, size) if last else size


def json_response(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with `value` as JSON."""
    content = InMemory(raw=json.dumps(value, ensure_ascii=False).encode())
    head = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
    return Response(status=status, headers=head, content=content)


def text_response(text: str) -> Response:
    """Answer with plain text."""
    return Response(status=200, headers={"Content-Type": "text/plain"}, content=InMemory(raw=text.encode()))


def xml_response(status: int, code: str, message: str) -> Response:
    """Answer with an error as object stores write it."""
    text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    head = {"Content-Type": "application/xml"}
    return Response(status=status, headers=head, content=InMemory(raw=text.encode()))
