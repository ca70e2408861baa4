"""Installed files hashed anew and compared with what their receipts say. Reads only, and holds nobody up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bundler.digest import Commit, Digest, hash_file
from bundler.format.index import sha256_of
from bundler.lock import LockedFile
from bundler.pipeline import ordered_map
from bundler.progress import Advanced, Finished, OnEvent, Phase, Started
from bundler.target.hubcache import RepoFolder


class Harm(StrEnum):
    """What became of a file."""

    MISSING = "missing"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file that a reader does not get as it was installed."""

    file: LockedFile
    harm: Harm
    reason: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file of a snapshot that shall be there."""

    folder: RepoFolder
    commit: Commit
    file: LockedFile

    @property
    def path(self) -> Path:
        """Where a reader finds it."""
        return self.folder.snapshot(self.commit) / self.file.path


_Content = tuple[int, int, Digest]
"""Device and inode of a file, and the digest that it should have: snapshots share blobs, which are hashed once."""


def prove(wanted: Iterable[Wanted], *, workers: int, on_event: OnEvent) -> dict[Wanted, BadFile]:
    """Read every file to its end, and return those that are not whole with the reason."""
    bad: dict[Wanted, BadFile] = {}
    contents: dict[_Content, list[Wanted]] = {}
    for each in wanted:
        content = _look(each)
        if isinstance(content, BadFile):
            bad[each] = content
        else:
            contents.setdefault(content, []).append(each)
    on_event(Started(Phase.VERIFY, sum(group[0].file.size for group in contents.values())))
    reasons = ordered_map(lambda group: _why_damaged(group[0], on_event), contents.values(), workers=workers)
    for group, reason in zip(contents.values(), reasons):
        if reason:
            bad |= {each: BadFile(each.file, Harm.DAMAGED, reason) for each in group}
    on_event(Finished(Phase.VERIFY))
    return bad


def _look(wanted: Wanted) -> _Content | BadFile:
    """Find the file, whatever links lead to it."""
    file, path = wanted.file, wanted.path
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        reason = "its link leads to nothing" if path.is_symlink() else "is not there"
        return BadFile(file, Harm.MISSING, reason)
    except OSError as error:
        return BadFile(file, Harm.DAMAGED, f"cannot be read: {error.strerror}")
    if not path.is_file():
        return BadFile(file, Harm.DAMAGED, "is not a file")
    if found.st_size != file.size:
        return BadFile(file, Harm.DAMAGED, f"has {found.st_size:,} bytes, not {file.size:,}")
    return found.st_dev, found.st_ino, sha256_of(file)


def _why_damaged(wanted: Wanted, on_event: OnEvent) -> str:
    try:
        _, hasher = hash_file(wanted.path, on_bytes=lambda count: on_event(Advanced(Phase.VERIFY, count)))
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if hasher.sha256 == wanted.file.sha256 else "has other bytes than were installed"
