"""A bundle into the Hugging Face cache, under the eyes of its readers.

The order is the reverse of reading: blobs, then snapshots, then tree listings, then refs. A reader who resolves a ref
at any moment finds a whole snapshot, the old one or the new one.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bundler.access import PUBLIC, Access
from bundler.errors import BundlerError, DamagedBundleError, IncompleteBundleError
from bundler.format.index import Snapshot, Volume, sha256_of
from bundler.format.policy import Policies, open_approved
from bundler.format.problem import Problem
from bundler.format.reader import Bundle
from bundler.fsio import explain_os_errors, make_folders
from bundler.names import RefName, RepoId
from bundler.progress import Finished, OnEvent, Phase, Started, ignore
from bundler.target.blobs import BlobWriter
from bundler.target.hold import Folders, hold_repositories
from bundler.target.incoming import begun, forget, remember
from bundler.target.places import Places, bytes_of, missing_of, places_of
from bundler.target.preflight import NamedSnapshot, check_repositories, check_space, name_snapshots
from bundler.target.receipt import Clock, origin_of, utc_now
from bundler.target.refs import publish_refs, require_no_way_back, settle
from bundler.target.staging import sweep


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallOptions:
    """How to install, where there is a choice."""

    revision_as: RefName | None = None
    """A further ref to point at every snapshot."""

    allow_older: bool = False
    """Whether a ref may go back to a commit that it has left, by what receipts tell."""

    keep_going: bool = False
    """Whether to install the snapshots that are whole, though others are damaged or not here."""

    symlinks: bool = True
    """Whether the files of snapshots may be symbolic links; where there are none they are files, whatever this says."""

    access: Access = PUBLIC
    """For all files and folders that are made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallReport:
    """What an install left behind."""

    bundle: Bundle
    cache_dir: Path

    refs: tuple[NamedSnapshot, ...]
    """Each snapshot that was installed, with the names by which it resolves now, besides its commit."""

    waiting: tuple[Snapshot, ...]
    """The other ones: what was there of them is kept, and no reader sees it."""

    problems: tuple[Problem, ...]
    """What was read and is damaged."""

    to_carry: tuple[Volume, ...]
    """The volumes that it still takes: those that were not here, and those that are damaged."""

    written: int
    """Bytes of blobs that were unpacked."""

    adopted: int
    """Bytes of blobs that were there already, and proved right."""

    def failure(self) -> BundlerError | None:
        """Return the error that this report amounts to; None if all is installed."""
        name = self.bundle.index.name
        names = ", ".join(volume.name for volume in self.to_carry)
        if self.problems:
            return DamagedBundleError(
                f"{name} is damaged", hint=f"copy {names} from the gateway again, and run the same command with it"
            )
        if self.waiting:
            return IncompleteBundleError(
                f"{name} is not complete, what was here is kept",
                hint=f"run the same command with the folder that holds {names}",
            )
        return None


def install_bundle(
    folders: tuple[Path, ...],
    cache_dir: Path,
    options: InstallOptions = InstallOptions(),
    *,
    policies: Policies = Policies(),
    workers: int,
    clock: Clock = utc_now,
    on_event: OnEvent = ignore,
) -> InstallReport:
    """Unpack a bundle into the cache at `cache_dir`; run again after an interruption, it goes on.

    Where volumes are not in `folders`, what is there is kept for a run with the others: these need neither index nor
    sums. Without `keep_going` no snapshot appears before all can. Raises before the first write if there is no
    bundle, or it does not fit.
    """
    with explain_os_errors("looking for a bundle that was begun"):
        media = (*folders, *begun(cache_dir, folders))
    bundle = open_approved(media, policies)
    _require_volumes(bundle, options)
    named = name_snapshots(bundle.index.snapshots, options.revision_as)
    with explain_os_errors("looking at the cache"):
        check_repositories(cache_dir, named, access=options.access)
        if not options.allow_older:
            require_no_way_back(cache_dir, named)
    with explain_os_errors("installing"), ExitStack() as stack:
        make_folders(cache_dir, access=options.access)
        folders_held = hold_repositories(
            stack, cache_dir, named, access=options.access, symlinks=options.symlinks, on_event=on_event
        )
        install = _Install(
            bundle=bundle, cache_dir=cache_dir, options=options, named=named, folders=folders_held, on_event=on_event
        )
        return install.run(stack, workers=workers, clock=clock)


def _require_volumes(bundle: Bundle, options: InstallOptions) -> None:
    absent = bundle.absent_volumes()
    if absent and absent == bundle.index.volumes:
        raise IncompleteBundleError(
            f"{', '.join(volume.name for volume in absent)} of {len(absent)} volumes are in none of the folders",
            hint="name a folder that holds some of the volumes; the others may follow",
        )
    if not options.keep_going:
        bundle.require_uncut()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Install:
    """One install, while it holds the repositories."""

    bundle: Bundle
    cache_dir: Path
    options: InstallOptions
    named: tuple[NamedSnapshot, ...]
    folders: Folders
    on_event: OnEvent

    def run(self, stack: ExitStack, *, workers: int, clock: Clock) -> InstallReport:
        """Write, publish and report; `stack` is unwound before the repositories are let go."""
        self._settle()
        places = places_of(self.bundle.index.snapshots, self.folders)
        self.on_event(Started(Phase.INSTALL, bytes_of(places)))
        missing = missing_of(places, self.on_event)
        self._sweep(missing)
        check_space(missing)
        self._remember(missing)
        stack.callback(self._sweep, missing)
        writer = BlobWriter(self.bundle, missing, keep_going=self.options.keep_going, on_event=self.on_event)
        writer.run(workers=workers)
        whole = self._whole(writer)
        _publish(self.folders, whole)
        publish_refs(self.folders, whole, origin_of(self.bundle), clock=clock)
        if not writer.unfinished:
            self._forget()
        self.on_event(Finished(Phase.INSTALL))
        return InstallReport(
            bundle=self.bundle,
            cache_dir=self.cache_dir,
            refs=whole,
            waiting=tuple(snapshot for snapshot, refs in self.named if (snapshot, refs) not in whole),
            problems=writer.problems,
            to_carry=writer.lacking,
            written=writer.written,
            adopted=bytes_of(places) - bytes_of(missing),
        )

    def _settle(self) -> None:
        for folder in self.folders.values():
            settle(folder)
        if not self.options.allow_older:
            # Once more: an installer that was waited for may have moved the ref on.
            require_no_way_back(self.cache_dir, self.named)

    def _sweep(self, missing: Places) -> None:
        """Remove what was left in staging, but for what this bundle can go on with."""
        paths = [place.staged for found in missing.values() for place in found]
        gathering: dict[RepoId, list[str]] = {repo: [] for repo in self.folders}
        for snapshot, _ in self.named:
            gathering[snapshot.repo].append(self.folders[snapshot.repo].gathering(snapshot.commit).name)
        for repo, folder in self.folders.items():
            sweep(folder.staging, keep=paths, folders=gathering[repo])

    def _remember(self, missing: Places) -> None:
        if missing and self.bundle.absent_volumes():
            remember(self.bundle, next(iter(self.folders.values())))

    def _forget(self) -> None:
        for folder in self.folders.values():
            forget(self.bundle.index.name, folder)

    def _whole(self, writer: BlobWriter) -> tuple[NamedSnapshot, ...]:
        if writer.unfinished and not self.options.keep_going:
            return ()
        return tuple(
            (snapshot, refs) for snapshot, refs in self.named
            if not any(sha256_of(file) in writer.unfinished for file in snapshot.files)
        )


def _publish(folders: Folders, named: Iterable[NamedSnapshot]) -> None:
    for snapshot, _ in named:
        folders[snapshot.repo].write_snapshot(snapshot.commit, snapshot.files)
    for snapshot, _ in named:
        folders[snapshot.repo].write_tree(snapshot.commit, snapshot.files)
