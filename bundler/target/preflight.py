"""What is looked at before anything is written: what cannot end well ends here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bundler.access import Access
from bundler.errors import InstallError, NotEnoughSpaceError
from bundler.format.index import Snapshot
from bundler.fsio import free_bytes, free_names
from bundler.names import RefName, RepoId, refs_of
from bundler.target.filesystem import FileSystem
from bundler.target.hubcache import Linking, RepoFolder
from bundler.target.places import Place, Places
from bundler.target.rights import open_folders

NamedSnapshot = tuple[Snapshot, tuple[RefName, ...]]
"""A snapshot with the refs that shall lead to it."""


def name_snapshots(snapshots: Iterable[Snapshot], revision_as: RefName | None) -> tuple[NamedSnapshot, ...]:
    """Return all snapshots with their refs and `revision_as`. Raises `InstallError` if these cannot stand together."""
    if revision_as is not None and not refs_of(revision_as):
        raise InstallError(
            f"`{revision_as}` is a commit, and names nothing but itself",
            hint="give `--revision-as` a name such as `main`",
        )
    named = tuple((snapshot, _refs(snapshot, revision_as)) for snapshot in snapshots)
    _check_distinct(named)
    return named


def _refs(snapshot: Snapshot, revision_as: RefName | None) -> tuple[RefName, ...]:
    if revision_as is None or revision_as in snapshot.refs:
        return snapshot.refs
    return (*snapshot.refs, revision_as)


def _check_distinct(named: Iterable[NamedSnapshot]) -> None:
    pairs = [(snapshot.repo, ref) for snapshot, refs in named for ref in refs]
    seen = set()
    for repo, ref in pairs:
        if (repo, ref) in seen:
            raise InstallError(
                f"the bundle holds {repo} more than once: `{ref}` cannot name both commits",
                hint="install it without `--revision-as`, or build a bundle with one of them",
            )
        seen.add((repo, ref))
    for repo, ref in pairs:
        for above in _above(ref):
            if (repo, above) in seen:
                raise InstallError(
                    f"{repo} cannot have both refs `{above}` and `{ref}`: one is a file where the other needs a folder",
                    hint="build the bundle with one of them",
                )


def _above(ref: RefName) -> Iterator[RefName]:
    steps = ref.split("/")
    return (RefName("/".join(steps[:depth])) for depth in range(1, len(steps)))


def check_repositories(cache_dir: Path, named: Iterable[NamedSnapshot], *, access: Access) -> None:
    """Raise if what is in the cache already keeps the snapshots out of it. Writes nothing, but opens what is ours."""
    for repo, group in by_repo(named).items():
        folder = RepoFolder.of(cache_dir, repo, access=access)
        _check_links(folder, group)
        _check_rights(folder, group)
        _check_refs(folder, group)


def by_repo(named: Iterable[NamedSnapshot]) -> dict[RepoId, list[NamedSnapshot]]:
    """Return the snapshots of each repository, in the order in which everybody holds repositories."""
    found: dict[RepoId, list[NamedSnapshot]] = {}
    for each in sorted(named, key=lambda pair: pair[0].repo.cache_folder):
        found.setdefault(each[0].repo, []).append(each)
    return found


def _check_links(folder: RepoFolder, named: Sequence[NamedSnapshot]) -> None:
    root = os.path.realpath(folder.path)
    for path in (*_own_folders(folder), *_content_folders(folder, named), *_marker_folders(folder, named)):
        if not Path(os.path.realpath(path)).is_relative_to(root):
            raise InstallError(
                f"{path} leads out of {folder.path} by a link", hint="remove the link, or put a folder in its place"
            )


def _check_refs(folder: RepoFolder, named: Sequence[NamedSnapshot]) -> None:
    top = folder.path / "refs"
    for ref in (ref for _, refs in named for ref in refs):
        in_the_way = [top / above for above in _above(ref) if (top / above).is_file()]
        if (top / ref).is_dir():
            in_the_way.append(top / ref)
        if in_the_way:
            raise InstallError(
                f"the ref `{ref}` cannot be written, {in_the_way[0]} is in its way",
                hint="if nobody needs the refs there any more, remove it",
            )


def _own_folders(folder: RepoFolder) -> Iterator[Path]:
    yield folder.staging.parent
    yield folder.staging
    for name in ("blobs", "snapshots", "refs", "trees", ".no_exist"):
        yield folder.path / name


def _content_folders(folder: RepoFolder, named: Sequence[NamedSnapshot]) -> Iterator[Path]:
    for snapshot, refs in named:
        final = folder.snapshot(snapshot.commit)
        if os.path.lexists(final):
            yield from _folders_below(final, (file.path for file in snapshot.files))
        yield from _folders_below(folder.path / "refs", refs)


def _marker_folders(folder: RepoFolder, named: Sequence[NamedSnapshot]) -> Iterator[Path]:
    for snapshot, _ in named:
        markers = folder.path / ".no_exist" / snapshot.commit
        if os.path.lexists(markers):
            yield from _folders_below(markers, (file.path for file in snapshot.files))


def _folders_below(top: Path, paths: Iterable[str]) -> Iterator[Path]:
    yield top
    yield from dict.fromkeys(parent for path in paths for parent in (top / path).parents if top in parent.parents)


def _check_rights(folder: RepoFolder, named: Sequence[NamedSnapshot]) -> None:
    open_folders((folder.path, *_own_folders(folder), *_content_folders(folder, named)), folder.access)


def check_names(file_system: FileSystem, folder: RepoFolder, named: Sequence[NamedSnapshot]) -> None:
    """Raise `InstallError` if the file system does not take the names, or takes two of them for one."""
    refs = [ref for _, refs in named for ref in refs]
    reasons = [file_system.why_unfit(folder.path / "refs", refs)]
    for snapshot, _ in named:
        place = folder.snapshot(snapshot.commit)
        reasons.append(file_system.why_unfit(place, (file.path for file in snapshot.files)))
    for reason in filter(None, reasons):
        raise InstallError(reason, hint="choose a place on another file system with `--cache-dir`")


def check_space(missing: Places) -> None:
    """Raise `NotEnoughSpaceError` unless there is room for what is missing; what is staged of it counts as there."""
    disks: dict[int, list[Place]] = {}
    for place in (place for found in missing.values() for place in found):
        disks.setdefault(place.folder.staging.stat().st_dev, []).append(place)
    for places in disks.values():
        folder = places[0].folder
        needed = sum(place.file.size - min(place.file.size, place.staged.allocated) for place in places)
        _compare(folder.path, needed, free_bytes(folder.path), "bytes")
        # At least a name for each file; links and folders come on top.
        _compare(folder.path, len(places), free_names(folder.path), "names")


def _compare(place: Path, needed: int, free: int, unit: str) -> None:
    if needed > free:
        raise NotEnoughSpaceError(
            place, needed=needed, free=free, unit=unit, purpose="the bundle unpacked",
            way_out="choose another place with `--cache-dir`",
        )


def linking_for(file_system: FileSystem, *, symlinks: bool) -> Linking:
    """Return what the files in snapshots will be."""
    if symlinks and file_system.symbolic_links:
        return Linking.SYMBOLIC
    return Linking.HARD if file_system.hard_links else Linking.NONE
