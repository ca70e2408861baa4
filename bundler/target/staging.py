"""Blobs on their way into the cache: written in any order, from any stick, and kept over an interruption.

A staged blob `NAME.part` has a journal `NAME.journal` beside it, which lists what of it was synced. That is a hint:
every span is hashed again before anything is built upon it. Written from its start on, a blob has one span, which grows
with it: its digest is the blob's own on the way.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bundler.access import Access
from bundler.digest import READ_SIZE, BlobHasher, Digest
from bundler.errors import BundlerError
from bundler.fields import Fields, parse_json, read_bounded
from bundler.fsio import Drain, atomic_write, open_staged, sync_file, write_all

JOURNAL_EVERY = 64 << 20
"""Bytes after which a staged blob is synced and its journal written: as much a killed run may lose."""

_JOURNAL_VERSION = 1
_MAX_JOURNAL_SIZE = 256 << 20


@dataclass(frozen=True, slots=True)
class Span:
    """A range of a blob's bytes, and what proves it."""

    offset: int
    length: int
    sha256: Digest


class Held:
    """What of a blob is staged: a span that grows from its start on, and others behind a gap."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        """Hold `spans` already."""
        self._spans = {span.offset: span for span in spans}

    def __contains__(self, wanted: tuple[int, int]) -> bool:
        """Say whether (offset, length) is there: one of the spans, or within the first one."""
        offset, length = wanted
        span = self._spans.get(offset)
        return offset + length <= self._from_start or (span is not None and span.length == length)

    def add(self, span: Span) -> None:
        """Hold one more."""
        self._spans[span.offset] = span

    @property
    def spans(self) -> tuple[Span, ...]:
        """Those that are not within the first one."""
        behind = self._from_start
        return tuple(span for offset, span in self._spans.items() if offset == 0 or offset >= behind)

    @property
    def end(self) -> int:
        """Where the last one ends, 0 if there is none."""
        return max((span.offset + span.length for span in self._spans.values()), default=0)

    @property
    def _from_start(self) -> int:
        first = self._spans.get(0)
        return first.length if first else 0


@dataclass(frozen=True, slots=True)
class StagedPath:
    """The names of a staged blob."""

    part: Path
    """The bytes."""

    journal: Path
    """What of them is synced."""

    @classmethod
    def of(cls, staging: Path, name: str) -> StagedPath:
        """Return where a blob of that name is staged."""
        return cls(staging / f"{name}.part", staging / f"{name}.journal")

    @property
    def allocated(self) -> int:
        """The bytes of the file system that it takes up."""
        try:
            return self.part.stat().st_blocks * 512
        except OSError:
            return 0

    def remove(self) -> None:
        """Forget it."""
        self.journal.unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)

    def proven(self) -> tuple[Span, ...]:
        """Return the spans that the journal lists and the file still holds; reads and hashes them.

        What cannot be read, as it may be another user's, is removed.
        """
        if not self.journal.is_file():
            return ()
        try:
            listed = _parse_journal(read_bounded(self.journal, limit=_MAX_JOURNAL_SIZE, failure=BundlerError))
            with open_staged(self.part) as stream:
                return tuple(span for span in listed if _hashed(stream.fileno(), span) == span.sha256)
        except (BundlerError, OSError):
            self.remove()
            return ()


def _parse_journal(text: bytes) -> tuple[Span, ...]:
    values = parse_json(text, document="the journal", failure=BundlerError)
    fields = Fields(values, document="the journal", failure=BundlerError)
    if fields.size("journal_version") != _JOURNAL_VERSION:
        return ()
    return tuple(
        Span(each.size("offset"), each.size("length"), each.name("sha256", Digest)) for each in fields.objects("held")
    )


def _journal_text(held: Iterable[Span]) -> bytes:
    spans = [{"offset": span.offset, "length": span.length, "sha256": span.sha256} for span in held]
    return json.dumps({"journal_version": _JOURNAL_VERSION, "held": spans}).encode()


def _hashed(descriptor: int, span: Span) -> Digest:
    hasher = BlobHasher(span.length, git=False)
    for piece in _read(descriptor, span.offset, span.length):
        hasher.update(piece)
    return hasher.sha256


def _read(descriptor: int, offset: int, length: int) -> Iterator[bytes]:
    end = offset + length
    while offset < end and (piece := os.pread(descriptor, min(READ_SIZE, end - offset), offset)):
        yield piece
        offset += len(piece)


class StagedBlob:
    """A blob being written to one place or several at once. A context manager.

    What it holds at the end of the body is kept for the next run, unless it was `finish`ed or `discard`ed.
    """

    def __init__(self, paths: tuple[StagedPath, ...], size: int, *, held: Held, access: Access) -> None:
        """Go on with what is `held` in all the paths, of a blob of `size` bytes; it is added to."""
        self.size = size
        """Bytes of the whole blob."""

        self._paths = paths
        self._held = held
        self._access = access
        self._unsynced = 0
        self._open = True
        self._streams = [open_staged(path.part) for path in paths]
        self._drains = [Drain(stream) for stream in self._streams]
        for stream in self._streams:
            stream.truncate(size if held.end else 0)

    def __enter__(self) -> StagedBlob:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self._open:
                self._keep()
        finally:
            for stream in self._streams:
                stream.close()

    def holds(self, offset: int, length: int) -> bool:
        """Say whether that very range is there."""
        return (offset, length) in self._held

    def write(self, offset: int, chunk: memoryview) -> None:
        """Write bytes, which are not yet `held`."""
        for stream, drain in zip(self._streams, self._drains):
            if stream.tell() != offset:
                stream.seek(offset)
            write_all(stream, chunk)
            drain.wrote(len(chunk))
        self._unsynced += len(chunk)

    def hold(self, span: Span) -> None:
        """Count a range that was written among those to keep; sync and list them now and then."""
        self._held.add(span)
        if self._unsynced >= JOURNAL_EVERY:
            self._checkpoint()

    def read(self, offset: int, length: int) -> Iterator[bytes]:
        """Return bytes that are held, in pieces."""
        return _read(self._streams[0].fileno(), offset, length)

    def finish(self) -> None:
        """Leave the files as they are: all of the blob is written, and about to be placed."""
        self._open = False

    def discard(self) -> None:
        """Remove the files: they cannot become the blob."""
        self._open = False
        for path in self._paths:
            path.remove()

    def _checkpoint(self) -> None:
        for stream, path in zip(self._streams, self._paths):
            self._access.grant_file(path.part)
            sync_file(stream)
            with atomic_write(path.journal, staging=path.journal.parent, access=self._access) as journal:
                journal.write(_journal_text(self._held.spans))
        self._unsynced = 0

    def _keep(self) -> None:
        if not self._held.end:
            self.discard()
        if not self._unsynced:
            return
        # Where the disk is full the journal needs the room of what was written by half.
        with suppress(OSError):
            for stream in self._streams:
                stream.truncate(self._held.end)
            self._checkpoint()


def sweep(staging: Path, *, keep: Iterable[StagedPath], folders: Iterable[str] = ()) -> None:
    """Remove what an earlier run left in `staging`, but for staged blobs and folders that are still of use."""
    kept = {name for path in keep for name in (path.part.name, path.journal.name)} | set(folders)
    for path in staging.iterdir():
        if path.name not in kept:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
