"""Small bundles without a gateway: files in memory, packed and sealed by the real writer.

    make_bundle(tmp_path / "speech", repos=[Repo(id="org/a", files={"config.json": b"{}"})])

The bundle is named as its folder. `lock_file` and `break_file` are for those who need less, or worse.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import bundler
from bundler.demo.hub import IsLfs, is_lfs
from bundler.digest import BlobHasher, Commit, Digest, GitOid
from bundler.format.blob_file import BlobFile
from bundler.format.blobs import BlobReader, Wanted
from bundler.format.codec import LIBZSTD_VERSION
from bundler.format.index import Blob, Index, Snapshot
from bundler.format.problem import Problem
from bundler.format.reader import Bundle, open_bundle
from bundler.format.volume import DEFAULT_VOLUME_SIZE
from bundler.format.writer import pack_blobs, seal_bundle
from bundler.lock import Identity, LockedFile
from bundler.manifest import EndpointUrl
from bundler.names import BundleName, RefName, RelPath, RepoId, RepoType

TOLD_BY = EndpointUrl("https://hub.example")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repo:
    """A repository at one commit, as it goes into a bundle."""

    id: str
    files: Mapping[str, bytes]
    type: str = "model"
    refs: tuple[str, ...] = ("main",)

    commit: str = ""
    """What `publish` of the hub gave, where there is one; if empty, one that follows from the content."""

    lfs: IsLfs = is_lfs
    """Decides which files are known by SHA-256, the others by their git blob id."""

    @property
    def snapshot(self) -> Snapshot:
        """The repository as the index says it."""
        files = tuple(lock_file(path, self.files[path], lfs=self.lfs) for path in sorted(self.files))
        text = "\n".join(f"{file.etag} {file.path!r}" for file in files)
        return Snapshot(
            repo=RepoId(RepoType(self.type), self.id),
            commit=Commit(self.commit or hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()),
            refs=tuple(map(RefName, self.refs)),
            identity=Identity(told_by=TOLD_BY),
            files=files,
        )


def lock_file(path: str, content: bytes, *, lfs: IsLfs = is_lfs) -> LockedFile:
    """Return a file as a lock has it after its bytes were seen."""
    sha256 = Digest.of(content)
    etag = sha256 if lfs(path, len(content)) else git_oid(content)
    return LockedFile(path=RelPath(path), size=len(content), etag=etag, sha256=sha256)


def git_oid(content: bytes) -> GitOid:
    """Return git's blob id."""
    hasher = BlobHasher(len(content), git=True)
    hasher.update(content)
    assert hasher.git_oid is not None
    return hasher.git_oid


def noise(seed: str, size: int) -> bytes:
    """Return bytes that do not compress, always the same."""
    return hashlib.shake_128(seed.encode()).digest(size)


def make_bundle(
    folder: Path, *, repos: Iterable[Repo], snapshots: Sequence[Snapshot] | None = None,
    volume_size: int = DEFAULT_VOLUME_SIZE,
) -> Path:
    """Write a complete bundle of `repos` to `folder`, whose name is its name, and return the folder.

    `snapshots` instead of their own are for a bundle that says other things than the truth.
    """
    wanted = list(repos)
    folder.mkdir(parents=True)
    name = BundleName(folder.name)
    contents = {Digest.of(repo.files[path]): repo.files[path] for repo in wanted for path in sorted(repo.files)}
    with tempfile.TemporaryDirectory(prefix="blobs-") as temporary:
        blobs = [_proven(Path(temporary), digest, content) for digest, content in contents.items()]
        packed = pack_blobs(blobs, folder, name=name, workers=2, volume_size=volume_size)
    index = Index(
        name=name,
        written_with=(("bundler", bundler.__version__), ("libzstd", LIBZSTD_VERSION)),
        snapshots=tuple(repo.snapshot for repo in wanted) if snapshots is None else tuple(snapshots),
        blobs=packed.blobs,
        parts=packed.parts,
        volumes=packed.volumes,
    )
    seal_bundle(folder, index, build_info={})
    return folder


def _proven(folder: Path, digest: Digest, content: bytes) -> BlobFile:
    path = folder / digest
    path.write_bytes(content)
    return BlobFile(path=path, sha256=digest, size=len(content))


def read_blobs(bundle: Bundle, blobs: Sequence[Blob] | None = None) -> dict[Digest, bytes]:
    """Read blobs by the real reader, all unless some are given; the first damage is raised."""
    wanted = [Wanted(blob, blob.extents) for blob in (bundle.index.blobs if blobs is None else blobs)]
    read = {}
    with BlobReader(bundle, workers=2) as reader:
        for blob, chunks in reader.read(wanted):
            content = bytearray()
            for chunk in chunks:
                if isinstance(chunk, Problem):
                    raise chunk.error()
                content += chunk
            read[blob.sha256] = bytes(content)
    return read


def break_file(bundle: Path, path: str) -> str:
    """Flip a bit of the last stored piece of a repository's file; return the name of the volume that has it."""
    index = open_bundle((bundle,)).index
    sha256 = next(file.sha256 for snapshot in index.snapshots for file in snapshot.files if file.path == path)
    blob = next(blob for blob in index.blobs if blob.sha256 == sha256)
    part = index.parts[blob.extents[-1].part]
    flip_bit(bundle / index.volumes[part.volume].name, at=part.offset + part.size // 2)
    return index.volumes[part.volume].name


def flip_bit(path: Path, *, at: int) -> None:
    """Change one bit of a file in place."""
    with path.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ 1]))
