"""Cut blobs into pieces, each of which becomes a part. Pure: it looks at sizes, not at arrival or workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bundler.digest import Digest
from bundler.format.index import MAX_PART_SIZE

SHARED_SIZE = 1 << 20
"""A blob smaller than this shares a part with its neighbours; from here on it gets parts of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenBlob:
    """A blob to pack: its bytes were checked against its digest in this run."""

    path: Path
    sha256: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes of a blob."""

    blob: ProvenBlob
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Piece:
    """The raw bytes of one part to be: ranges one after another, `MAX_PART_SIZE` bytes at most together."""

    ranges: tuple[Range, ...]

    @property
    def size(self) -> int:
        """Raw bytes."""
        return sum(each.length for each in self.ranges)


def cut(blobs: Iterable[ProvenBlob]) -> Iterator[Piece]:
    """Yield the pieces of all blobs, in order; each is known as soon as the blobs before it are."""
    shared: list[Range] = []
    room = MAX_PART_SIZE
    for blob in blobs:
        alone = blob.size >= SHARED_SIZE
        if shared and (alone or blob.size > room):
            yield Piece(tuple(shared))
            shared, room = [], MAX_PART_SIZE
        if alone:
            yield from _cut_plainly(blob)
        elif blob.size:
            shared.append(Range(blob, 0, blob.size))
            room -= blob.size
    if shared:
        yield Piece(tuple(shared))


def _cut_plainly(blob: ProvenBlob) -> Iterator[Piece]:
    for offset in range(0, blob.size, MAX_PART_SIZE):
        yield Piece((Range(blob, offset, min(MAX_PART_SIZE, blob.size - offset)),))
