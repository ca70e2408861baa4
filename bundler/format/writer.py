"""Blobs into a bundle: pieces are read and proven in order, coded on all cores, and written in order.

What is hashed is what is coded: the bytes in memory, not the same place of the disk at another time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bundler.digest import Digest
from bundler.errors import DamagedStagingError
from bundler.format import restore
from bundler.format.blob_file import BlobFile
from bundler.format.codec import Coded, encode
from bundler.format.index import (
    INDEX_NAME, MAX_PART_SIZE, Blob, Codec, Extent, Index, Part, Volume, index_text, volume_name
)
from bundler.format.readme import readme_text
from bundler.format.split import Piece, Range, cut
from bundler.format.sums import SUMS_NAME, sums_text
from bundler.format.volume import DEFAULT_VOLUME_SIZE, VolumeStream
from bundler.fsio import read_exactly, replace_file, sync_folder, write_synced
from bundler.names import BundleName
from bundler.pipeline import Behind, BufferPool, ordered_map
from bundler.progress import Advanced, OnEvent, Phase, ignore

README_NAME = "README.txt"
RESTORE_NAME = "restore.py"
BUILD_INFO_NAME = "build-info.json"

_READ_SIZE = 2 << 20
"""Bytes: what was just read is hashed while it is still in the processor's cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Volumes that are written, and what the index has to say of them."""

    blobs: tuple[Blob, ...]
    parts: tuple[Part, ...]
    volumes: tuple[Volume, ...]


def pack_blobs(
    blobs: Iterable[BlobFile],
    folder: Path,
    *,
    name: BundleName,
    workers: int,
    volume_size: int = DEFAULT_VOLUME_SIZE,
    on_event: OnEvent = ignore,
) -> Packed:
    """Write the volumes of a bundle to `folder`, drawing from `blobs` as they become available.

    The same blobs in the same order give the same bytes, whatever `workers` is. No digest may come twice.
    Raises `DamagedStagingError` for a blob whose bytes are not those of its digest. Some of them are written then: what
    is in `folder` is no bundle, and cannot become one.
    """
    shelf = _Shelf(folder, name=name, volume_size=volume_size)
    pool = BufferPool(MAX_PART_SIZE)
    reader = _Reader(pool)

    def put(coded: _CodedPiece) -> None:
        shelf.put(coded)
        pool.give(*coded.buffers)
        on_event(Advanced(Phase.PACK, coded.piece.size))

    pieces = map(reader.read, cut(shelf.noting(blobs)))
    try:
        with Behind() as behind, closing(ordered_map(partial(_code, pool), pieces, workers=workers)) as coded_pieces:
            for coded in coded_pieces:
                behind.do(partial(put, coded))
            behind.wait()
        return shelf.finish()
    finally:
        shelf.abandon()


def seal_bundle(folder: Path, index: Index, *, build_info: Mapping[str, object]) -> Digest:
    """Write what stands beside the volumes, SHA256SUMS last: with it, and not before, there is a bundle.

    Returns the bundle's identity.
    """
    texts = {
        README_NAME: readme_text(index.name, [volume.name for volume in index.volumes]).encode(),
        RESTORE_NAME: Path(restore.__file__).read_bytes(),
        BUILD_INFO_NAME: json.dumps(build_info, indent=2, ensure_ascii=False, sort_keys=True).encode() + b"\n",
        INDEX_NAME: index_text(index),
    }
    digests = {volume.name: volume.sha256 for volume in index.volumes}
    for file_name, text in texts.items():
        write_synced(folder / file_name, text)
        digests[file_name] = Digest.of(text)
    sync_folder(folder)
    # In one step: half a SHA256SUMS would look like another bundle, and stop the next run.
    replace_file(folder / SUMS_NAME, sums_text(digests))
    return digests[INDEX_NAME]


@dataclass(frozen=True, slots=True)
class _RawPiece:
    piece: Piece
    raw: memoryview
    buffer: memoryview


@dataclass(frozen=True, slots=True)
class _CodedPiece:
    piece: Piece
    coded: Coded
    sha256: Digest
    buffers: tuple[memoryview, ...]
    """What the coded bytes lie in; to be given back once they are written."""


class _Reader:
    """Reads pieces, which together are blobs from their first byte to their last, and proves these."""

    def __init__(self, pool: BufferPool) -> None:
        self._pool = pool
        self._hash = hashlib.sha256()

    def read(self, piece: Piece) -> _RawPiece:
        """Return the bytes of the next piece. Raises `DamagedStagingError` where a blob ends and was another one."""
        buffer = self._pool.take()
        raw = buffer[:piece.size]
        start = 0
        for each in piece.ranges:
            self._take(each, raw[start:start + each.length])
            start += each.length
        return _RawPiece(piece, raw, buffer)

    def _take(self, wanted: Range, raw: memoryview) -> None:
        with wanted.blob.path.open("rb", buffering=0) as stream:
            stream.seek(wanted.offset)
            for start in range(0, wanted.length, _READ_SIZE):
                some = raw[start:start + _READ_SIZE]
                read_exactly(stream, some)
                self._hash.update(some)
        if wanted.offset + wanted.length == wanted.blob.size:
            if self._hash.hexdigest() != wanted.blob.sha256:
                raise DamagedStagingError(
                    f"{wanted.blob.path} has the SHA-256 {self._hash.hexdigest()} now",
                    hint="the disk or the memory of this machine fails: see its logs, or name another `--staging`",
                )
            self._hash = hashlib.sha256()


def _code(pool: BufferPool, read: _RawPiece) -> _CodedPiece:
    """Turn a piece into what its part will store."""
    scratch = pool.take()
    coded = encode(read.raw, read.piece.hints, scratch=scratch)
    sha256 = Digest.of(*coded.streams)
    # What the stored bytes do not lie in may be used again at once.
    needed, idle = (read.buffer, scratch) if coded.codec is Codec.RAW else (scratch, read.buffer)
    pool.give(idle)
    return _CodedPiece(read.piece, coded, sha256, (needed,))


class _Shelf:
    """Puts coded pieces into volumes, in the order given, and keeps the books for the index.

    Blobs are noted by the thread that reads them, before any of their pieces is put by the one that writes.
    """

    def __init__(self, folder: Path, *, name: BundleName, volume_size: int) -> None:
        self._folder = folder
        self._name = name
        self._limit = volume_size
        self._open: VolumeStream | None = None
        self._volumes: list[Volume] = []
        self._parts: list[Part] = []
        self._numbers: dict[tuple[Digest, Codec, int], int] = {}
        self._by_stored: dict[Digest, Part] = {}
        self._blobs: list[BlobFile] = []
        self._extents: dict[Digest, list[Extent]] = {}

    def noting(self, blobs: Iterable[BlobFile]) -> Iterator[BlobFile]:
        """Pass blobs on, and remember them: an empty one has no piece."""
        for blob in blobs:
            self._blobs.append(blob)
            self._extents[blob.sha256] = []
            yield blob

    def put(self, coded: _CodedPiece) -> None:
        """Store a piece, unless there is an equal part already, and note which blobs it is of."""
        same = (coded.sha256, coded.coded.codec, coded.piece.size)
        number = self._numbers.setdefault(same, len(self._parts))
        if number == len(self._parts):
            self._parts.append(self._store(coded))
        offset = 0
        for each in coded.piece.ranges:
            self._extents[each.blob.sha256].append(Extent(number, offset, each.length))
            offset += each.length

    def finish(self) -> Packed:
        """End the last volume."""
        self._end_volume()
        blobs = (Blob(sha256=b.sha256, size=b.size, extents=tuple(self._extents[b.sha256])) for b in self._blobs)
        return Packed(blobs=tuple(blobs), parts=tuple(self._parts), volumes=tuple(self._volumes))

    def abandon(self) -> None:
        """Let go of a volume that was not ended."""
        if self._open is not None:
            self._open.abandon()

    def _store(self, coded: _CodedPiece) -> Part:
        # The same stored bytes may decode to other raw ones by another codec: they are shared all the same.
        twin = self._by_stored.get(coded.sha256)
        offset = twin.offset if twin else self._append(coded)
        part = Part(
            codec=coded.coded.codec,
            sha256=coded.sha256,
            size=coded.coded.size,
            raw_size=coded.piece.size,
            volume=twin.volume if twin else len(self._volumes),
            offset=offset,
        )
        self._by_stored.setdefault(coded.sha256, part)
        return part

    def _append(self, coded: _CodedPiece) -> int:
        if self._open is not None and not self._open.room_for(coded.coded.size, self._limit):
            self._end_volume()
        if self._open is None:
            self._open = VolumeStream(self._folder / volume_name(self._name, len(self._volumes)))
        return self._open.append(coded.sha256, coded.coded.size, coded.coded.streams)

    def _end_volume(self) -> None:
        if self._open is not None:
            done = self._open.finish()
            self._open = None
            self._volumes.append(Volume(name=done.path.name, size=done.size, sha256=done.sha256))
