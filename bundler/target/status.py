"""What the cache holds now, compared with what the receipts say was installed. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bundler.digest import Commit
from bundler.errors import BundlerError, DamagedCacheError, MovedRefError, NotInstalledError, ReceiptError
from bundler.fsio import explain_os_errors
from bundler.lock import LockedFile
from bundler.names import RefName, RepoId
from bundler.progress import OnEvent, ignore
from bundler.target.hubcache import RepoFolder
from bundler.target.proof import BadFile, Harm, Wanted, prove
from bundler.target.receipt import History, Receipt
from bundler.target.refs import read_history


class State(StrEnum):
    """What became of an installed snapshot."""

    WHOLE = "whole"
    DAMAGED = "damaged"
    MISSING = "missing"

    REMOVED = "removed"
    """It is gone with all its refs, as `hf cache rm` leaves it: somebody wanted that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotStatus:
    """An installed snapshot, every file of it hashed."""

    commit: Commit
    state: State

    receipt: Receipt
    """Of the install that last wrote or proved it."""

    files: tuple[LockedFile, ...]
    """All that was installed of it."""

    bad: tuple[BadFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefStatus:
    """A ref that an install wrote."""

    ref: RefName
    told: Commit
    """Where it was left."""

    receipt: Receipt
    """By whom."""

    found: Commit | None
    """Where it is; None if no reader can resolve it."""

    @property
    def is_pin(self) -> bool:
        """Whether it is a commit's own name."""
        return self.ref == RefName(self.told)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoStatus:
    """A repository in the cache."""

    repo: RepoId
    folder: RepoFolder
    snapshots: tuple[SnapshotStatus, ...]

    refs: tuple[RefStatus, ...]
    """Those that installs wrote, the commits' own included, without the ones of removed snapshots."""

    unknown: tuple[str, ...]
    """Names in `snapshots/` of which no receipt tells: not ours, not looked at."""

    unreadable: tuple[str, ...]
    """Why files among the receipts are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """What stands in a cache."""

    cache_dir: Path
    repos: tuple[RepoStatus, ...]

    @property
    def harmed(self) -> tuple[tuple[RepoStatus, SnapshotStatus], ...]:
        """The snapshots that a reader does not get whole."""
        harmed = (State.DAMAGED, State.MISSING)
        return tuple((repo, each) for repo in self.repos for each in repo.snapshots if each.state in harmed)

    @property
    def lost_refs(self) -> tuple[tuple[RepoStatus, RefStatus], ...]:
        """The refs by which a reader resolves nothing any more."""
        return tuple((repo, each) for repo in self.repos for each in repo.refs if each.found is None)

    @property
    def moved_refs(self) -> tuple[tuple[RepoStatus, RefStatus], ...]:
        """The refs that lead elsewhere, and no receipt tells why."""
        return tuple((repo, each) for repo in self.repos for each in repo.refs if each.found not in (None, each.told))

    def failure(self) -> BundlerError | None:
        """Return the worst of it, None if all that was installed is as it was."""
        if self.harmed or self.lost_refs:
            snapshots = [f"{repo.repo} at {each.commit} is {each.state}" for repo, each in self.harmed]
            refs = [f"`{each.ref}` of {repo.repo} resolves to nothing" for repo, each in self.lost_refs]
            return DamagedCacheError(
                "; ".join([*snapshots, *refs]),
                hint="`bundle status --repair DIR` mends it from a bundle that has the same files",
            )
        if unreadable := [reason for repo in self.repos for reason in repo.unreadable]:
            return ReceiptError("; ".join(unreadable), hint="what these receipts told could not be checked")
        if self.moved_refs:
            return MovedRefError(
                "; ".join(f"`{each.ref}` of {repo.repo} is at {each.found}, not at {each.told} where it was left"
                          for repo, each in self.moved_refs),
                hint="`bundle rollback REPO@REF` puts it back to where it was left",
            )
        return None


def cache_status(
    cache_dir: Path, repos: Iterable[RepoId] = (), *, workers: int, on_event: OnEvent = ignore
) -> StatusReport:
    """Hash all that was installed into the cache, of `repos` only if there are any.

    Holds no lock: what an installer does meanwhile is in the report or not. Raises `NotInstalledError` if the cache
    has no folder for one of `repos`.
    """
    with explain_os_errors("looking at the cache"):
        seen = [_observe(cache_dir, repo) for repo in _chosen(cache_dir, tuple(repos))]
        wanted = [
            Wanted(each.folder, commit, file)
            for each in seen for commit in each.history.commits if not each.is_removed(commit)
            for file in each.history.files_of(commit)
        ]
        bad = prove(wanted, workers=workers, on_event=on_event)
        return StatusReport(cache_dir=cache_dir, repos=tuple(_judged(each, bad) for each in seen))


def _chosen(cache_dir: Path, repos: tuple[RepoId, ...]) -> tuple[RepoId, ...]:
    for repo in repos:
        if not RepoFolder.of(cache_dir, repo).path.is_dir():
            raise NotInstalledError(f"{cache_dir} holds nothing of {repo}", hint="`bundle status` lists what it holds")
    return tuple(dict.fromkeys(repos)) or tuple(_repos_in(cache_dir))


def _repos_in(cache_dir: Path) -> list[RepoId]:
    found = []
    for path in sorted(cache_dir.iterdir()) if cache_dir.exists() else ():
        with suppress(ValueError):
            found.append(RepoId.of_cache_folder(path.name))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A repository's receipts and refs, which belong together."""

    repo: RepoId
    folder: RepoFolder
    history: History
    refs: dict[RefName, Commit]

    def is_removed(self, commit: Commit) -> bool:
        """Say whether nothing is left that leads to a commit: a snapshot that went by accident leaves its refs."""
        return commit not in self.refs.values() and not self.folder.snapshot(commit).exists()


def _observe(cache_dir: Path, repo: RepoId) -> _Seen:
    """Read refs and receipts of one moment: again if an installer was done in between."""
    folder = RepoFolder.of(cache_dir, repo)
    history = read_history(folder)
    while True:
        refs, before, history = folder.refs(), history, read_history(folder)
        if history == before:
            return _Seen(repo=repo, folder=folder, history=history, refs=refs)


def _judged(seen: _Seen, bad: dict[Wanted, BadFile]) -> RepoStatus:
    snapshots = tuple(
        _snapshot_status(seen, receipt, commit, bad)
        for commit in seen.history.commits if (receipt := seen.history.last_install(commit))
    )
    return RepoStatus(
        repo=seen.repo, folder=seen.folder, snapshots=snapshots, refs=_ref_statuses(seen, snapshots),
        unknown=_unknown(seen), unreadable=seen.history.unreadable,
    )


def _ref_statuses(seen: _Seen, snapshots: tuple[SnapshotStatus, ...]) -> tuple[RefStatus, ...]:
    pins = {RefName(each.commit): (each.commit, each.receipt) for each in snapshots}
    removed = {each.commit for each in snapshots if each.state is State.REMOVED}
    return tuple(
        RefStatus(ref=ref, told=told, receipt=receipt, found=seen.refs.get(ref))
        for ref, (told, receipt) in sorted({**pins, **seen.history.refs()}.items())
        if ref in seen.refs or told not in removed
    )


def _snapshot_status(seen: _Seen, receipt: Receipt, commit: Commit, bad: dict[Wanted, BadFile]) -> SnapshotStatus:
    files = seen.history.files_of(commit)
    wrong = tuple(bad[key] for file in files if (key := Wanted(seen.folder, commit, file)) in bad)
    return SnapshotStatus(
        commit=commit, state=_state(wrong, removed=seen.is_removed(commit)), receipt=receipt, files=files, bad=wrong
    )


def _state(bad: tuple[BadFile, ...], *, removed: bool) -> State:
    if removed:
        return State.REMOVED
    if any(each.harm is Harm.DAMAGED for each in bad):
        return State.DAMAGED
    return State.MISSING if bad else State.WHOLE


def _unknown(seen: _Seen) -> tuple[str, ...]:
    snapshots = seen.folder.path / "snapshots"
    names = [path.name for path in sorted(snapshots.iterdir())] if snapshots.is_dir() else []
    return tuple(name for name in names if name not in seen.history.commits)
