"""A volume: a plain tar of parts, written as a stream and laid out by rule.

A member's header is a pure function of the part's digest and size. So a reader never parses a header: it computes
the one that must stand there and compares. Devices, links, sparse files and overlong names cannot be expressed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bundler.digest import Digest
from bundler.fsio import StraightFile, sync_folder

BLOCK_SIZE = 512
HEADER_SIZE = BLOCK_SIZE
END_SIZE = 2 * BLOCK_SIZE
"""Two blocks of zeros end a tar."""

DEFAULT_VOLUME_SIZE = 3900 << 20
"""Fits FAT32, whose files end at 4 GiB - 1."""

MIN_VOLUME_SIZE = 18 << 20
"""Any part fits into a volume of its own."""


def padded(size: int) -> int:
    """Return what `size` bytes take up in a tar: whole blocks."""
    return -(-size // BLOCK_SIZE) * BLOCK_SIZE


def member_name(digest: Digest) -> str:
    """Return the name under which stock tools see a part."""
    return f"parts/{digest}"


def member_header(digest: Digest, size: int) -> bytes:
    """Return the 512 bytes before a part's stored bytes (POSIX.1-1988 ustar, regular file, 0644, nobody, no time)."""
    fields = (
        (100, member_name(digest).encode()),
        (8, b"0000644\0"),
        (8, b"0000000\0"),  # owner
        (8, b"0000000\0"),  # group
        (12, b"%011o\0" % size),
        (12, b"00000000000\0"),  # time
        (8, b" " * 8),  # checksum, as it counts for itself
        (1, b"0"),  # regular file
        (100, b""),  # link
        (8, b"ustar\00000"),
    )
    header = b"".join(value.ljust(width, b"\0") for width, value in fields).ljust(BLOCK_SIZE, b"\0")
    checksum = b"%06o\0 " % sum(header)
    return header[:148] + checksum + header[156:]


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenVolume:
    """A volume that is complete and synced."""

    path: Path
    size: int
    sha256: Digest


class VolumeStream:
    """One volume being written. Hashed on the way; there is no second pass."""

    def __init__(self, path: Path) -> None:
        """Create the file, replacing what an interrupted run left under its name."""
        self._path = path
        self._stream = StraightFile(path)
        self._hash = hashlib.sha256()
        self._size = 0

    def room_for(self, size: int, limit: int) -> bool:
        """Say whether a part of `size` stored bytes keeps the volume within `limit` bytes."""
        return self._size + HEADER_SIZE + padded(size) + END_SIZE <= limit

    def append(self, digest: Digest, size: int, stored: Iterable[bytes | memoryview]) -> int:
        """Write a part of `size` stored bytes, given in pieces, and return the offset of its stored bytes."""
        self._write(member_header(digest, size))
        offset = self._size
        for piece in stored:
            self._write(piece)
        self._write(bytes(padded(size) - size))
        return offset

    def finish(self) -> WrittenVolume:
        """End the tar, sync and close it."""
        self._write(bytes(END_SIZE))
        self._stream.finish()
        sync_folder(self._path.parent)
        return WrittenVolume(path=self._path, size=self._size, sha256=Digest(self._hash.hexdigest()))

    def abandon(self) -> None:
        """Close without finishing; the file stays, and is no volume."""
        self._stream.close()

    def _write(self, content: bytes | memoryview) -> None:
        self._hash.update(content)
        self._stream.write(content)
        self._size += len(content)
