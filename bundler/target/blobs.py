"""Blobs from a bundle into their places: from the volumes that are here, on top of what an earlier run has staged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from bundler.digest import BlobHasher, Digest
from bundler.errors import DamagedBundleError
from bundler.format.blobs import BlobReader, Wanted
from bundler.format.index import Blob, Extent, Part, Volume
from bundler.format.problem import Problem
from bundler.format.reader import Bundle, why_other
from bundler.fsio import make_folders, place_all
from bundler.pipeline import Aside
from bundler.progress import Advanced, OnEvent, Phase
from bundler.target.places import Place, Places
from bundler.target.staging import Held, Span, StagedBlob

_BATCH_FILES = 1000
_BATCH_BYTES = 256 << 20
"""Staged blobs are synced and renamed together, at most so many."""


class BlobWriter:
    """Writes what a bundle's folders have of the missing blobs; the rest is told, and what was begun is kept."""

    def __init__(self, bundle: Bundle, missing: Places, *, keep_going: bool, on_event: OnEvent) -> None:
        """Prepare; with `keep_going` damage is noted and the rest written, without it raised."""
        self._bundle = bundle
        self._missing = missing
        self._keep_going = keep_going
        self._on_event = on_event
        self._absent = {number for number, volume in enumerate(bundle.index.volumes)
                        if bundle.find(volume.name) is None}
        self._git_oids = bundle.index.git_oids
        self._batch = _Batch()
        self._aside = Aside()
        self._problems: dict[int, Problem] = {}
        self._lacking: set[int] = set()
        self.unfinished: set[Digest] = set()
        """Blobs that are not whole."""

        self.written = 0
        """Bytes in all places, of blobs that are whole."""

    def run(self, *, workers: int) -> None:
        """Write and place all that can be; call it once."""
        try:
            with BlobReader(self._bundle, workers=workers) as reader:
                held = {blob.sha256: self._held(blob) for blob in self._wanted()}
                reads = [Wanted(blob, self._to_read(blob, held[blob.sha256])) for blob in self._wanted()]
                for blob, chunks in reader.read(reads):
                    self._write(blob, held[blob.sha256], chunks)
        except BaseException:
            # What is whole and proven is placed all the same, so that the next run need not read it again.
            with suppress(OSError):
                self._batch.place()
            raise
        finally:
            self._aside.close()
        self._batch.place()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return what the media did not give as it was written, in order of parts."""
        return tuple(self._problems[number] for number in sorted(self._problems))

    @property
    def lacking(self) -> tuple[Volume, ...]:
        """Return the volumes that hold what is still needed: the least to carry, again or for the first time."""
        index = self._bundle.index
        return tuple(index.volumes[number] for number in sorted({index.parts[part].volume for part in self._lacking}))

    def _wanted(self) -> Iterator[Blob]:
        return (blob for blob in self._bundle.index.blobs if blob.sha256 in self._missing)

    def _held(self, blob: Blob) -> Held:
        """Return what of a blob is staged in all its places, and proven."""
        staged = [set(place.staged.proven()) for place in self._missing[blob.sha256]]
        return Held(set.intersection(*staged))

    def _to_read(self, blob: Blob, held: Held) -> tuple[Extent, ...]:
        return tuple(
            extent for offset, extent in _laid_out(blob)
            if (offset, extent.length) not in held and self._part(extent).volume not in self._absent
        )

    def _part(self, extent: Extent) -> Part:
        return self._bundle.index.parts[extent.part]

    def _write(self, blob: Blob, held: Held, chunks: Iterator[memoryview | Problem]) -> None:
        places = self._missing[blob.sha256]
        hasher = BlobHasher(blob.size, git=blob.sha256 in self._git_oids)
        gap = False
        paths, access = tuple(place.staged for place in places), places[0].folder.access
        with StagedBlob(paths, blob.size, held=held, access=access) as staged:
            for offset, extent in _laid_out(blob):
                if self._take(offset, extent, staged, None if gap else hasher, chunks):
                    self._on_event(Advanced(Phase.INSTALL, extent.length * len(places)))
                else:
                    gap = True
            if gap:
                self.unfinished.add(blob.sha256)
                return
            self._prove(blob, hasher, staged)
        for place in places:
            self._batch.add(place)
        self.written += blob.size * len(places)

    def _take(
        self, offset: int, extent: Extent, staged: StagedBlob, hasher: BlobHasher | None,
        chunks: Iterator[memoryview | Problem],
    ) -> bool:
        """Hash a range of a blob, from staging or, while it is staged, from its volume; False if it is in neither.

        `hasher` has taken all that comes before; None where something is missing, so that the blob cannot be proven in
        this run: each range is then proven for itself, to the next one.
        """
        if staged.holds(offset, extent.length):
            if hasher:
                for piece in staged.read(offset, extent.length):
                    hasher.update(piece)
            return True
        chunk = None if self._part(extent).volume in self._absent else self._usable(next(chunks))
        if chunk is None:
            self._lacking.add(extent.part)
            return False
        start, proof = (0, hasher) if hasher else (offset, BlobHasher(extent.length, git=False))
        with self._aside.doing(partial(proof.update, chunk), size=len(chunk)):
            staged.write(offset, chunk)
        if staged.size > extent.length:
            staged.hold(Span(start, offset + extent.length - start, proof.sha256))
        return True

    def _usable(self, chunk: memoryview | Problem) -> memoryview | None:
        if isinstance(chunk, memoryview):
            return chunk
        if not self._keep_going or chunk.part is None:
            raise chunk.error()
        self._problems[chunk.part] = chunk
        return None

    def _prove(self, blob: Blob, hasher: BlobHasher, staged: StagedBlob) -> None:
        # Under a git id of other bytes it would spoil every snapshot that has those.
        if reason := why_other(blob, self._git_oids.get(blob.sha256), hasher):
            staged.discard()
            raise DamagedBundleError(reason, hint="the bundle was built wrong: build it again on the gateway")
        staged.finish()


def _laid_out(blob: Blob) -> Iterator[tuple[int, Extent]]:
    """Yield the extents of a blob with the offsets at which they start in it."""
    offset = 0
    for extent in blob.extents:
        yield offset, extent
        offset += extent.length


class _Batch:
    """Staged blobs that wait to be placed together."""

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._size = 0
        self._folders: set[Path] = set()

    def add(self, place: Place) -> None:
        """Take a staged blob; place all when they are many."""
        self._places.append(place)
        self._size += place.file.size
        if len(self._places) >= _BATCH_FILES or self._size >= _BATCH_BYTES:
            self.place()

    def place(self) -> None:
        """Make all of them durable under their final names."""
        if not self._places:
            return
        access = self._places[0].folder.access
        for folder in {place.final.parent for place in self._places} - self._folders:
            make_folders(folder, access=access)
            self._folders.add(folder)
        place_all([(place.staged.part, place.final) for place in self._places], access=access)
        for place in self._places:
            place.staged.journal.unlink(missing_ok=True)
        self._places, self._size = [], 0
