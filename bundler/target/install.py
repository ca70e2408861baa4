"""A bundle into the Hugging Face cache, under the eyes of its readers.

The order is the reverse of reading: blobs, then snapshots, then tree listings, then refs. A reader who resolves a ref
at any moment finds a whole snapshot, the old one or the new one.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bundler.digest import BlobHasher, Digest, GitOid
from bundler.errors import DamagedBundleError, InstallError, NotEnoughSpaceError
from bundler.format.index import Blob, Snapshot, sha256_of
from bundler.format.reader import BlobReader, Bundle, open_bundle
from bundler.fsio import explain_os_errors, free_bytes, make_folders, place_all, write_all
from bundler.lock import LockedFile
from bundler.names import RefName, refs_of
from bundler.progress import Advanced, Finished, OnEvent, Phase, Started, ignore
from bundler.target.hubcache import RepoFolder

_BATCH_FILES = 1000
_BATCH_BYTES = 256 << 20
"""Staged blobs are synced and renamed together, at most so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallReport:
    """What an install left behind."""

    bundle: Bundle
    cache_dir: Path

    refs: tuple[tuple[Snapshot, tuple[RefName, ...]], ...]
    """Each snapshot with the names by which it resolves now, besides its commit."""

    written: int
    """Bytes of blobs that were unpacked."""

    adopted: int
    """Bytes of blobs that were there already, and proved right."""


def install_bundle(
    folders: tuple[Path, ...],
    cache_dir: Path,
    *,
    revision_as: RefName | None = None,
    workers: int,
    on_event: OnEvent = ignore,
) -> InstallReport:
    """Unpack a bundle into the cache at `cache_dir`; run again after an interruption, it goes on.

    `revision_as` is a further ref to point at every snapshot. Raises before the first write if the bundle is not
    complete, is not a bundle, or does not fit.
    """
    if revision_as is not None and not refs_of(revision_as):
        raise InstallError(
            f"`{revision_as}` is a commit, and names nothing but itself",
            hint="give `--revision-as` a name such as `main`",
        )
    bundle = open_bundle(folders)
    bundle.require_volumes()
    named = tuple((snapshot, _refs(snapshot, revision_as)) for snapshot in bundle.index.snapshots)
    _check_distinct(named)
    with explain_os_errors("installing"), ExitStack() as stack:
        make_folders(cache_dir)
        for folder in sorted({_folder(cache_dir, snapshot).path for snapshot in bundle.index.snapshots}):
            stack.enter_context(RepoFolder(folder).exclusively(on_event))
        places = _places(bundle, cache_dir)
        on_event(Started(Phase.INSTALL, sum(file.size for files in places.values() for _, file in files)))
        missing = _missing(places, on_event)
        _check_space(cache_dir, missing)
        _write_blobs(bundle, missing, workers=workers, on_event=on_event)
        _publish(cache_dir, named)
        on_event(Finished(Phase.INSTALL))
    return InstallReport(
        bundle=bundle,
        cache_dir=cache_dir,
        refs=named,
        written=_bytes(missing),
        adopted=_bytes(places) - _bytes(missing),
    )


def _refs(snapshot: Snapshot, revision_as: RefName | None) -> tuple[RefName, ...]:
    if revision_as is None or revision_as in snapshot.refs:
        return snapshot.refs
    return (*snapshot.refs, revision_as)


def _check_distinct(named: Iterable[tuple[Snapshot, tuple[RefName, ...]]]) -> None:
    seen = set()
    for snapshot, refs in named:
        for ref in refs:
            if (snapshot.repo, ref) in seen:
                raise InstallError(
                    f"the bundle holds {snapshot.repo} more than once: `{ref}` cannot name both commits",
                    hint="install it without `--revision-as`, or build a bundle with one of them",
                )
            seen.add((snapshot.repo, ref))


def _folder(cache_dir: Path, snapshot: Snapshot) -> RepoFolder:
    return RepoFolder.of(cache_dir, snapshot.repo)


_Places = dict[Digest, list[tuple[RepoFolder, LockedFile]]]
"""For each blob the cache's blob files that it becomes: a repository has its own, under either kind of name."""


def _places(bundle: Bundle, cache_dir: Path) -> _Places:
    places: _Places = {}
    seen = set()
    for snapshot in bundle.index.snapshots:
        folder = _folder(cache_dir, snapshot)
        for file in snapshot.files:
            if (folder, file.etag, file.sha256) not in seen:
                seen.add((folder, file.etag, file.sha256))
                places.setdefault(sha256_of(file), []).append((folder, file))
    return places


def _missing(places: _Places, on_event: OnEvent) -> _Places:
    missing: _Places = {}
    for digest, files in places.items():
        for folder, file in files:
            if folder.holds(file):
                on_event(Advanced(Phase.INSTALL, file.size))
            else:
                missing.setdefault(digest, []).append((folder, file))
    return missing


def _bytes(places: _Places) -> int:
    return sum(file.size for files in places.values() for _, file in files)


def _check_space(cache_dir: Path, missing: _Places) -> None:
    needed, free = _bytes(missing), free_bytes(cache_dir)
    if needed > free:
        raise NotEnoughSpaceError(
            cache_dir,
            needed=needed,
            free=free,
            purpose="the bundle unpacked",
            way_out="choose another place with `--cache-dir`",
        )


def _write_blobs(bundle: Bundle, missing: _Places, *, workers: int, on_event: OnEvent) -> None:
    batch = _Batch()
    wanted = [blob for blob in bundle.index.blobs if blob.sha256 in missing]
    with BlobReader(bundle, workers=workers) as reader:
        for blob, chunks in reader.read(wanted):
            for staged, final in _stage(blob, chunks, missing[blob.sha256], on_event):
                batch.add(staged, final, blob.size)
    batch.place()


def _stage(
    blob: Blob, chunks: Iterator[memoryview], places: list[tuple[RepoFolder, LockedFile]], on_event: OnEvent
) -> Iterator[tuple[Path, Path]]:
    """Write a blob to the staging of every repository that needs it; what is yielded was proven."""
    pairs = [(folder.staging / uuid.uuid4().hex, folder.blob(file.etag)) for folder, file in places]
    git_oids = {file.etag for _, file in places if isinstance(file.etag, GitOid)}
    hasher = BlobHasher(blob.size, git=True) if git_oids else None
    with ExitStack() as stack:
        streams = [stack.enter_context(staged.open("xb", buffering=0)) for staged, _ in pairs]
        for chunk in chunks:
            if hasher is not None:
                hasher.update(chunk)
            for stream in streams:
                write_all(stream, chunk)
                on_event(Advanced(Phase.INSTALL, len(chunk)))
    if hasher is not None and git_oids != {hasher.git_oid}:
        # Under a git id of other bytes it would spoil every snapshot that has those.
        raise DamagedBundleError(
            f"blob {blob.sha256} is whole, but has the git id {hasher.git_oid}, not {', '.join(sorted(git_oids))}",
            hint="the bundle was built wrong: build it again on the gateway",
        )
    yield from pairs


class _Batch:
    """Staged blobs that wait to be placed together."""

    def __init__(self) -> None:
        self._pairs: list[tuple[Path, Path]] = []
        self._size = 0

    def add(self, staged: Path, final: Path, size: int) -> None:
        """Take a staged blob; place all when they are many."""
        self._pairs.append((staged, final))
        self._size += size
        if len(self._pairs) >= _BATCH_FILES or self._size >= _BATCH_BYTES:
            self.place()

    def place(self) -> None:
        """Make all of them durable under their final names."""
        place_all(self._pairs)
        self._pairs, self._size = [], 0


def _publish(cache_dir: Path, named: tuple[tuple[Snapshot, tuple[RefName, ...]], ...]) -> None:
    for snapshot, _ in named:
        _folder(cache_dir, snapshot).write_snapshot(snapshot.commit, snapshot.files)
    for snapshot, _ in named:
        _folder(cache_dir, snapshot).write_tree(snapshot.commit, snapshot.files)
    for snapshot, refs in named:
        # A ref of the commit's own name keeps the snapshot from `hf cache prune`, and lets pins resolve everywhere.
        for ref in (RefName(snapshot.commit), *refs):
            _folder(cache_dir, snapshot).write_ref(ref, snapshot.commit)
