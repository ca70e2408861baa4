"""Reads chosen ranges of blobs from a bundle's volumes, and goes on behind what a medium does not give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from bundler.errors import DamagedBundleError
from bundler.format.index import Blob, Extent
from bundler.format.problem import Kind, Problem
from bundler.format.reader import Bundle, FileLookup, RawPart, StoredPart, VolumeFile, buffer_size, decoded
from bundler.pipeline import BufferPool, ordered_map


@dataclass(frozen=True, slots=True)
class Wanted:
    """A blob, and those of its extents that are to be read, in their order."""

    blob: Blob
    extents: tuple[Extent, ...]


@dataclass(frozen=True, slots=True)
class _LostPart:
    """A part that the medium did not give as it was written."""

    number: int
    reason: str


class BlobReader:
    """Reads extents from volumes, each part once where they are asked for in the index's order.

    Every part is proven before it is decoded. Whether the extents make up the blob is for the caller to prove.
    """

    def __init__(self, bundle: Bundle, *, workers: int) -> None:
        self._bundle = bundle
        self._workers = workers
        self._files: dict[int, VolumeFile] = {}
        self._pool = BufferPool(buffer_size(bundle.index))

    def __enter__(self) -> BlobReader:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files.values():
            file.close()

    def read(self, wanted: Iterable[Wanted]) -> Iterator[tuple[Blob, Iterator[memoryview | Problem]]]:
        """Yield each blob with what its wanted extents hold, or why the medium does not give it.

        They must be drawn before the next blob is; each is good until the next one is drawn. The volumes that they
        are in must be there.
        """
        listed = list(wanted)
        numbers = (number for number, _ in groupby(extent.part for each in listed for extent in each.extents))
        with closing(ordered_map(self._decode, map(self._stored, numbers), workers=self._workers)) as parts:
            feed = _Feed(parts, self._pool)
            for each in listed:
                yield each.blob, map(self._explained, map(feed.take, each.extents))

    def _stored(self, number: int) -> StoredPart | _LostPart:
        part = self._bundle.index.parts[number]
        try:
            return self._volume(part.volume).read_part(number, part, self._pool.take())
        except DamagedBundleError as error:
            return _LostPart(number, str(error))

    def _volume(self, number: int) -> VolumeFile:
        if number not in self._files:
            volume = self._bundle.index.volumes[number]
            path = self._bundle.find(volume.name)
            try:
                if path is None:
                    raise DamagedBundleError("its volume is no longer in the folder where it was")
                self._files[number] = VolumeFile(path, volume)
            except OSError as error:
                raise DamagedBundleError(f"its volume cannot be opened: {error.strerror}") from error
        return self._files[number]

    def _decode(self, stored: StoredPart | _LostPart) -> RawPart | _LostPart:
        if isinstance(stored, _LostPart):
            return stored
        try:
            return decoded(stored, self._pool)
        except DamagedBundleError as error:
            return _LostPart(stored.number, str(error).removeprefix(f"part {stored.number}: "))

    def _explained(self, found: memoryview | _LostPart) -> memoryview | Problem:
        if isinstance(found, memoryview):
            return found
        index = self._bundle.index
        return Problem(
            kind=Kind.DAMAGED,
            name=index.volumes[index.parts[found.number].volume].name,
            part=found.number,
            reason=found.reason,
            files=self._lookup.of_part(found.number),
        )

    @cached_property
    def _lookup(self) -> FileLookup:
        return FileLookup(self._bundle.index)


class _Feed:
    """Parts in the order of the extents that need them, handed out extent by extent."""

    def __init__(self, parts: Iterator[RawPart | _LostPart], pool: BufferPool) -> None:
        self._parts = parts
        self._pool = pool
        self._current: RawPart | _LostPart = RawPart(-1, memoryview(b""), ())

    def take(self, extent: Extent) -> memoryview | _LostPart:
        """Return the bytes of the next extent, good until the one after it is taken."""
        if extent.part != self._current.number:
            if isinstance(self._current, RawPart):
                self._pool.give(*self._current.buffers)
            self._current = next(self._parts)
        if isinstance(self._current, _LostPart):
            return self._current
        return self._current.raw[extent.offset:extent.offset + extent.length]
