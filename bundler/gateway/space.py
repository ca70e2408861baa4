"""How much room a build needs, and how much there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import NotEnoughSpaceError
from bundler.fsio import free_bytes
from bundler.gateway.staging import Staging
from bundler.lock import LockedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Bytes that are to be written on one file system."""

    place: Path
    needed: int
    free: int
    purpose: str
    way_out: str

    def check(self) -> None:
        """Raise `NotEnoughSpaceError` if there is too little."""
        if self.needed > self.free:
            raise NotEnoughSpaceError(
                self.place, needed=self.needed, free=self.free, purpose=self.purpose, way_out=self.way_out
            )


def space_needs(folder: Path, files: Sequence[LockedFile], staging: Staging, *, reusable: int = 0) -> tuple[Need, ...]:
    """Return what staging lacks, and at most what a bundle of `files` in `folder` has; on one file system both at once.

    `reusable` bytes in `folder` will make room. Neither place needs to exist.
    """
    fetching, packing = staging.lacks(files), _output_bound(files)
    room = free_bytes(folder) + reusable
    if _device(staging.root) == _device(folder):
        way_out = "choose another place with `-o` or `--staging`"
        both = Need(place=folder, needed=fetching + packing, free=room, purpose="fetching and packing", way_out=way_out)
        return (both,)
    return (
        Need(
            place=staging.root, needed=fetching, free=free_bytes(staging.root), purpose="fetching",
            way_out="choose another `--staging`",
        ),
        Need(
            place=folder, needed=packing, free=room, purpose="the bundle", way_out="choose another place with `-o`"
        ),
    )


def _output_bound(files: Sequence[LockedFile]) -> int:
    # Nothing is stored larger than it is; a tar block and the index's entries come on top.
    return sum(file.size + 2048 for file in files) + (1 << 20)


def _device(place: Path) -> int:
    place = place.absolute()
    while not place.exists():
        place = place.parent
    return place.stat().st_dev
