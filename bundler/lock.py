"""The lock: exactly which bytes a manifest stands for. Made by asking hubs, reviewed and kept in git."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.digest import Commit, Digest, Etag, GitOid, XetHash, parse_etag
from bundler.errors import LockError
from bundler.fields import MAX_INTEGER, Fields, parse_json, read_bounded
from bundler.fsio import atomic_write
from bundler.manifest import EndpointUrl, Manifest, Request
from bundler.names import BundleName, RefName, RepoId, RepoType, RelPath, refs_of

LOCK_VERSION = 1
MAX_LOCK_SIZE = 512 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who said that a commit holds these files: the root of all trust in a bundle's content."""

    told_by: EndpointUrl
    """The endpoint that gave commit, list and digests."""

    agreed_by: tuple[EndpointUrl, ...] = ()
    """Other endpoints that were asked and said the same."""

    differed: tuple[EndpointUrl, ...] = ()
    """Other endpoints that were asked and said something else about this revision, such as an older commit."""

    def __str__(self) -> str:
        others = [*(f"agreed: {url}" for url in self.agreed_by), *(f"differed: {url}" for url in self.differed)]
        return f"told by {self.told_by} ({', '.join(others)})" if others else f"told by {self.told_by} alone"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedFile:
    """A file of a snapshot and what proves its bytes."""

    path: RelPath

    size: int
    """Bytes."""

    etag: Etag
    """The blob's name in the cache: its SHA-256 if it is kept by LFS or Xet, or if no git id was told, else that."""

    sha256: Digest | None = None
    """Always there for LFS; for others only once somebody pinned it."""

    pointer: GitOid | None = None
    """The git id of the LFS pointer, where the hub told it."""

    xet_hash: XetHash | None = None
    """Where the hub told it."""

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_INTEGER:
            raise ValueError(f"`{self.path}` cannot have {self.size} bytes")
        if isinstance(self.etag, Digest) and self.sha256 != self.etag:
            raise ValueError(f"`{self.path}` has two different SHA-256")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedRepo:
    """A request, and the snapshot that it was resolved to."""

    request: Request
    commit: Commit
    identity: Identity

    files: tuple[LockedFile, ...]
    """Sorted by path."""

    restricted: bool = False
    """Whether the repository is gated or private, as whoever told its identity said."""

    @property
    def refs(self) -> tuple[RefName, ...]:
        """The names by which users will ask for this snapshot, besides its commit."""
        return refs_of(self.request.revision)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """Every repository of a manifest pinned to a commit, every file to path, size and digest."""

    name: BundleName

    repos: tuple[LockedRepo, ...]
    """In the manifest's order, which is the order of fetching and packing."""

    def why_stale(self, manifest: Manifest) -> str:
        """Return why this is not a lock of `manifest`, empty if it is. Endpoints do not count: they only carry."""
        if self.name != manifest.name:
            return f"it is named `{self.name}`, the manifest `{manifest.name}`"
        locked = {(repo.request.repo, repo.request.revision): repo.request for repo in self.repos}
        for request in manifest.requests:
            if (request.repo, request.revision) not in locked:
                return f"it does not hold `{request.repo}` at `{request.revision}`"
            if locked.pop((request.repo, request.revision)) != request:
                return f"`{request.repo}` has other patterns in the manifest"
        for repo, revision in locked:
            return f"it holds `{repo}` at `{revision}`, which the manifest does not ask for"
        order = [repo.request for repo in self.repos]
        return "" if order == list(manifest.requests) else "the manifest lists the repositories in another order"

    def moved_since(self, old: Lock) -> tuple[str, ...]:
        """Say which revisions stood for another commit in an older lock."""
        before = {(repo.request.repo, repo.request.revision): repo.commit for repo in old.repos}
        now = {(repo.request.repo, repo.request.revision): repo.commit for repo in self.repos}
        return tuple(
            f"{repo} at `{revision}` has moved from {before[repo, revision]} to {commit}"
            for (repo, revision), commit in now.items() if before.get((repo, revision), commit) != commit
        )


def lock_path(manifest: Path) -> Path:
    """Return where the lock of the manifest at `manifest` stands: `speech.toml` has `speech.lock.json`."""
    return manifest.with_suffix(".lock.json")


def read_lock(path: Path) -> Lock:
    """Read and check a lock. Raises `LockError`, which names the field."""
    text = read_bounded(path, limit=MAX_LOCK_SIZE, failure=LockError)
    return parse_lock(text, document=str(path))


def write_lock(lock: Lock, path: Path) -> None:
    """Write a lock in its one spelling, replacing an older one in a single step."""
    with atomic_write(path, staging=path.parent) as stream:
        stream.write(lock_text(lock))


def lock_text(lock: Lock) -> bytes:
    """Spell a lock: a file of a snapshot is a line, so that a review in git shows which files changed."""
    lines = ["{", f' "lock_version": {LOCK_VERSION},', f' "name": {_json(lock.name)},', ' "repos": [']
    for number, repo in enumerate(lock.repos, start=1):
        lines += _repo_lines(repo, last=number == len(lock.repos))
    return "\n".join([*lines, " ]", "}", ""]).encode()


def _repo_lines(repo: LockedRepo, *, last: bool) -> list[str]:
    head: dict[str, object] = {
        "id": repo.request.repo.name,
        "type": repo.request.repo.type,
        "revision": repo.request.revision,
        "include": repo.request.include,
        "exclude": repo.request.exclude,
        "commit": repo.commit,
        "told_by": repo.identity.told_by,
        "agreed_by": repo.identity.agreed_by,
        "differed": repo.identity.differed,
        **({"restricted": True} if repo.restricted else {}),
    }
    files = [f"    {_json(file_values(file))}" for file in repo.files]
    return [
        "  {",
        *(f"   {_json(key)}: {_json(value)}," for key, value in head.items()),
        '   "files": [',
        *(",\n".join(files).split("\n")),
        "   ]",
        "  }" if last else "  },",
    ]


def file_values(file: LockedFile) -> dict[str, object]:
    """Return a file's fields as documents spell them; what is not known is left out."""
    values = {
        "path": file.path,
        "size": file.size,
        "etag": file.etag,
        "sha256": file.sha256,
        "pointer": file.pointer,
        "xet_hash": file.xet_hash,
    }
    return {key: value for key, value in values.items() if value is not None}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def parse_lock(text: bytes, *, document: str = "the lock") -> Lock:
    """Parse a lock's JSON. Raises `LockError`."""
    fields = Fields(parse_json(text, document=document, failure=LockError), document=document, failure=LockError)
    if (version := fields.size("lock_version")) != LOCK_VERSION:
        fields.refuse("lock_version", f"is {version}; this release reads {LOCK_VERSION}")
    fields.only("lock_version", "name", "repos")
    repos = tuple(_parse_repo(repo) for repo in fields.objects("repos"))
    if len({(repo.request.repo, repo.request.revision) for repo in repos}) != len(repos):
        fields.refuse("repos", "holds a repository at the same revision twice")
    return Lock(name=fields.name("name", BundleName), repos=repos)


def _parse_repo(fields: Fields) -> LockedRepo:
    repo_type = fields.name("type", RepoType)
    request = Request(
        repo=fields.name("id", lambda name: RepoId(repo_type, name)),
        revision=fields.name("revision", RefName),
        include=fields.texts("include", str),
        exclude=fields.texts("exclude", str),
    )
    return LockedRepo(
        request=request,
        commit=fields.name("commit", Commit),
        identity=parse_identity(fields),
        files=parse_files(fields),
        restricted=fields.flag("restricted"),
    )


def parse_identity(fields: Fields) -> Identity:
    """Read who told a snapshot's identity from the fields of a repository in a document."""
    return Identity(
        told_by=fields.name("told_by", EndpointUrl),
        agreed_by=fields.texts("agreed_by", EndpointUrl),
        differed=fields.texts("differed", EndpointUrl),
    )


def parse_files(fields: Fields) -> tuple[LockedFile, ...]:
    """Read the list `files` of a repository in a document; sorted by path, no path twice, none below another."""
    files = tuple(_parse_file(file) for file in fields.objects("files"))
    paths = [file.path for file in files]
    if paths != sorted(paths):
        fields.refuse("files", "is not sorted by path")
    if reason := why_no_folder(paths):
        fields.refuse("files", reason)
    return files


def why_no_folder(paths: Sequence[RelPath]) -> str:
    """Return why files at `paths`, which are sorted, could not stand in one folder; empty if they could."""
    known = set(paths)
    for before, path in zip(paths, paths[1:]):
        if before == path:
            return f"holds `{path}` twice"
    for path in paths:
        steps = path.parts
        for depth in range(1, len(steps)):
            if "/".join(steps[:depth]) in known:
                return f"holds `{path}`, and its folder as a file"
    return ""


def _parse_file(fields: Fields) -> LockedFile:
    etag = fields.name("etag", parse_etag)
    try:
        return LockedFile(
            path=fields.name("path", RelPath),
            size=fields.size("size"),
            etag=etag,
            sha256=fields.optional("sha256", Digest),
            pointer=fields.optional("pointer", GitOid),
            xet_hash=fields.optional("xet_hash", XetHash),
        )
    except ValueError as error:
        fields.refuse("", f"is not valid: {error}")
