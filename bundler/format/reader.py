"""A bundle into blobs: every byte is checked before it is decoded, and every blob again when it is whole."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from bundler.digest import BlobHasher, Digest, GitOid
from bundler.errors import DamagedBundleError, FormatError, IncompleteBundleError
from bundler.fields import read_bounded
from bundler.format import codec
from bundler.format.index import (
    INDEX_NAME, MAX_INDEX_SIZE, MAX_STORED_SIZE, Blob, Extent, Index, Part, Volume, parse_index
)
from bundler.format.sums import MAX_SUMS_SIZE, SIGNATURE_NAME, SUMS_NAME, parse_sums
from bundler.format.volume import BLOCK_SIZE, END_SIZE, HEADER_SIZE, member_header, padded
from bundler.fsio import explain_os_errors
from bundler.pipeline import BufferPool, ordered_map

READ_BUFFER_SIZE = HEADER_SIZE + MAX_STORED_SIZE + BLOCK_SIZE
"""Bytes: a part with its header and padding, and so as well what it decodes to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle whose index was checked. Nothing of its volumes has been read yet."""

    folders: tuple[Path, ...]
    """Where its files are, perhaps on several media."""

    identity: Digest
    """The SHA-256 of the index."""

    index: Index

    sums: tuple[tuple[str, Digest], ...]
    """What SHA256SUMS lists, sorted by name."""

    def find(self, name: str) -> Path | None:
        """Return where a file of the bundle is, None if no folder has it."""
        return next(iter(self.find_all(name)), None)

    def find_all(self, name: str) -> tuple[Path, ...]:
        """Return where copies of a file of the bundle are."""
        return tuple(folder / name for folder in self.folders if (folder / name).is_file())

    @property
    def signed(self) -> bool:
        """Whether a signature lies beside SHA256SUMS. Nothing is said of who made it, nor of its truth."""
        return self.find(SIGNATURE_NAME) is not None

    def require_volumes(self) -> None:
        """Fail unless every volume is there with its full size; a look at names and sizes, nothing is read.

        Raises `IncompleteBundleError` or `DamagedBundleError`, naming all that it is about.
        """
        absent = [volume.name for volume in self.absent_volumes()]
        if absent:
            raise IncompleteBundleError(
                f"{', '.join(absent)} of {len(self.index.volumes)} volumes are in none of the folders",
                hint="name every folder that holds a part of the bundle, or copy what is missing again",
            )
        for volume in self.index.volumes:
            if reason := why_cut(self.find(volume.name), volume):
                raise DamagedBundleError(reason, hint=f"copy {volume.name} from the gateway again")

    def absent_volumes(self) -> tuple[Volume, ...]:
        """Return the volumes that no folder has."""
        return tuple(volume for volume in self.index.volumes if self.find(volume.name) is None)


def open_bundle(folders: tuple[Path, ...]) -> Bundle:
    """Read and check SHA256SUMS and the index of a bundle that lies in one folder or several.

    Raises `IncompleteBundleError` if there is no bundle, `DamagedBundleError` if the index is not the one that was
    written, `FormatError` if it breaks the format's rules.
    """
    with explain_os_errors("opening the bundle"):
        sums_text = _same_everywhere(folders, SUMS_NAME, MAX_SUMS_SIZE)
        sums = parse_sums(sums_text)
        index_text = _same_everywhere(folders, INDEX_NAME, MAX_INDEX_SIZE)
    identity = Digest.of(index_text)
    if sums.get(INDEX_NAME) != identity:
        raise DamagedBundleError(
            f"{INDEX_NAME} has the SHA-256 {identity}, {SUMS_NAME} says {sums.get(INDEX_NAME)}",
            hint="copy both files from the gateway again",
        )
    index = parse_index(index_text)
    for volume in index.volumes:
        if sums.get(volume.name) != volume.sha256:
            raise FormatError(f"{SUMS_NAME} and {INDEX_NAME} do not give {volume.name} the same digest")
    return Bundle(folders=folders, identity=identity, index=index, sums=tuple(sorted(sums.items())))


def _same_everywhere(folders: tuple[Path, ...], name: str, limit: int) -> bytes:
    paths = [folder / name for folder in folders if (folder / name).is_file()]
    if not paths:
        places = ", ".join(str(folder) for folder in folders)
        raise IncompleteBundleError(
            f"there is no complete bundle in {places}: {name} is missing",
            hint="name the folder that holds index.json and SHA256SUMS; if the build was interrupted, run it again",
        )
    first = read_bounded(paths[0], limit=limit, failure=FormatError)
    for other in paths[1:]:
        if read_bounded(other, limit=limit, failure=FormatError) != first:
            raise FormatError(
                f"{paths[0]} and {other} differ", hint="these folders are of different bundles: name those of one"
            )
    return first


def why_cut(path: Path | None, volume: Volume) -> str:
    """Say how a volume's size is wrong; empty if it is right, or the volume is not there at all."""
    size = path.stat().st_size if path else volume.size
    return "" if size == volume.size else f"{path} has {size:,} bytes, {volume.name} was written with {volume.size:,}"


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part as it stands in its volume: nothing of it is checked."""

    number: int
    part: Part
    header: memoryview
    stored: memoryview
    padding: memoryview
    buffer: bytearray


class VolumeFile:
    """A volume open for reading, never for writing."""

    def __init__(self, path: Path, volume: Volume) -> None:
        """Open the file, whatever its size: what is cut off reads as nothing."""
        self.volume = volume
        self._stream = FileIO(path)
        self._hash = hashlib.sha256()
        self._hashed = 0

    def close(self) -> None:
        """Let go of the file."""
        self._stream.close()

    def read_part(self, number: int, part: Part, buffer: bytearray, *, hashing: bool = False) -> StoredPart:
        """Read a part with its surroundings into `buffer`, of `READ_BUFFER_SIZE` bytes.

        With `hashing`, what lies before it is read and hashed on the way.

        Raises `DamagedBundleError` where the medium does not give its bytes.
        """
        start = part.offset - HEADER_SIZE
        size = HEADER_SIZE + padded(part.size)
        if hashing and start > self._hashed:
            self._hash_up_to(start)
        content = self._read(start, memoryview(buffer)[:size])
        if hashing and start == self._hashed:
            self._hash.update(content)
            self._hashed += len(content)
        end = HEADER_SIZE + part.size
        return StoredPart(number, part, content[:HEADER_SIZE], content[HEADER_SIZE:end], content[end:], buffer)

    def finish_hash(self) -> bool:
        """Read and hash what `read_part` did not pass, and say whether the whole volume is the one that was written.

        Raises `DamagedBundleError` where the medium does not give its bytes.
        """
        self._hash_up_to(self.volume.size)
        end = self._read(self.volume.size - END_SIZE, memoryview(bytearray(END_SIZE)))
        return end == bytes(END_SIZE) and self._hash.hexdigest() == self.volume.sha256

    def _hash_up_to(self, end: int) -> None:
        buffer = memoryview(bytearray(1 << 20))
        while self._hashed < end:
            content = self._read(self._hashed, buffer[:end - self._hashed])
            if not content:
                return
            self._hash.update(content)
            self._hashed += len(content)

    def _read(self, start: int, buffer: memoryview) -> memoryview:
        """Fill `buffer` from `start` on and return what of it was filled: less only at the end of the file."""
        filled = 0
        try:
            self._stream.seek(start)
            while count := self._stream.readinto(buffer[filled:]):
                filled += count
            return buffer[:filled]
        except OSError as error:
            raise DamagedBundleError(f"cannot be read from byte {start:,} on: {error.strerror}") from error


def why_damaged(stored: StoredPart) -> str:
    """Say what is wrong with a part as it stands in its volume; empty if nothing is."""
    part = stored.part
    if len(stored.stored) != part.size or Digest.of(stored.stored) != part.sha256:
        return f"its {part.size:,} bytes do not have the SHA-256 {part.sha256}"
    if stored.header != member_header(part.sha256, part.size) or stored.padding != bytes(padded(part.size) - part.size):
        return "its tar header or padding is not the one that the format prescribes"
    return ""


def decode_part(stored: StoredPart, scratch: bytearray) -> memoryview:
    """Check a part, then decode it; the result may lie in `scratch`, or be the stored bytes themselves.

    Raises `DamagedBundleError`, or `FormatError` if it never was right.
    """
    if reason := why_damaged(stored):
        raise DamagedBundleError(f"part {stored.number}: {reason}")
    try:
        return codec.decode(stored.part.codec, stored.stored, stored.part.raw_size, scratch=scratch)
    except FormatError as error:
        raise FormatError(f"part {stored.number} {error}") from error


class BlobReader:
    """Reads blobs from a bundle's volumes, each part once where blobs are asked for in the index's order."""

    def __init__(self, bundle: Bundle, *, workers: int) -> None:
        self._bundle = bundle
        self._workers = workers
        self._files: dict[int, VolumeFile] = {}
        self._pool = BufferPool(READ_BUFFER_SIZE)

    def __enter__(self) -> BlobReader:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files.values():
            file.close()

    def read(self, blobs: Iterable[Blob]) -> Iterator[tuple[Blob, Iterator[memoryview]]]:
        """Yield each blob with its bytes in chunks, which must be drawn before the next blob is.

        The last chunk is not the proof: it comes when the chunks end, as `DamagedBundleError` if the blob is wrong.
        """
        listed = list(blobs)
        git_oids = self._bundle.index.git_oids
        with closing(ordered_map(self._decode, self._stored(part_runs(listed)), workers=self._workers)) as raws:
            feed = _Feed(raws, self._pool)
            for blob in listed:
                yield blob, _proven_chunks(blob, git_oids.get(blob.sha256), feed)

    def _stored(self, runs: Iterable[int]) -> Iterator[StoredPart]:
        for number in runs:
            part = self._bundle.index.parts[number]
            try:
                stored = self._volume(part.volume).read_part(number, part, self._pool.take())
            except DamagedBundleError as error:
                raise self._lost(number, f"part {number}: {error}") from error
            yield stored

    def _volume(self, number: int) -> VolumeFile:
        if number not in self._files:
            volume = self._bundle.index.volumes[number]
            path = self._bundle.find(volume.name)
            if path is None:
                raise IncompleteBundleError(
                    f"{volume.name} is in none of the folders", hint="name the folder that holds it as well"
                )
            self._files[number] = VolumeFile(path, volume)
        return self._files[number]

    def _decode(self, stored: StoredPart) -> RawPart:
        try:
            return decoded(stored, self._pool)
        except DamagedBundleError as error:
            raise self._lost(stored.number, str(error)) from error

    def _lost(self, number: int, reason: str) -> DamagedBundleError:
        index = self._bundle.index
        volume = index.volumes[index.parts[number].volume]
        return DamagedBundleError(
            f"{volume.name}, {reason}; it is of {name_some(files_of(index, number))}",
            hint=f"copy {volume.name} from the gateway again; `bundle verify` lists all damage",
        )


def part_runs(blobs: Iterable[Blob]) -> Iterator[int]:
    """Yield the numbers of the parts that the blobs need one after another, neighbours that are equal once."""
    before = -1
    for blob in blobs:
        for extent in blob.extents:
            if extent.part != before:
                yield extent.part
            before = extent.part


@dataclass(frozen=True, slots=True)
class RawPart:
    """A part after decoding, in buffers that are to be given back."""

    number: int
    raw: memoryview
    buffers: tuple[bytearray, ...]


def decoded(stored: StoredPart, pool: BufferPool) -> RawPart:
    """Check and decode a part that was read into a buffer of `pool`. Raises what `decode_part` raises."""
    scratch = pool.take()
    return RawPart(stored.number, decode_part(stored, scratch), (stored.buffer, scratch))


class _Feed:
    """The parts of `part_runs`, handed out extent by extent."""

    def __init__(self, raws: Iterator[RawPart], pool: BufferPool) -> None:
        self._raws = raws
        self._pool = pool
        self._current = RawPart(-1, memoryview(b""), ())

    def take(self, extent: Extent) -> memoryview:
        """Return the bytes of the next extent, good until the one after it is taken."""
        if extent.part != self._current.number:
            self._pool.give(*self._current.buffers)
            self._current = next(self._raws)
        return self._current.raw[extent.offset:extent.offset + extent.length]


def _proven_chunks(blob: Blob, git_oid: GitOid | None, feed: _Feed) -> Iterator[memoryview]:
    hasher = BlobHasher(blob.size, git=git_oid is not None)
    for extent in blob.extents:
        chunk = feed.take(extent)
        hasher.update(chunk)
        yield chunk
    if reason := why_other(blob, git_oid, hasher):
        raise DamagedBundleError(reason, hint="the bundle was built wrong: build it again on the gateway")


def why_other(blob: Blob, git_oid: GitOid | None, hasher: BlobHasher) -> str:
    """Say how the bytes that a blob's parts make up are not the blob; empty if they are."""
    if hasher.sha256 != blob.sha256:
        return f"the parts of blob {blob.sha256} are whole, but make up {hasher.sha256}"
    if git_oid is not None and hasher.git_oid != git_oid:
        return f"blob {blob.sha256} has the git id {hasher.git_oid}, not the {git_oid} that its files give it"
    return ""


def files_of(index: Index, part: int) -> tuple[str, ...]:
    """Name the files that need a part."""
    return files_with(
        index, {blob.sha256 for blob in index.blobs if any(extent.part == part for extent in blob.extents)}
    )


def files_with(index: Index, blobs: Collection[Digest]) -> tuple[str, ...]:
    """Name the files whose bytes are one of `blobs`."""
    return tuple(
        f"`{file.path}` of {snapshot.repo}"
        for snapshot in index.snapshots
        for file in snapshot.files
        if file.sha256 in blobs
    )


def name_some(names: tuple[str, ...]) -> str:
    """Put names into a sentence, the first few where they are many."""
    more = f" and {len(names) - 4:,} more files" if len(names) > 4 else ""
    return (", ".join(names[:4]) or "no file") + more
