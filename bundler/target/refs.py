"""Refs that move, and the receipts that remember it.

Before the first ref of a repository moves, the receipt stands beside it as a draft; after the last one it becomes a
receipt. Whoever finds a draft that was left over by a killed run sees from the refs how far that run came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from bundler.digest import Commit
from bundler.errors import FileSystemError, OlderCommitError, ReceiptError
from bundler.fields import read_bounded
from bundler.format.index import Snapshot
from bundler.fsio import atomic_write, make_folders
from bundler.names import RefName, RepoId
from bundler.target.hubcache import RepoFolder
from bundler.target.preflight import NamedSnapshot
from bundler.target.receipt import (
    MAX_RECEIPT_SIZE, Clock, History, InstalledSnapshot, Origin, Receipt, RefWrite, parse_receipt, receipt_text
)


def read_history(folder: RepoFolder) -> History:
    """Read all receipts of a repository; a draft counts for as far as its refs came. Needs no lock."""
    receipts, unreadable = [], []
    for path in sorted(folder.receipts.glob("*.json")):
        try:
            receipts.append(_read_receipt(path))
        except (ReceiptError, FileSystemError) as error:
            unreadable.append(str(error))
    draft = _draft_so_far(folder)
    if draft is not None and draft.file_name not in {receipt.file_name for receipt in receipts}:
        receipts.append(draft)
    ordered = sorted(receipts, key=lambda receipt: (receipt.number, receipt.at))
    return History(receipts=tuple(ordered), unreadable=tuple(unreadable))


def _read_receipt(path: Path) -> Receipt:
    if not path.is_file():
        raise ReceiptError(f"{path} is not a file")
    return parse_receipt(read_bounded(path, limit=MAX_RECEIPT_SIZE, failure=ReceiptError), document=str(path))


def _draft_so_far(folder: RepoFolder) -> Receipt | None:
    """Return what came true of a draft; None if nothing did, or no draft can be read: then no ref had moved."""
    try:
        draft = _read_receipt(folder.draft)
    except (ReceiptError, FileSystemError):
        return None
    written = tuple(write for write in draft.refs if folder.read_ref(write.ref) == write.after)
    return replace(draft, refs=written) if written or draft.snapshots else None


def settle(folder: RepoFolder) -> History:
    """Make a receipt of a draft that a killed run left over, and return the history. The caller holds the folder."""
    history = read_history(folder)
    history.require_readable()
    if folder.draft.exists():
        draft = _draft_so_far(folder)
        # A receipt that is there already was complete: after a power cut only its draft came back.
        if draft is not None and not (folder.receipts / draft.file_name).exists():
            _keep(folder, draft)
        folder.draft.unlink()
    return history


def _keep(folder: RepoFolder, receipt: Receipt) -> None:
    make_folders(folder.receipts, access=folder.access)
    final = folder.receipts / receipt.file_name
    with atomic_write(final, staging=folder.staging, access=folder.access) as stream:
        stream.write(receipt_text(receipt))


def move_refs(folder: RepoFolder, receipt: Receipt) -> None:
    """Write the refs of a receipt, then keep the receipt. The caller holds the folder, and has settled it."""
    with atomic_write(folder.draft, staging=folder.staging, access=folder.access) as stream:
        stream.write(receipt_text(receipt))
    for write in receipt.refs:
        folder.write_ref(write.ref, write.after)
    _keep(folder, receipt)
    folder.draft.unlink()


def require_no_way_back(cache_dir: Path, named: Iterable[NamedSnapshot]) -> None:
    """Fail with `OlderCommitError` if a ref would go back to a commit where it was before, by what receipts tell."""
    for snapshot, refs in named:
        folder = RepoFolder.of(cache_dir, snapshot.repo)
        history = read_history(folder)
        history.require_readable()
        for ref in refs:
            _require_not_left(folder, history, ref, snapshot)


def _require_not_left(folder: RepoFolder, history: History, ref: RefName, snapshot: Snapshot) -> None:
    now = folder.read_ref(ref) or history.left_at(ref)
    receipt = history.told_of(ref, snapshot.commit)
    if now != snapshot.commit and receipt is not None:
        raise OlderCommitError(
            f"`{ref}` of {snapshot.repo} would go back from {now} to {snapshot.commit}, which it has left "
            f"(receipt {receipt.number}, {receipt.at:%Y-%m-%d %H:%M} UTC)",
            hint="this is an older bundle, or one that was rolled back; if that is meant, give `--allow-older`",
        )


def publish_refs(
    folders: Mapping[RepoId, RepoFolder], named: Iterable[NamedSnapshot], origin: Origin, *, clock: Clock
) -> None:
    """Let the refs of installed snapshots lead to them, and keep a receipt for each repository.

    The caller holds the repositories, has settled them, and has placed all files.
    """
    by_repo: dict[RepoId, list[NamedSnapshot]] = {}
    for each in named:
        by_repo.setdefault(each[0].repo, []).append(each)
    for repo, pairs in by_repo.items():
        folder = folders[repo]
        for snapshot, _ in pairs:
            # A ref of the commit's own name keeps the snapshot from `hf cache prune`, and lets pins resolve everywhere.
            folder.write_ref(RefName(snapshot.commit), snapshot.commit)
        history = read_history(folder)
        receipt = Receipt(
            number=history.next_number,
            at=clock(),
            repo=repo,
            bundle=origin,
            snapshots=tuple(_installed(snapshot) for snapshot, _ in pairs),
            refs=tuple(_write(folder, ref, snapshot.commit) for snapshot, refs in pairs for ref in refs),
        )
        if not any(each.tells_no_less_than(receipt) for each in history.receipts):
            move_refs(folder, receipt)


def _installed(snapshot: Snapshot) -> InstalledSnapshot:
    return InstalledSnapshot(commit=snapshot.commit, identity=snapshot.identity, files=snapshot.files)


def _write(folder: RepoFolder, ref: RefName, commit: Commit) -> RefWrite:
    return RefWrite(ref=ref, before=folder.read_ref(ref), after=commit)
