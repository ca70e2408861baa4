"""Repositories of a cache, held against other installers and found fit for what shall go there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bundler.access import Access
from bundler.errors import InstallError
from bundler.names import RepoId
from bundler.progress import OnEvent
from bundler.target.filesystem import ask_file_system
from bundler.target.hubcache import RepoFolder
from bundler.target.preflight import NamedSnapshot, by_repo, check_names, linking_for

Folders = Mapping[RepoId, RepoFolder]
"""Repositories that are held."""


def hold_repositories(
    stack: ExitStack,
    cache_dir: Path,
    named: Iterable[NamedSnapshot],
    *,
    access: Access,
    symlinks: bool,
    on_event: OnEvent,
) -> Folders:
    """Hold the repositories of all snapshots until `stack` ends, in an order that is the same for everybody.

    Raises if the file system of one does not take the names that shall go there.
    """
    held: dict[RepoId, RepoFolder] = {}
    for repo, group in by_repo(named).items():
        folder = RepoFolder.of(cache_dir, repo, access=access)
        _require_apart(folder, held)
        stack.enter_context(folder.exclusively(on_event))
        file_system = ask_file_system(folder.staging)
        check_names(file_system, folder, group)
        held[repo] = replace(folder, linking=linking_for(file_system, symlinks=symlinks))
    return held


def _require_apart(folder: RepoFolder, held: Folders) -> None:
    """Fail if another repository is in this folder, as where `Org/name` and `org/name` are one name: it is held."""
    for repo, other in held.items():
        if folder.path.name.casefold() == other.path.name.casefold() and folder.path.exists():
            if folder.path.samefile(other.path):
                raise InstallError(
                    f"{folder.path.name} and {repo} are one folder to this file system",
                    hint="choose a place on another file system with `--cache-dir`",
                )
