"""Harmed snapshots mended from a bundle that has their bytes. The receipts say what they shall be, not the bundle."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from bundler.digest import Digest
from bundler.format.index import sha256_of
from bundler.format.policy import Policies, open_approved
from bundler.format.reader import Bundle
from bundler.fsio import explain_os_errors
from bundler.lock import LockedFile
from bundler.progress import Finished, OnEvent, Phase, Started, ignore
from bundler.target.blobs import BlobWriter
from bundler.target.filesystem import ask_file_system
from bundler.target.hubcache import RepoFolder
from bundler.target.places import Place, Places, bytes_of, missing_of
from bundler.target.preflight import check_space, linking_for
from bundler.target.refs import settle
from bundler.target.status import RepoStatus, SnapshotStatus, State, StatusReport, cache_status


def repair_cache(
    report: StatusReport,
    folders: tuple[Path, ...],
    *,
    policies: Policies = Policies(),
    workers: int,
    on_event: OnEvent = ignore,
) -> StatusReport:
    """Put right what `report` found damaged or missing, as far as the bundle goes, and return the status after it.

    Of the bundle only bytes are taken, which the receipts prove: it may be any that has them.
    """
    affected = tuple(dict.fromkeys(repo for repo, _ in (*report.harmed, *report.lost_refs)))
    if not affected:
        return report
    bundle = open_approved(folders, policies)
    with explain_os_errors("repairing"), ExitStack() as stack:
        for repo in sorted(affected, key=lambda repo: repo.folder.path):
            folder = RepoFolder.found(report.cache_dir, repo.repo)
            stack.enter_context(folder.exclusively(on_event))
            settle(folder)
        mending = [_mending(report.cache_dir, repo, snapshot) for repo, snapshot in report.harmed]
        lost = _write(bundle, mending, workers=workers, on_event=on_event)
        for each in mending:
            each.publish(lost)
        _restore_refs(report, {(each.repo.repo, each.snapshot.commit) for each in mending if each.is_hurt_by(lost)})
    after = cache_status(report.cache_dir, [repo.repo for repo in affected], workers=workers, on_event=on_event)
    news = {repo.repo: repo for repo in after.repos}
    return replace(report, repos=tuple(news.get(repo.repo, repo) for repo in report.repos))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mending:
    """A harmed snapshot, and where it is mended."""

    repo: RepoStatus
    snapshot: SnapshotStatus

    folder: RepoFolder
    """With the kind of links that the snapshot has."""

    @property
    def places(self) -> tuple[Place, ...]:
        """Where the bytes of the bad files go."""
        commit = self.snapshot.commit
        return tuple(Place.of(self.folder, commit, file) for file in self._files)

    @property
    def _files(self) -> tuple[LockedFile, ...]:
        return tuple(each.file for each in self.snapshot.bad)

    def is_hurt_by(self, lost: set[Digest]) -> bool:
        """Say whether a bad file of it is among the blobs that nobody has."""
        return any(sha256_of(file) in lost for file in self._files)

    def publish(self, lost: set[Digest]) -> None:
        """Let the files appear whose bytes are there now; a snapshot that is gone comes back whole, or not at all."""
        gone = not self.folder.snapshot(self.snapshot.commit).exists()
        files = tuple(file for file in self._files if sha256_of(file) not in lost)
        if files and not (gone and self.is_hurt_by(lost)):
            self.folder.write_snapshot(self.snapshot.commit, files)
            self.folder.write_tree(self.snapshot.commit, files)


def _mending(cache_dir: Path, repo: RepoStatus, snapshot: SnapshotStatus) -> _Mending:
    folder = RepoFolder.found(cache_dir, repo.repo)
    top = folder.snapshot(snapshot.commit)
    good = {file.path for file in snapshot.files} - {each.file.path for each in snapshot.bad}
    links = all((top / path).is_symlink() for path in good)
    linking = linking_for(ask_file_system(folder.staging), symlinks=links)
    return _Mending(repo=repo, snapshot=snapshot, folder=replace(folder, linking=linking))


def _write(bundle: Bundle, mending: Iterable[_Mending], *, workers: int, on_event: OnEvent) -> set[Digest]:
    """Write the blobs that are bad, and return those that are bad still."""
    found: dict[Digest, dict[Path, Place]] = {}
    for place in (place for each in mending for place in each.places):
        found.setdefault(sha256_of(place.file), {})[place.final] = place
    places: Places = {digest: tuple(by_path.values()) for digest, by_path in found.items()}
    on_event(Started(Phase.INSTALL, bytes_of(places)))
    missing = missing_of(places, on_event)
    in_bundle = {blob.sha256 for blob in bundle.index.blobs}
    to_write = {digest: missing[digest] for digest in missing if digest in in_bundle}
    check_space(to_write)
    writer = BlobWriter(bundle, to_write, keep_going=False, on_event=on_event)
    writer.run(workers=workers)
    on_event(Finished(Phase.INSTALL))
    return {digest for digest in missing if digest not in to_write or digest in writer.unfinished}


def _restore_refs(report: StatusReport, still_harmed: set[tuple[object, object]]) -> None:
    """Write refs that resolve to nothing, where they were left, if what they lead to is whole."""
    for repo, ref in report.lost_refs:
        there = {each.commit for each in repo.snapshots if each.state is not State.REMOVED}
        if ref.told in there and (repo.repo, ref.told) not in still_harmed:
            RepoFolder.found(report.cache_dir, repo.repo).write_ref(ref.ref, ref.told)
