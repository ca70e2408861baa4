"""Where the bytes of a locked file can be had."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from bundler.digest import Commit
from bundler.errors import LockError
from bundler.gateway.endpoint import Endpoint
from bundler.gateway.hub import file_url
from bundler.gateway.web import Location
from bundler.lock import Lock, LockedFile, LockedRepo
from bundler.names import RepoId


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A blob to fetch, by one of the files that it is."""

    repo: RepoId
    commit: Commit
    file: LockedFile

    restricted: bool = False
    """Whether the repository is gated or private."""

    def __str__(self) -> str:
        return f"`{self.file.path}` of {self.repo}"


def wanted_blobs(lock: Lock) -> tuple[Wanted, ...]:
    """Return every blob of a lock once, in the lock's order.

    Raises `LockError` if two files share a digest and are not of the same size: one of them cannot be.
    """
    first: dict[str, Wanted] = {}
    for repo in lock.repos:
        for wanted in wanted_of(repo):
            file = wanted.file
            known = first.setdefault(file.etag, wanted)
            if known.file.size != file.size or (known.file.sha256 or file.sha256) != (file.sha256 or known.file.sha256):
                raise LockError(
                    f"{known} and {wanted} have the same digest {file.etag}, and cannot be the same file",
                    hint="a hub that says so is broken or lies: make the lock again with another `--endpoint`",
                )
    return tuple(first.values())


def wanted_of(repo: LockedRepo) -> Iterator[Wanted]:
    """Yield every file of a repository as something to fetch."""
    for file in repo.files:
        yield Wanted(repo=repo.request.repo, commit=repo.commit, file=file, restricted=repo.restricted)


class Source(Protocol):
    """Somewhere bytes can come from. Trusted for nothing: the caller verifies every digest."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def ca(self) -> Path | None:
        """Certificates to trust on the way to its files, besides the system's."""

    def address(self, wanted: Wanted) -> Location | None:
        """Return where to start asking for a file, None if this source does not have it, or is not to be asked.

        Raises `FetchError` if the source has to say which files it has, and does not.
        """


class Takes(StrEnum):
    """Which repositories a hub is asked for."""

    ALL = "all"
    OPEN = "open"
    """Not gated or private ones: it has no token, and another source has."""

    RESTRICTED = "restricted"
    """Only gated and private ones: it is the official hub, which the manifest does not name."""


@dataclass(frozen=True, slots=True)
class HubSource:
    """An endpoint with the hub's API."""

    endpoint: Endpoint
    takes: Takes = Takes.ALL

    @property
    def name(self) -> str:
        """The endpoint's URL."""
        return self.endpoint.url

    @property
    def ca(self) -> Path | None:
        """The endpoint's."""
        return self.endpoint.ca

    def address(self, wanted: Wanted) -> Location | None:
        """Return the endpoint's URL of the file at its commit."""
        if self.takes is (Takes.OPEN if wanted.restricted else Takes.RESTRICTED):
            return None
        return Location.at(self.endpoint, file_url(self.endpoint, wanted.repo, wanted.commit, wanted.file.path))
