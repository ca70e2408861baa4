"""What a small hub holds: repositories, their commits and refs, and the bytes of their files.

For `bundle demo` and the tests, never for real work. Publish into a `Hub`, then serve it with
`bundler.demo.server.HubServer`. Paths are plain text on purpose: a hub may say anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bundler.digest import BlobHasher, Commit, Digest, GitOid
from bundler.names import RepoId, RepoType

CHUNK_SIZE = 256 << 10
LFS_SIZE = 10 << 20
LFS_SUFFIXES = (
    ".7z", ".arrow", ".bin", ".ckpt", ".gguf", ".gz", ".h5", ".model", ".msgpack", ".npy", ".npz", ".onnx",
    ".onnx_data", ".parquet", ".pkl", ".pt", ".pth", ".safetensors", ".tar", ".tflite", ".wav", ".zip",
)

IsLfs = Callable[[str, int], bool]
"""Says of a file's path and size whether git keeps a pointer in its place."""


def is_lfs(path: str, size: int) -> bool:
    """Decide as the hub's usual `.gitattributes` does: by suffix, or because of the size."""
    return path.endswith(LFS_SUFFIXES) or size > LFS_SIZE


class Content(Protocol):
    """Bytes of a known size that can be read from any offset, by several readers, more than once."""

    @property
    def size(self) -> int:
        """In bytes."""

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """Give the bytes from `start` to `stop`, in order, in pieces of any size.

        What ends early, or raises a `ConnectionError`, breaks the connection of whoever is served.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class InMemory:
    """Content that is simply there."""

    raw: bytes

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.raw)

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """Give the bytes from `start` to `stop`."""
        for offset in range(start, stop, CHUNK_SIZE):
            yield self.raw[offset:min(offset + CHUNK_SIZE, stop)]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDisk:
    """Content of a file that is never loaded whole and must not change while it is served."""

    path: Path
    size: int

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """Give the bytes from `start` to `stop`."""
        with self.path.open("rb") as stream:
            stream.seek(start)
            while start < stop and (chunk := stream.read(min(CHUNK_SIZE, stop - start))):
                start += len(chunk)
                yield chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """The bytes of a file, with the names that a hub gives them."""

    content: Content

    git_oid: GitOid
    """Of the bytes; of the pointer that git keeps in their place if this is an LFS file."""

    sha256: Digest | None
    """Set for LFS files only: of others a hub does not tell it."""

    pointer_size: int
    """In bytes; zero unless this is an LFS file."""

    @property
    def etag(self) -> str:
        """The blob's name in the Hugging Face cache."""
        return self.sha256 or self.git_oid


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A repository's files at a commit."""

    commit: Commit
    files: Mapping[str, Blob]
    """By path, sorted."""


@dataclass(slots=True, kw_only=True)
class Repo:
    """A repository: what was published, and what points where."""

    id: RepoId
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    """By commit."""

    refs: dict[str, Commit] = field(default_factory=dict)
    """By git's full name: `refs/heads/main`, `refs/tags/v1`, `refs/pr/1`, `refs/convert/parquet`."""

    token: str | None = None
    """What opens it; None if it is open to all."""

    private: bool = False
    """Without the token it looks like a missing repository, instead of a gated one."""

    def resolve(self, revision: str) -> Snapshot | None:
        """Return the snapshot at a branch, a tag, a full ref, or a commit of at least seven digits."""
        for name in (revision, f"refs/heads/{revision}", f"refs/tags/{revision}"):
            if name in self.refs:
                return self.snapshots[self.refs[name]]
        if len(revision) < 7:
            return None
        found = [commit for commit in tuple(self.snapshots) if commit.startswith(revision)]
        return self.snapshots[found[0]] if len(found) == 1 else None


class Hub:
    """Repositories, in memory. May be added to while it is being served."""

    def __init__(self) -> None:
        self._repos: dict[RepoId, Repo] = {}
        self._by_sha256: dict[str, Blob] = {}

    def publish(
        self, repo_id: str, files: Mapping[str, bytes | Path], *, repo_type: str = "model",
        branch: str | None = "main", refs: Iterable[str] = (), lfs: IsLfs | None = None,
    ) -> Commit:
        """Make a commit that holds exactly `files`; the same ones after the same commit make the same commit.

        `branch` moves to it, and so do `refs`, which are git's full names such as `refs/pr/1`; without a
        branch only `refs` do. A `Path` is read now for its digests and again whenever it is served.
        """
        repo = self._open(repo_id, repo_type)
        names = [*([] if branch is None else [f"refs/heads/{branch}"]), *_full_names(refs)]
        blobs = {path: _blob(path, files[path], lfs or is_lfs) for path in sorted(files)}
        parent = next((repo.refs[name] for name in [*names, "refs/heads/main"] if name in repo.refs), None)
        snapshot = Snapshot(commit=_commit(blobs, parent), files=blobs)
        self._by_sha256.update({blob.sha256: blob for blob in blobs.values() if blob.sha256})
        repo.snapshots[snapshot.commit] = snapshot
        repo.refs.update(dict.fromkeys(names, snapshot.commit))
        return snapshot.commit

    def tag(self, repo_id: str, name: str, commit: str, *, repo_type: str = "model") -> None:
        """Let the tag `name` point to a published commit."""
        repo = self._open(repo_id, repo_type)
        repo.refs[f"refs/tags/{name}"] = repo.snapshots[commit].commit

    def gate(self, repo_id: str, token: str, *, repo_type: str = "model", private: bool = False) -> None:
        """Ask for a bearer token: to get files, or, of a private repository, to see anything at all."""
        repo = self._open(repo_id, repo_type)
        repo.token, repo.private = token, private

    def repo(self, repo_id: RepoId) -> Repo | None:
        """Return the repository, or None if nothing was published there."""
        return self._repos.get(repo_id)

    def lfs_blob(self, sha256: str) -> Blob | None:
        """Return an LFS file's bytes, whichever repositories hold them; None if none does."""
        return self._by_sha256.get(sha256)

    def _open(self, name: str, repo_type: str) -> Repo:
        repo_id = RepoId(RepoType(repo_type), name)
        return self._repos.setdefault(repo_id, Repo(id=repo_id))


def _full_names(refs: Iterable[str]) -> list[str]:
    names = list(refs)
    for name in names:
        if not name.startswith("refs/"):
            raise ValueError(f"`{name}` is not a full ref such as `refs/pr/1`")
    return names


def _blob(path: str, source: bytes | Path, lfs: IsLfs) -> Blob:
    content: Content
    if isinstance(source, Path):
        content = OnDisk(path=source, size=source.stat().st_size)
    else:
        content = InMemory(raw=source)
    return _lfs_blob(content) if lfs(path, content.size) else _git_blob(content)


def _lfs_blob(content: Content) -> Blob:
    sha256 = _hash(content, git=False).sha256
    version = "version https://git-lfs.github.com/spec/v1"
    pointer = f"{version}\noid sha256:{sha256}\nsize {content.size}\n".encode()
    stand_in = _git_blob(InMemory(raw=pointer))
    return Blob(content=content, git_oid=stand_in.git_oid, sha256=sha256, pointer_size=len(pointer))


def _git_blob(content: Content) -> Blob:
    git_oid = _hash(content, git=True).git_oid
    assert git_oid is not None  # it was asked for
    return Blob(content=content, git_oid=git_oid, sha256=None, pointer_size=0)


def _hash(content: Content, *, git: bool) -> BlobHasher:
    hasher = BlobHasher(content.size, git=git)
    for chunk in content.chunks(0, content.size):
        hasher.update(chunk)
    return hasher


def _commit(blobs: Mapping[str, Blob], parent: Commit | None) -> Commit:
    lines = [f"parent {parent}", *(f"{blob.etag} {path!r}" for path, blob in blobs.items())]
    return Commit(hashlib.sha1("\n".join(lines).encode(), usedforsecurity=False).hexdigest())
