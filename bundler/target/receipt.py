"""Receipts: what was installed, from which bundle, told by whom, and which ref moved from where to where.

A receipt is a file in the repository's `.bundler/receipts/`, which no scan of the cache looks at. It is written last,
and never changed. All receipts of a repository together are its history.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from bundler.digest import Commit, Digest
from bundler.errors import ReceiptError
from bundler.fields import Fields, parse_json
from bundler.format.reader import Bundle
from bundler.lock import Identity, LockedFile, file_values, parse_files, parse_identity
from bundler.names import BundleName, RefName, RepoId, RepoType

RECEIPT_VERSION = 1
MAX_RECEIPT_SIZE = 512 << 20

Clock = Callable[[], datetime]
"""Tells an aware time."""


def utc_now() -> datetime:
    """Ask the machine's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The bundle that something came from."""

    name: BundleName
    identity: Digest

    signed_by: str | None
    """Whose signature was checked; None if nobody's was."""


def origin_of(bundle: Bundle) -> Origin:
    """Return what a receipt keeps of a bundle."""
    signed_by = ", ".join(bundle.verdict.principals) if bundle.verdict.good else None
    return Origin(name=bundle.index.name, identity=bundle.identity, signed_by=signed_by)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledSnapshot:
    """The files of a commit that an install put there, or found there and proved."""

    commit: Commit
    identity: Identity

    files: tuple[LockedFile, ...]
    """Sorted by path, each with its SHA-256."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefWrite:
    """A ref as it was found, and as it was left."""

    ref: RefName

    before: Commit | None
    """None if nothing could be resolved by it."""

    after: Commit

    @property
    def is_move(self) -> bool:
        """Whether it came from elsewhere."""
        return self.before != self.after


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What one install, or one rollback, did to a repository."""

    number: int
    """Its place among the repository's receipts, from 1: clocks are set back, numbers are not."""

    at: datetime
    """When, in UTC by the machine's clock, to the second."""

    repo: RepoId

    bundle: Origin | None
    """None for a rollback."""

    snapshots: tuple[InstalledSnapshot, ...]
    """Empty for a rollback."""

    refs: tuple[RefWrite, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", self.at.astimezone(UTC).replace(microsecond=0))

    @property
    def file_name(self) -> str:
        """Where it stands among the others: sorted by number, with time and bundle for whoever looks at the folder."""
        source = self.bundle.identity[:12] if self.bundle else "rollback"
        return f"{self.number:06}-{self.at:%Y%m%dT%H%M%SZ}-{source}.json"

    def tells_no_less_than(self, other: Receipt) -> bool:
        """Say whether `other` adds nothing: it is of the same bundle, and moved no ref."""
        return (
            self.bundle == other.bundle and self.snapshots == other.snapshots
            and not any(write.is_move for write in other.refs)
            and {(write.ref, write.after) for write in self.refs} >= {(write.ref, write.after) for write in other.refs}
        )


def receipt_text(receipt: Receipt) -> bytes:
    """Spell a receipt."""
    values = {
        "receipt_version": RECEIPT_VERSION,
        "number": receipt.number,
        "at": receipt.at.isoformat(),
        "id": receipt.repo.name,
        "type": receipt.repo.type,
        "bundle": _origin_values(receipt.bundle) if receipt.bundle else None,
        "snapshots": [_snapshot_values(snapshot) for snapshot in receipt.snapshots],
        "refs": [{"ref": write.ref, "before": write.before, "after": write.after} for write in receipt.refs],
    }
    return json.dumps(values, ensure_ascii=False, indent=1).encode() + b"\n"


def _origin_values(origin: Origin) -> dict[str, object]:
    return {"name": origin.name, "identity": origin.identity, "signed_by": origin.signed_by}


def _snapshot_values(snapshot: InstalledSnapshot) -> dict[str, object]:
    return {
        "commit": snapshot.commit,
        "told_by": snapshot.identity.told_by,
        "agreed_by": snapshot.identity.agreed_by,
        "differed": snapshot.identity.differed,
        "files": [file_values(file) for file in snapshot.files],
    }


def parse_receipt(text: bytes, *, document: str) -> Receipt:
    """Parse a receipt. Raises `ReceiptError`, which names the field."""
    fields = Fields(parse_json(text, document=document, failure=ReceiptError), document=document, failure=ReceiptError)
    if (version := fields.size("receipt_version")) != RECEIPT_VERSION:
        fields.refuse("receipt_version", f"is {version}; this release reads {RECEIPT_VERSION}")
    fields.only("receipt_version", "number", "at", "id", "type", "bundle", "snapshots", "refs")
    fields.need("snapshots", "refs")
    repo_type = fields.name("type", RepoType)
    return Receipt(
        number=fields.size("number"),
        at=fields.name("at", _parse_time),
        repo=fields.name("id", lambda name: RepoId(repo_type, name)),
        bundle=_parse_origin(fields.inner("bundle")) if fields.has("bundle") else None,
        snapshots=tuple(_parse_snapshot(each) for each in fields.objects("snapshots")),
        refs=tuple(_parse_write(each) for each in fields.objects("refs")),
    )


def _parse_time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("a time without its zone")
    return time


def _parse_origin(fields: Fields) -> Origin:
    fields.only("name", "identity", "signed_by")
    return Origin(
        name=fields.name("name", BundleName),
        identity=fields.name("identity", Digest),
        signed_by=fields.optional("signed_by", str),
    )


def _parse_snapshot(fields: Fields) -> InstalledSnapshot:
    fields.only("commit", "told_by", "agreed_by", "differed", "files")
    fields.need("files")
    files = parse_files(fields)
    if any(file.sha256 is None for file in files):
        fields.refuse("files", "holds a file without its SHA-256")
    return InstalledSnapshot(commit=fields.name("commit", Commit), identity=parse_identity(fields), files=files)


def _parse_write(fields: Fields) -> RefWrite:
    fields.only("ref", "before", "after")
    return RefWrite(
        ref=fields.name("ref", RefName),
        before=fields.optional("before", Commit),
        after=fields.name("after", Commit),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The receipts of a repository."""

    receipts: tuple[Receipt, ...]
    """In the order of their numbers."""

    unreadable: tuple[str, ...] = ()
    """Why other files among them are no receipts."""

    def require_readable(self) -> None:
        """Fail if a receipt cannot be read: what it told of refs would be forgotten."""
        if self.unreadable:
            raise ReceiptError(
                "; ".join(self.unreadable),
                hint="move the file away, out of the cache, to go on without what it told",
            )

    @property
    def next_number(self) -> int:
        """The number of a receipt to come."""
        return self.receipts[-1].number + 1 if self.receipts else 1

    @property
    def commits(self) -> tuple[Commit, ...]:
        """All commits that were installed, in the order in which they first were."""
        return tuple(dict.fromkeys(each.commit for receipt in self.receipts for each in receipt.snapshots))

    def files_of(self, commit: Commit) -> tuple[LockedFile, ...]:
        """Return all files of a commit that were installed, sorted by path; several installs may have added to it."""
        files = {
            file.path: file
            for receipt in self.receipts for each in receipt.snapshots if each.commit == commit for file in each.files
        }
        return tuple(files[path] for path in sorted(files))

    def last_install(self, commit: Commit) -> Receipt | None:
        """Return the newest receipt that tells of a commit's files."""
        return self._newest(lambda receipt: any(each.commit == commit for each in receipt.snapshots))

    def refs(self) -> dict[RefName, tuple[Commit, Receipt]]:
        """Return where each ref was left, and by whom."""
        return {write.ref: (write.after, receipt) for receipt in self.receipts for write in receipt.refs}

    def left_at(self, ref: RefName) -> Commit | None:
        """Return where a ref was left; None if no receipt tells of it."""
        told = self.refs().get(ref)
        return told[0] if told else None

    def last_move(self, ref: RefName) -> RefWrite | None:
        """Return the newest write of a ref that came from elsewhere."""
        moves = [write for receipt in self.receipts for write in receipt.refs if write.ref == ref and write.is_move]
        return moves[-1] if moves else None

    def told_of(self, ref: RefName, commit: Commit) -> Receipt | None:
        """Return the newest receipt by which a ref has come to a commit, or has left it."""
        return self._newest(
            lambda receipt: any(each.ref == ref and commit in (each.before, each.after) for each in receipt.refs)
        )

    def _newest(self, chosen: Callable[[Receipt], bool]) -> Receipt | None:
        return next((receipt for receipt in reversed(self.receipts) if chosen(receipt)), None)
