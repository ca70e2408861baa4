"""Opens a bundle and reads its parts: every byte is checked before it is decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from bundler.digest import BlobHasher, Digest, GitOid
from bundler.errors import BadSignatureError, BundlerError, DamagedBundleError, FormatError, IncompleteBundleError
from bundler.fields import read_bounded
from bundler.format import codec
from bundler.format.index import INDEX_NAME, MAX_INDEX_SIZE, Blob, Codec, Index, Part, Volume, parse_index, sha256_of
from bundler.format.signature import MAX_SIGNATURE_SIZE, Keyring, check_signature
from bundler.format.sums import MAX_SUMS_SIZE, SIGNATURE_NAME, SUMS_NAME, parse_sums
from bundler.format.verdict import Outcome, Verdict
from bundler.format.volume import END_SIZE, HEADER_SIZE, member_header, padded
from bundler.fsio import explain_os_errors
from bundler.pipeline import BufferPool


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

    verdict: Verdict
    """Who vouches for SHA256SUMS, and so for all the rest."""

    def find(self, name: str) -> Path | None:
        """Return where a file of the bundle is, None if no folder has it."""
        return next(iter(self.find_all(name)), None)

    def find_all(self, name: str) -> tuple[Path, ...]:
        """Return where copies of a file of the bundle are."""
        return tuple(_copies(self.folders, name))

    def require_uncut(self) -> None:
        """Fail unless every volume that is here has its full size; a look at names and sizes, nothing is read."""
        for volume in self.index.volumes:
            if reason := why_cut(self.find(volume.name), volume):
                raise DamagedBundleError(reason, hint=f"copy {volume.name} from the gateway again")

    def absent_volumes(self) -> tuple[Volume, ...]:
        """Return the volumes that no folder has."""
        return tuple(volume for volume in self.index.volumes if self.find(volume.name) is None)


def open_bundle(
    folders: tuple[Path, ...],
    keyring: Keyring = Keyring(),
    *,
    admit: Callable[[Verdict], None] = lambda verdict: None,
) -> Bundle:
    """Read and check SHA256SUMS and the index of a bundle that lies in one folder or several, from the top down.

    The signature is checked as `keyring` says, and its verdict shown to `admit`, which may raise, before anything is
    parsed. Raises `IncompleteBundleError` if there is no bundle, `BadSignatureError` if there is a signature of other
    bytes, `DamagedBundleError` if the index is not the one that was written, `FormatError` if it breaks the format's
    rules.
    """
    with explain_os_errors("opening the bundle"):
        sums_text = _same_everywhere(folders, SUMS_NAME, MAX_SUMS_SIZE)
        verdict = check_signature(sums_text, _signature(folders), keyring)
    if verdict.outcome is Outcome.BAD:
        raise verdict.failure()
    admit(verdict)
    return _opened(folders, sums_text, verdict)


def open_own(folders: tuple[Path, ...]) -> Bundle:
    """Open a bundle as its maker, who does not ask for a signature: none is looked at. Raises as `open_bundle`."""
    with explain_os_errors("opening the bundle"):
        sums_text = _same_everywhere(folders, SUMS_NAME, MAX_SUMS_SIZE)
    return _opened(folders, sums_text, Verdict(outcome=Outcome.UNSIGNED))


def _opened(folders: tuple[Path, ...], sums_text: bytes, verdict: Verdict) -> Bundle:
    sums = parse_sums(sums_text)
    with explain_os_errors("opening the bundle"):
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
    return Bundle(
        folders=folders, identity=identity, index=index, sums=tuple(sorted(sums.items())), verdict=verdict
    )


def _signature(folders: tuple[Path, ...]) -> bytes | None:
    paths = _copies(folders, SIGNATURE_NAME)
    return _same_content(paths, MAX_SIGNATURE_SIZE, BadSignatureError) if paths else None


def _same_everywhere(folders: tuple[Path, ...], name: str, limit: int) -> bytes:
    paths = _copies(folders, name)
    if not paths:
        places = ", ".join(str(folder) for folder in folders)
        raise IncompleteBundleError(
            f"there is no complete bundle in {places}: {name} is missing",
            hint="name the folder that holds index.json and SHA256SUMS; if the build was interrupted, run it again",
        )
    return _same_content(paths, limit, FormatError)


def _copies(folders: tuple[Path, ...], name: str) -> list[Path]:
    return [folder / name for folder in folders if (folder / name).is_file()]


def _same_content(paths: list[Path], limit: int, failure: type[BundlerError]) -> bytes:
    first = read_bounded(paths[0], limit=limit, failure=failure)
    for other in paths[1:]:
        if read_bounded(other, limit=limit, failure=failure) != first:
            raise failure(
                f"{paths[0]} and {other} differ",
                hint="these folders are of different bundles, or of one that was signed anew: name those of one",
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
    buffer: memoryview


def buffer_size(index: Index) -> int:
    """Return the bytes that hold any part of a bundle with its header and padding, and as well what it decodes to."""
    # Buffers of the largest size that a part may have would cost a small bundle more than all its reading.
    return max((max(HEADER_SIZE + padded(part.size), part.raw_size) for part in index.parts), default=0)


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

    def read_part(self, number: int, part: Part, buffer: memoryview, *, hashing: bool = False) -> StoredPart:
        """Read a part with its surroundings into `buffer`, of `buffer_size` bytes.

        With `hashing`, what lies before it is read and hashed on the way.

        Raises `DamagedBundleError` where the medium does not give its bytes.
        """
        start = part.offset - HEADER_SIZE
        size = HEADER_SIZE + padded(part.size)
        if hashing and start > self._hashed:
            self._hash_up_to(start)
        content = self._read(start, buffer[:size])
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


def decode_part(stored: StoredPart, scratch: memoryview) -> memoryview:
    """Check a part, then decode it; the result may lie in `scratch`, or be the stored bytes themselves.

    Raises `DamagedBundleError`, or `FormatError` if it never was right.
    """
    if reason := why_damaged(stored):
        raise DamagedBundleError(f"part {stored.number}: {reason}")
    try:
        return codec.decode(stored.part.codec, stored.stored, stored.part.raw_size, scratch=scratch)
    except FormatError as error:
        raise FormatError(f"part {stored.number} {error}") from error


@dataclass(frozen=True, slots=True)
class RawPart:
    """A part after decoding, in a buffer that is to be given back."""

    number: int
    raw: memoryview
    buffers: tuple[memoryview, ...]


def decoded(stored: StoredPart, pool: BufferPool) -> RawPart:
    """Check and decode a part that was read into a buffer of `pool`. Raises what `decode_part` raises."""
    scratch = pool.take()
    raw = decode_part(stored, scratch)
    # What the bytes do not lie in may be used again at once.
    needed, idle = (stored.buffer, scratch) if stored.part.codec is Codec.RAW else (scratch, stored.buffer)
    pool.give(idle)
    return RawPart(stored.number, raw, (needed,))


def why_other(blob: Blob, git_oid: GitOid | None, hasher: BlobHasher) -> str:
    """Say how the bytes that a blob's parts make up are not the blob; empty if they are."""
    if hasher.sha256 != blob.sha256:
        return f"the parts of blob {blob.sha256} are whole, but make up {hasher.sha256}"
    if git_oid is not None and hasher.git_oid != git_oid:
        return f"blob {blob.sha256} has the git id {hasher.git_oid}, not the {git_oid} that its files give it"
    return ""


class FileLookup:
    """Which files are lost with a part or a blob. Goes through the index once, as a bad stick asks for many parts."""

    def __init__(self, index: Index) -> None:
        self._names: dict[Digest, list[str]] = {}
        for snapshot in index.snapshots:
            for file in snapshot.files:
                self._names.setdefault(sha256_of(file), []).append(f"`{file.path}` of {snapshot.repo}")
        self._blobs: dict[int, dict[Digest, None]] = {}
        for blob in index.blobs:
            for extent in blob.extents:
                self._blobs.setdefault(extent.part, {})[blob.sha256] = None

    def of_part(self, number: int) -> tuple[str, ...]:
        """Name the files that need a part."""
        return tuple(name for blob in self._blobs.get(number, ()) for name in self.of_blob(blob))

    def of_blob(self, blob: Digest) -> tuple[str, ...]:
        """Name the files that are a blob."""
        return tuple(self._names.get(blob, ()))


def name_some(names: tuple[str, ...]) -> str:
    """Put names into a sentence, the first few where they are many."""
    more = f" and {len(names) - 4:,} more files" if len(names) > 4 else ""
    return (", ".join(names[:4]) or "no file") + more
