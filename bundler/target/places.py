"""Where the bytes of a bundle's files go in a cache, and what of that is there already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bundler.digest import Commit, Digest
from bundler.format.index import Snapshot, sha256_of
from bundler.lock import LockedFile
from bundler.names import RepoId
from bundler.progress import Advanced, OnEvent, Phase
from bundler.target.hubcache import Linking, RepoFolder, is_right
from bundler.target.rights import open_to_readers
from bundler.target.staging import StagedPath


@dataclass(frozen=True, slots=True)
class Place:
    """A file of the cache that shall hold a blob's bytes."""

    folder: RepoFolder
    file: LockedFile
    final: Path

    staged: StagedPath
    """Where its bytes come together."""

    @classmethod
    def of(cls, folder: RepoFolder, commit: Commit, file: LockedFile) -> Place:
        """Return the place of a file of a snapshot: several files may share one."""
        # Without links every file has a place of its own, where equal ones have equal etags.
        own = "" if folder.linking is not Linking.NONE else f"-{Digest.of(file.path.encode())[:32]}"
        return cls(
            folder, file, folder.content(commit, file), StagedPath.of(folder.staging, f"{file.etag}{own}")
        )


Places = dict[Digest, tuple[Place, ...]]
"""For each blob all files that it becomes: a repository has its own, under either kind of name."""


def places_of(snapshots: Iterable[Snapshot], folders: Mapping[RepoId, RepoFolder]) -> Places:
    """Return where all files of the snapshots go."""
    places: dict[Digest, dict[Path, Place]] = {}
    for snapshot in snapshots:
        for file in snapshot.files:
            place = Place.of(folders[snapshot.repo], snapshot.commit, file)
            places.setdefault(sha256_of(file), {})[place.final] = place
    return {digest: tuple(found.values()) for digest, found in places.items()}


def missing_of(places: Places, on_event: OnEvent) -> Places:
    """Return the places where the right bytes do not stand; reads and hashes what is there.

    What is right and closed to readers is opened to them.
    """
    missing: Places = {}
    for digest, found in places.items():
        absent = tuple(place for place in found if not _is_there(place))
        if absent:
            missing[digest] = absent
        on_event(Advanced(Phase.INSTALL, found[0].file.size * (len(found) - len(absent))))
    return missing


def _is_there(place: Place) -> bool:
    open_to_readers(place.final, place.folder.access)
    return is_right(place.final, place.file)


def bytes_of(places: Places) -> int:
    """Return the bytes of all places together."""
    return sum(place.file.size for found in places.values() for place in found)
