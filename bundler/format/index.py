"""The index: what a bundle holds, and where in its volumes. Its SHA-256 is the bundle's identity.

FORMAT.md is the law for what stands here. An index that was parsed keeps every rule that can be checked without
opening a volume: the layout of volumes follows from it alone, so nothing overlaps, leads in circles or lies outside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from bundler.digest import Commit, Digest, GitOid
from bundler.errors import FormatError, UnsupportedVersionError
from bundler.fields import Fields, parse_json
from bundler.format.volume import HEADER_SIZE, END_SIZE, padded
from bundler.lock import Identity, LockedFile, file_values, parse_files, parse_identity
from bundler.names import BundleName, RefName, RepoId, RepoType, refs_of

INDEX_NAME = "index.json"
FORMAT_VERSION = (1, 0)
KNOWN_FEATURES: frozenset[str] = frozenset()
"""Values of `requires` that this release can serve."""

MAX_INDEX_SIZE = 128 << 20
_MAX_MARKS = 8_000_000
"""Commas, and opening brackets of either kind, in an index: what its size in memory goes by. A terabyte has 700,000."""

MAX_PART_SIZE = 16 << 20
"""Raw bytes of a part, at most."""

MAX_STORED_SIZE = MAX_PART_SIZE + (64 << 10)
"""Stored bytes of a part, at most."""

VOLUME_ROLE = "parts"


class Codec(StrEnum):
    """How a part's raw bytes became its stored ones."""

    RAW = "raw"
    ZSTD = "zstd"
    PLANES = "planes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stored piece of the bundle, decoded without any other part."""

    codec: Codec

    sha256: Digest
    """Of the stored bytes, so that plain `sha256sum` can check it."""

    size: int
    """Stored bytes."""

    raw_size: int
    """Bytes after decoding; a decoder stops there whatever the frames claim."""

    volume: int
    """Number of the volume, from 0."""

    offset: int
    """Where the stored bytes start in the volume."""


@dataclass(frozen=True, slots=True)
class Extent:
    """A range of a part's raw bytes that is the next range of a blob."""

    part: int
    """Number of the part, from 0."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A file's bytes, in pieces."""

    sha256: Digest
    size: int
    extents: tuple[Extent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """One tar."""

    name: str
    size: int
    sha256: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A repository's files at a commit."""

    repo: RepoId
    commit: Commit

    refs: tuple[RefName, ...]
    """What users call this commit."""

    identity: Identity

    files: tuple[LockedFile, ...]
    """Sorted by path, each with its SHA-256: the name of its blob in this index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """What a bundle holds."""

    name: BundleName

    written_with: tuple[tuple[str, str], ...]
    """(program or library, version), sorted: what the stored bytes depend on besides the content."""

    snapshots: tuple[Snapshot, ...]
    blobs: tuple[Blob, ...]
    parts: tuple[Part, ...]
    volumes: tuple[Volume, ...]

    @property
    def raw_size(self) -> int:
        """Bytes of all blobs, each counted once."""
        return sum(blob.size for blob in self.blobs)

    @property
    def stored_size(self) -> int:
        """Bytes of all volumes."""
        return sum(volume.size for volume in self.volumes)

    @property
    def git_oids(self) -> dict[Digest, GitOid]:
        """The git id that a blob must have, for blobs of files that are known by it."""
        files = (file for snapshot in self.snapshots for file in snapshot.files)
        return {sha256_of(file): file.etag for file in files if isinstance(file.etag, GitOid)}


def sha256_of(file: LockedFile) -> Digest:
    """Return the SHA-256 of a file of a parsed index, where it is always known."""
    if file.sha256 is None:
        raise FormatError(f"index.json: `{file.path}` has no SHA-256")
    return file.sha256


def canonical_json(value: object) -> bytes:
    """Spell a document in the one way of RFC 8785, for ASCII names and whole numbers, which is all we write."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def index_text(index: Index) -> bytes:
    """Spell the index."""
    return canonical_json(
        {
            "format_version": "{}.{}".format(*FORMAT_VERSION),
            "requires": [],
            "name": index.name,
            "written_with": dict(index.written_with),
            "snapshots": [_snapshot_values(snapshot) for snapshot in index.snapshots],
            "blobs": [_blob_values(blob) for blob in index.blobs],
            "parts": [_part_values(part) for part in index.parts],
            "volumes": [
                {"name": volume.name, "size": volume.size, "sha256": volume.sha256, "role": VOLUME_ROLE}
                for volume in index.volumes
            ],
        }
    )


def _snapshot_values(snapshot: Snapshot) -> dict[str, object]:
    return {
        "id": snapshot.repo.name,
        "type": snapshot.repo.type,
        "commit": snapshot.commit,
        "refs": snapshot.refs,
        "told_by": snapshot.identity.told_by,
        "agreed_by": snapshot.identity.agreed_by,
        "differed": snapshot.identity.differed,
        "files": [file_values(file) for file in snapshot.files],
    }


def _blob_values(blob: Blob) -> dict[str, object]:
    extents = [{"part": extent.part, "offset": extent.offset, "length": extent.length} for extent in blob.extents]
    return {"sha256": blob.sha256, "size": blob.size, "extents": extents}


def _part_values(part: Part) -> dict[str, object]:
    return {
        "codec": part.codec,
        "sha256": part.sha256,
        "size": part.size,
        "raw_size": part.raw_size,
        "volume": part.volume,
        "offset": part.offset,
    }


def parse_index(text: bytes, *, document: str = "index.json") -> Index:
    """Parse and check an index.

    Raises `UnsupportedVersionError` for a bundle from the future, `FormatError` for anything else that is not an index.
    """
    if max(text.count(b","), text.count(b"[") + text.count(b"{")) > _MAX_MARKS:
        raise FormatError(f"{document} has more than {_MAX_MARKS:,} entries")
    values = parse_json(text, document=document, failure=FormatError, plain=True)
    fields = Fields(values, document=document, failure=FormatError)
    _check_version(fields)
    try:
        spelled = canonical_json(values)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{document} holds what has no canonical spelling: {error}") from error
    if spelled != text:
        raise FormatError(f"{document} is not in canonical spelling")
    fields.need("requires", "snapshots", "blobs", "parts", "volumes")
    index = Index(
        name=fields.name("name", BundleName),
        written_with=_written_with(fields),
        snapshots=tuple(_parse_snapshot(snapshot) for snapshot in fields.objects("snapshots")),
        blobs=tuple(_parse_blob(blob) for blob in fields.objects("blobs")),
        parts=tuple(_parse_part(part) for part in fields.objects("parts")),
        volumes=tuple(_parse_volume(volume) for volume in fields.objects("volumes")),
    )
    _Rules(index, document).check()
    return index


def _check_version(fields: Fields) -> None:
    version = fields.text("format_version")
    match = re.fullmatch(r"([1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})", version)
    if match is None:
        fields.refuse("format_version", "is not a version such as `1.0`")
    if int(match[1]) != FORMAT_VERSION[0]:
        raise UnsupportedVersionError(
            f"the bundle is of format {version[:16]}, this release reads format {FORMAT_VERSION[0]}",
            hint=f"install a release of hf-bundler that reads format {match[1]}",
        )
    if missing := sorted(set(fields.texts("requires", str)) - KNOWN_FEATURES):
        raise UnsupportedVersionError(
            f"the bundle needs features that this release does not have: {', '.join(missing)[:200]}",
            hint="install a newer release of hf-bundler",
        )


def _written_with(fields: Fields) -> tuple[tuple[str, str], ...]:
    inner = fields.inner("written_with")
    return tuple((program, inner.text(program)) for program in sorted(inner.keys()))


def _parse_snapshot(fields: Fields) -> Snapshot:
    fields.need("refs", "agreed_by", "differed", "files")
    repo_type = fields.name("type", RepoType)
    files = parse_files(fields)
    for position, file in enumerate(files):
        if file.sha256 is None:
            fields.refuse(f"files[{position}].sha256", "is missing")
    refs = fields.texts("refs", RefName)
    if not all(refs_of(ref) for ref in refs):
        fields.refuse("refs", "holds a commit: `refs/` of a cache would call one commit by another's name")
    return Snapshot(
        repo=fields.name("id", lambda name: RepoId(repo_type, name)),
        commit=fields.name("commit", Commit),
        refs=refs,
        identity=parse_identity(fields),
        files=files,
    )


def _parse_blob(fields: Fields) -> Blob:
    fields.need("extents")
    extents = tuple(
        Extent(each.size("part"), each.size("offset", limit=MAX_PART_SIZE), each.size("length", limit=MAX_PART_SIZE))
        for each in fields.objects("extents")
    )
    return Blob(sha256=fields.name("sha256", Digest), size=fields.size("size"), extents=extents)


def _parse_part(fields: Fields) -> Part:
    if (codec := fields.text("codec")) not in set(Codec):
        raise UnsupportedVersionError(
            f"the bundle has parts of a codec that this release does not know: {codec[:40]!r}",
            hint="install a newer release of hf-bundler",
        )
    if fields.size("raw_size", limit=MAX_PART_SIZE) == 0:
        fields.refuse("raw_size", "is 0: an empty part is of no blob")
    return Part(
        codec=Codec(codec),
        sha256=fields.name("sha256", Digest),
        size=fields.size("size", limit=MAX_STORED_SIZE),
        raw_size=fields.size("raw_size", limit=MAX_PART_SIZE),
        volume=fields.size("volume"),
        offset=fields.size("offset"),
    )


def _parse_volume(fields: Fields) -> Volume:
    if (role := fields.text("role")) != VOLUME_ROLE:
        fields.refuse("role", f"is `{role[:40]}`, which this release does not know")
    return Volume(name=fields.text("name"), size=fields.size("size"), sha256=fields.name("sha256", Digest))


def part_runs(blobs: Iterable[Blob]) -> Iterator[int]:
    """Yield the numbers of the parts that the blobs need one after another, neighbours that are equal once."""
    before = -1
    for blob in blobs:
        for extent in blob.extents:
            if extent.part != before:
                yield extent.part
            before = extent.part


def volume_name(bundle: str, number: int) -> str:
    """Return the file name of volume `number`, from 0: `speech-001.tar` is the first."""
    return f"{bundle}-{number + 1:03d}.tar"


class _Rules:
    """What must hold between the entries of an index. One method a rule; the first breach is raised."""

    def __init__(self, index: Index, document: str) -> None:
        self._index = index
        self._document = document

    def check(self) -> None:
        self._parts_fill_volumes()
        self._extents_make_blobs()
        self._parts_are_read_for_their_bytes()
        self._files_have_blobs()
        self._etags_name_one_content()
        self._snapshots_are_distinct()

    def _refuse(self, reason: str) -> None:
        raise FormatError(f"{self._document}: {reason}")

    def _parts_fill_volumes(self) -> None:
        """Lay every volume out anew: in order of number, a member for each stored piece that was not there before."""
        ends = [0] * len(self._index.volumes)
        places: dict[Digest, tuple[int, int, int]] = {}
        current = 0
        for number, part in enumerate(self._index.parts):
            place = (part.volume, part.offset, part.size)
            if part.sha256 not in places:
                if not current <= part.volume < len(ends) or part.offset != ends[part.volume] + HEADER_SIZE:
                    self._refuse(f"part {number} does not stand where the layout puts it")
                current = part.volume
                ends[current] = part.offset + padded(part.size)
                places[part.sha256] = place
            if places[part.sha256] != place:
                self._refuse(f"part {number} stands in two places")
            if part.codec is Codec.RAW and part.size != part.raw_size:
                self._refuse(f"part {number} is stored raw, but said to decode to another size")
        for number, (volume, end) in enumerate(zip(self._index.volumes, ends)):
            if volume.name != volume_name(self._index.name, number) or volume.size != end + END_SIZE:
                self._refuse(f"volume {number} has another name or size than its parts give it")

    def _extents_make_blobs(self) -> None:
        parts = self._index.parts
        for blob in self._index.blobs:
            for extent in blob.extents:
                if extent.part >= len(parts) or extent.offset + extent.length > parts[extent.part].raw_size:
                    self._refuse(f"blob {blob.sha256} reaches outside of part {extent.part}")
                if extent.length == 0:
                    self._refuse(f"blob {blob.sha256} has an empty extent")
            if sum(extent.length for extent in blob.extents) != blob.size:
                self._refuse(f"the extents of blob {blob.sha256} do not add up to its {blob.size:,} bytes")

    def _parts_are_read_for_their_bytes(self) -> None:
        """Refuse blobs that make a reader decode far more than it gets, such as single bytes of two parts in turn."""
        decoded = sum(self._index.parts[number].raw_size for number in part_runs(self._index.blobs))
        if decoded > 2 * self._index.raw_size + MAX_PART_SIZE:
            self._refuse(f"its blobs of {self._index.raw_size:,} bytes take {decoded:,} bytes of parts to read")

    def _files_have_blobs(self) -> None:
        sizes = {blob.sha256: blob.size for blob in self._index.blobs}
        if len(sizes) != len(self._index.blobs):
            self._refuse("a blob stands in it twice")
        for snapshot in self._index.snapshots:
            for file in snapshot.files:
                if sizes.get(sha256_of(file)) != file.size:
                    self._refuse(f"`{file.path}` of {snapshot.repo} has no blob of its digest and size")

    def _etags_name_one_content(self) -> None:
        """In a cache the etag is the blob's name: with two contents for one, a file would overwrite another's."""
        git_oids = self._index.git_oids
        contents: dict[GitOid, Digest] = {}
        for snapshot in self._index.snapshots:
            for file in snapshot.files:
                if isinstance(file.etag, GitOid):
                    sha256 = sha256_of(file)
                    if contents.setdefault(file.etag, sha256) != sha256 or git_oids[sha256] != file.etag:
                        self._refuse(f"`{file.path}` of {snapshot.repo} gives git id and SHA-256 another match")

    def _snapshots_are_distinct(self) -> None:
        seen: set[tuple[RepoId, str]] = set()
        for snapshot in self._index.snapshots:
            for name in (snapshot.commit, *snapshot.refs):
                if (snapshot.repo, name) in seen:
                    self._refuse(f"{snapshot.repo} has `{name}` twice")
                seen.add((snapshot.repo, name))
