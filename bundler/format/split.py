"""Cut blobs into pieces, each of which becomes a part. The cuts depend on the blobs alone, not on arrival or workers.

Parts start where tensors start, so that a tensor that is in two files, or two revisions, makes the same parts in both
and is stored once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bundler.format.blob_file import BlobFile
from bundler.format.hint import Hint
from bundler.format.index import MAX_PART_SIZE
from bundler.format.safetensors import LENGTH_SIZE, Span, header_size, tensor_spans

SHARED_BLOB = 1 << 20
"""Bytes. A smaller blob shares a part with its neighbours; from here on it gets parts of its own."""

SHARED_TENSOR = 512 << 10
"""Bytes. The same for the tensors of a file: an entry of the index and a tar header cost about 1 kB."""


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes of a blob."""

    blob: BlobFile
    offset: int
    length: int

    width: int = 0
    """Bytes of an element; 0 if unknown."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The raw bytes of one part to be: ranges one after another, `MAX_PART_SIZE` bytes at most together."""

    ranges: tuple[Range, ...]

    @property
    def size(self) -> int:
        """Raw bytes."""
        return sum(each.length for each in self.ranges)

    @property
    def hints(self) -> list[Hint]:
        """What is known of the raw bytes; neighbours of the same kind are one."""
        hints: list[Hint] = []
        for each in self.ranges:
            if hints and hints[-1].width == each.width:
                hints[-1] = Hint(hints[-1].length + each.length, each.width)
            else:
                hints.append(Hint(each.length, each.width))
        return hints


def cut(blobs: Iterable[BlobFile]) -> Iterator[Piece]:
    """Yield the pieces of all blobs, in order; each is known as soon as the blobs before it are.

    Reads the first bytes of a blob where these may tell where its tensors are.
    """
    shared = _Shared()
    for blob in blobs:
        if blob.size < SHARED_BLOB:
            yield from shared.take(Range(blob, 0, blob.size))
        else:
            yield from shared.close()
            yield from _cut_alone(blob)
    yield from shared.close()


class _Shared:
    """The piece that is being filled with small ranges."""

    def __init__(self) -> None:
        self._ranges: list[Range] = []
        self._room = MAX_PART_SIZE

    def take(self, added: Range) -> Iterator[Piece]:
        """Add a range; yield the piece that it no longer fits into."""
        if added.length > self._room:
            yield from self.close()
        if added.length:
            self._ranges.append(added)
            self._room -= added.length

    def close(self) -> Iterator[Piece]:
        """Yield the piece, if there is anything in it."""
        if self._ranges:
            yield Piece(tuple(self._ranges))
        self._ranges, self._room = [], MAX_PART_SIZE


def _cut_alone(blob: BlobFile) -> Iterator[Piece]:
    shared = _Shared()
    for number, span in enumerate(_spans(blob)):
        if number and span.length < SHARED_TENSOR:
            yield from shared.take(Range(blob, span.offset, span.length, span.width))
        else:
            # The header stands alone: what changes in it changes no tensor's part.
            yield from shared.close()
            yield from _cut_plainly(blob, span)
    yield from shared.close()


def _spans(blob: BlobFile) -> tuple[Span, ...]:
    plain = (Span(0, blob.size, 0),)
    with blob.path.open("rb") as stream:
        size = header_size(stream.read(LENGTH_SIZE + 1), blob.size)
        if size is None:
            return plain
        stream.seek(LENGTH_SIZE)
        return tensor_spans(stream.read(size), blob.size) or plain


def _cut_plainly(blob: BlobFile, span: Span) -> Iterator[Piece]:
    for start in range(0, span.length, MAX_PART_SIZE):
        length = min(MAX_PART_SIZE, span.length - start)
        yield Piece((Range(blob, span.offset + start, length, span.width),))
