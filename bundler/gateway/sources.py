"""Where the bytes of a locked file can be had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bundler.digest import Commit
from bundler.gateway.endpoint import Endpoint
from bundler.gateway.hub import file_url
from bundler.gateway.web import Location
from bundler.lock import Lock, LockedFile
from bundler.names import RepoId


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A blob to fetch, by one of the files that it is."""

    repo: RepoId
    commit: Commit
    file: LockedFile

    def __str__(self) -> str:
        return f"`{self.file.path}` of {self.repo}"


def wanted_blobs(lock: Lock) -> tuple[Wanted, ...]:
    """Return every blob of a lock once, in the lock's order."""
    first: dict[str, Wanted] = {}
    for repo in lock.repos:
        for file in repo.files:
            wanted = Wanted(repo=repo.request.repo, commit=repo.commit, file=file)
            first.setdefault(file.etag, wanted)
    return tuple(first.values())


class Source(Protocol):
    """Somewhere bytes can come from. Trusted for nothing: the caller verifies every digest."""

    @property
    def name(self) -> str:
        """What people call it."""

    def address(self, wanted: Wanted) -> Location | None:
        """Return where to start asking for a file, None if this source cannot have it. Asks nobody."""


@dataclass(frozen=True, slots=True)
class HubSource:
    """An endpoint with the hub's API."""

    endpoint: Endpoint

    @property
    def name(self) -> str:
        """The endpoint's URL."""
        return self.endpoint.url

    def address(self, wanted: Wanted) -> Location | None:
        """Return the endpoint's URL of the file at its commit."""
        url = file_url(self.endpoint, wanted.repo, wanted.commit, wanted.file.path)
        return Location(url=url, token=self.endpoint.token)
