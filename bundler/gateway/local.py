"""What this machine holds already: a Hugging Face cache, or a folder of files. Only read, and trusted for nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from bundler.gateway.sources import Wanted
from bundler.gateway.staging import Staging, has_size

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_COPY_SIZE = 64 << 20
_READ_SIZE = 1 << 20


class Store(Protocol):
    """A place on this machine that may hold files."""

    @property
    def name(self) -> str:
        """What people call it."""

    def places(self, wanted: Wanted) -> Iterator[Path]:
        """Yield where a file may stand, the likeliest first. Looks at names only."""

    def promises(self, place: Path, wanted: Wanted) -> bool:
        """Say whether a place, going by its name, holds this very file, and not perhaps another version."""


@dataclass(frozen=True, slots=True)
class CacheStore:
    """A cache as huggingface_hub keeps it. Links are followed, also those into a store that repositories share."""

    folder: Path
    """`hub`, or the folder that holds it (HF_HOME)."""

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    def places(self, wanted: Wanted) -> Iterator[Path]:
        """Yield the blob, the file in the snapshot, and the same path in other snapshots: it may not have changed."""
        for hub in (self.folder, self.folder / "hub"):
            repo = hub / wanted.repo.cache_folder
            yield repo / "blobs" / wanted.file.etag
            yield repo / "snapshots" / wanted.commit / wanted.file.path
            snapshots = repo / "snapshots"
            for name in sorted(os.listdir(snapshots)) if snapshots.is_dir() else []:
                if name != wanted.commit:
                    yield snapshots / name / wanted.file.path

    def promises(self, place: Path, wanted: Wanted) -> bool:
        """A blob does: it is named by its digest."""
        return place.name == wanted.file.etag


@dataclass(frozen=True, slots=True)
class FolderStore:
    """A folder with the files of one repository at their paths, or of several below `org/name`."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    def places(self, wanted: Wanted) -> Iterator[Path]:
        """Yield the path below the repository's id, with and without its type, and below the folder itself."""
        for base in dict.fromkeys((str(wanted.repo), wanted.repo.name, ".")):
            yield self.folder / base / wanted.file.path

    def promises(self, place: Path, wanted: Wanted) -> bool:
        """Whoever names a folder says so."""
        return True


def may_hold(stores: tuple[Store, ...], wanted: Wanted) -> bool:
    """Say whether a file of the right name and size stands in a store. Its bytes are not looked at."""
    return any(has_size(place, wanted.file.size) for store in stores for place in _places(store, wanted))


def is_to_be_fetched(wanted: Wanted, staging: Staging, stores: tuple[Store, ...]) -> bool:
    """Say whether this machine does not hold all of a file, going by names and sizes."""
    return bool(staging.lacks([wanted.file])) and not may_hold(stores, wanted)


def _places(store: Store, wanted: Wanted) -> Iterator[Path]:
    try:
        yield from store.places(wanted)
    except PermissionError:  # a folder that cannot be listed
        return


def copies(store: Store, wanted: Wanted, target: Path, *, check: Callable[[], None]) -> Iterator[Path]:
    """Copy each file of the right size that a store may hold to `target`, one after another, and yield where it was.

    A copy, because its owner may change the file after it was proven; where the file system can, it shares the blocks.
    What cannot be read is passed over. `check` is called now and then, and may raise to give up.
    """
    for place in _places(store, wanted):
        if has_size(place, wanted.file.size) and _copy(place, target, check):
            yield place


def _copy(place: Path, target: Path, check: Callable[[], None]) -> bool:
    try:
        with place.open("rb") as source, target.open("wb") as copy:
            if not _copy_blocks(source, copy, check):
                _copy_bytes(source, copy, check)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise
        return False
    return True


def _copy_blocks(source: BinaryIO, copy: BinaryIO, check: Callable[[], None]) -> bool:
    """Let the kernel copy; False if this pair of file systems, or this operating system, cannot."""
    try:
        while os.copy_file_range(source.fileno(), copy.fileno(), _COPY_SIZE):
            check()
    except (OSError, AttributeError):
        return False
    return True


def _copy_bytes(source: BinaryIO, copy: BinaryIO, check: Callable[[], None]) -> None:
    source.seek(0)
    copy.seek(0)
    copy.truncate()
    while piece := source.read(_READ_SIZE):
        check()
        copy.write(piece)
