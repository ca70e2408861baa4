"""Digests: SHA-256 of bytes, git's ids of blobs, and hashing files without loading them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Self

_HEX = re.compile(r"[0-9a-f]+\Z")
READ_SIZE = 1 << 20


class _Hex(str):
    """Lower-case hexadecimal of a fixed length; anything else is a ValueError."""

    __slots__ = ()
    length = 0

    def __new__(cls, text: str) -> Self:
        if len(text) != cls.length or not _HEX.match(text):
            raise ValueError(f"{text[:80]!r} is not {cls.length} lower-case hexadecimal digits")
        return super().__new__(cls, text)


class Digest(_Hex):
    """A SHA-256, as 64 lower-case hexadecimal digits."""

    __slots__ = ()
    length = 64

    @classmethod
    def of(cls, *pieces: bytes | bytearray | memoryview) -> Self:
        """Return the digest of bytes, given in one piece or several."""
        proof = hashlib.sha256()
        for piece in pieces:
            proof.update(piece)
        return cls(proof.hexdigest())


class GitOid(_Hex):
    """A git object id (SHA-1), as 40 lower-case hexadecimal digits."""

    __slots__ = ()
    length = 40


class Commit(GitOid):
    """A full commit id."""

    __slots__ = ()


class XetHash(_Hex):
    """Xet's name for content. Not a SHA-256, though it looks like one; proves nothing here."""

    __slots__ = ()
    length = 64


Etag = Digest | GitOid
"""The name of a blob in the Hugging Face cache: SHA-256 for LFS and Xet files, git's blob id for the rest."""


def parse_etag(text: str) -> Etag:
    """Read either kind of blob name, told apart by length."""
    return Digest(text) if len(text) == Digest.length else GitOid(text)


class BlobHasher:
    """Takes a blob's bytes in order and knows both of its names at the end."""

    def __init__(self, size: int, *, git: bool) -> None:
        """Prepare for `size` bytes; git's id costs as much again as SHA-256, so it is made only if asked for."""
        self._sha256 = hashlib.sha256()
        self._git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False) if git else None

    def update(self, content: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        self._sha256.update(content)
        if self._git is not None:
            self._git.update(content)

    def matches(self, etag: Etag) -> bool:
        """Say whether the bytes so far are the ones that `etag` names."""
        return etag == (self.sha256 if isinstance(etag, Digest) else self.git_oid)

    @property
    def sha256(self) -> Digest:
        """Of all bytes so far."""
        return Digest(self._sha256.hexdigest())

    @property
    def git_oid(self) -> GitOid | None:
        """Git's blob id of all bytes so far, None if it was not asked for."""
        return None if self._git is None else GitOid(self._git.hexdigest())


def hash_file(
    path: Path, *, git: bool = False, on_bytes: Callable[[int], None] = lambda count: None
) -> tuple[int, BlobHasher]:
    """Hash a regular file and return its size with the hasher. Holds the GIL only between buffers of 1 MiB."""
    size = path.stat().st_size
    hasher = BlobHasher(size, git=git)
    buffer = bytearray(READ_SIZE)
    total = 0
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            hasher.update(memoryview(buffer)[:count])
            on_bytes(count)
            total += count
    return total, hasher
