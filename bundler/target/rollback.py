"""A ref back to where it was, to a snapshot that is proven first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundler.digest import Commit
from bundler.errors import DamagedCacheError, NotInstalledError
from bundler.fsio import explain_os_errors
from bundler.names import RefName, RepoId
from bundler.progress import OnEvent, ignore
from bundler.target.hubcache import RepoFolder
from bundler.target.proof import Wanted, prove
from bundler.target.receipt import Clock, History, Receipt, RefWrite, utc_now
from bundler.target.refs import move_refs, settle


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackReport:
    """What a rollback did."""

    repo: RepoId
    write: RefWrite


def rollback_ref(
    cache_dir: Path, repo: RepoId, ref: RefName, *, workers: int, clock: Clock = utc_now, on_event: OnEvent = ignore
) -> RollbackReport:
    """Put a ref back to where it was before its last move; done twice, it is where it was at first.

    A ref that is not where the receipts left it goes there: that undoes the move that nobody told of. Raises
    `NotInstalledError` if no receipt tells of a way back, `DamagedCacheError` if the snapshot there is not whole.
    """
    if not RepoFolder.of(cache_dir, repo).receipts.is_dir():
        raise _no_way_back(f"no receipt in {cache_dir} tells of {repo}")
    folder = RepoFolder.found(cache_dir, repo)
    with explain_os_errors("rolling back"), folder.exclusively(on_event):
        history = settle(folder)
        write = RefWrite(ref=ref, before=folder.read_ref(ref), after=_way_back(folder, history, repo, ref))
        _require_whole(folder, history, repo, write.after, workers=workers, on_event=on_event)
        receipt = Receipt(
            number=history.next_number, at=clock(), repo=repo, bundle=None, snapshots=(), refs=(write,)
        )
        move_refs(folder, receipt)
    return RollbackReport(repo=repo, write=write)


def _no_way_back(reason: str) -> NotInstalledError:
    return NotInstalledError(reason, hint="`bundle install --allow-older` of a bundle that has it puts a ref anywhere")


def _way_back(folder: RepoFolder, history: History, repo: RepoId, ref: RefName) -> Commit:
    left_at = history.left_at(ref)
    if left_at is None:
        raise _no_way_back(f"no receipt tells of `{ref}` of {repo}")
    if folder.read_ref(ref) != left_at:
        return left_at
    move = history.last_move(ref)
    if move is None or move.before is None:
        raise _no_way_back(f"`{ref}` of {repo} was nowhere before it was at {left_at}")
    return move.before


def _require_whole(
    folder: RepoFolder, history: History, repo: RepoId, commit: Commit, *, workers: int, on_event: OnEvent
) -> None:
    files = history.files_of(commit)
    if commit not in history.commits:
        raise _no_way_back(f"no receipt tells what {repo} holds at {commit}, so nothing can prove it")
    bad = prove((Wanted(folder, commit, file) for file in files), workers=workers, on_event=on_event)
    if bad:
        first = next(iter(bad.values()))
        raise DamagedCacheError(
            f"{repo} at {commit} has {len(bad):,} bad files of {len(files):,}: `{first.file.path}` {first.reason}",
            hint="mend it first: `bundle status --repair DIR` with a bundle that has these files",
        )
