"""ModelScope: the hub's questions put to its own API, and its files as a source.

Its repositories have other ids and other commits than the hub's, and its answers have traits of their own: errors come
with status 200, the list of a model's files is cut off at 3,000 without a word, that of a dataset comes in pages.
It tells the SHA-256 of every file, and never a git blob id.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlencode

from bundler.digest import Commit, Digest
from bundler.errors import FetchError, HubError, RepoNotFoundError, RevisionNotFoundError
from bundler.fields import Fields
from bundler.gateway.endpoint import Endpoint
from bundler.gateway.hub import ask, choose, denied, read_answer
from bundler.gateway.listing import Listing, sorted_files
from bundler.gateway.sources import Wanted
from bundler.gateway.web import Answer, Location, Web
from bundler.lock import LockedFile
from bundler.manifest import Request
from bundler.names import RelPath, RepoId, RepoType

DEFAULT_BRANCH = "master"
"""What the hub calls `main`."""

_CUT_AT = 3_000
"""Entries. A list that has as many may have lost some."""

_PAGE_SIZE = 200
_NO_SUCH_REPO = (404, 10010205001)


def list_modelscope(endpoint: Endpoint, request: Request, web: Web) -> Listing:
    """Return what ModelScope says that a revision is. All files are known by SHA-256, and the commit is its own.

    Raises `HubError` or one of its kinds; `NothingSelectedError` if the patterns let no file through.
    """
    shelf = _shelf(endpoint, request, web)
    commit = shelf.commit(_revision(request))
    entries = [(entry.text("Path"), entry) for entry in shelf.files(commit)]
    files = [_locked_file(entry) for _, entry in choose(entries, request)]
    return Listing(commit=commit, files=sorted_files(files, request, of=len(entries), strange=shelf.strange))


def find_modelscope_commit(endpoint: Endpoint, request: Request, web: Web) -> Commit:
    """Return which commit of ModelScope's own a revision is. Raises what `list_modelscope` raises."""
    return _shelf(endpoint, request, web).commit(_revision(request))


def _shelf(endpoint: Endpoint, request: Request, web: Web) -> _Shelf:
    if request.modelscope is None or request.repo.type is RepoType.SPACE:
        raise RepoNotFoundError(
            f"nothing says what {request.repo} is called on {endpoint.url}",
            hint='name it in the manifest: `modelscope = "org/name"` in its `[[repo]]`',
        )
    return _Shelf(endpoint=endpoint, repo=request.modelscope, web=web)


def _revision(request: Request) -> str:
    return DEFAULT_BRANCH if request.revision == "main" else request.revision


def _locked_file(entry: Fields) -> LockedFile:
    digest = entry.name("Sha256", Digest)
    return LockedFile(path=entry.name("Path", RelPath), size=entry.size("Size"), etag=digest, sha256=digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where ModelScope has a repository of a lock."""

    repo: RepoId
    revision: str


class ModelScopeSource:
    """Files of repositories whose ModelScope ids are known. Safe to use from many threads."""

    def __init__(self, endpoint: Endpoint, places: Mapping[RepoId, Place], web: Web) -> None:
        self._endpoint = endpoint
        self._places = places
        self._web = web
        self._lock = threading.Lock()
        self._known: dict[RepoId, dict[str, Fields]] = {}

    @property
    def name(self) -> str:
        """The endpoint's URL."""
        return self._endpoint.url

    @property
    def ca(self) -> Path | None:
        """The endpoint's."""
        return self._endpoint.ca

    def address(self, wanted: Wanted) -> Location | None:
        """Return where a file is if ModelScope lists it with the lock's size, and SHA-256 where that is known.

        Asks for the list of a repository once. Raises `FetchError` if there is no list.
        """
        place = self._places.get(wanted.repo)
        if place is None:
            return None
        listed = self._files(wanted.repo, place).get(wanted.file.path)
        if listed is None or listed.size("Size") != wanted.file.size:
            return None
        if wanted.file.sha256 and listed.has("Sha256") and listed.text("Sha256") != wanted.file.sha256:
            return None
        query = urlencode({"Revision": place.revision, "FilePath": wanted.file.path})
        return Location.at(self._endpoint, f"{_api(self._endpoint, place.repo)}/repo?{query}")

    def _files(self, repo: RepoId, place: Place) -> dict[str, Fields]:
        with self._lock:
            if repo not in self._known:
                shelf = _Shelf(endpoint=self._endpoint, repo=place.repo, web=self._web)
                try:
                    self._known[repo] = {entry.text("Path"): entry for entry in shelf.files(place.revision)}
                except HubError as error:
                    raise FetchError(str(error), hint=error.hint) from error
            return self._known[repo]


def _api(endpoint: Endpoint, repo: RepoId) -> str:
    return f"{endpoint.url}/api/v1/{repo.type.plural}/{repo.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shelf:
    """The questions about one repository."""

    endpoint: Endpoint
    repo: RepoId
    web: Web

    @property
    def strange(self) -> str:
        """How an error begins that tells of an answer without sense."""
        return f"what {self.endpoint.url} answers for {self.repo} is not ModelScope's API"

    def commit(self, revision: str) -> Commit:
        """Return the newest commit of a branch or a tag."""
        data = self._ask("commits", Ref=revision, PageNumber=1, PageSize=1)
        commits = data.objects("Commit")
        if not commits:
            raise RevisionNotFoundError(
                f"{self.endpoint.url} has no {self.repo} at `{revision}`", hint="look at its branches and tags there"
            )
        return commits[0].name("Id", Commit)

    def files(self, revision: str, root: str = "") -> Iterator[Fields]:
        """Yield all files below `root`, folder by folder where the list of all is cut off."""
        entries = self._list(revision, root, recursive=True)
        if len(entries) < _CUT_AT or self.repo.type is RepoType.DATASET:
            yield from (entry for entry in entries if entry.text("Type") == "blob")
            return
        here = self._list(revision, root, recursive=False)
        if len(here) >= _CUT_AT:
            raise HubError(f"{self.endpoint.url} does not list all files of {self.repo}: `{root or '/'}` has too many")
        for entry in here:
            if entry.text("Type") == "blob":
                yield entry
            else:
                yield from self.files(revision, entry.name("Path", RelPath))

    def _list(self, revision: str, root: str, *, recursive: bool) -> list[Fields]:
        asked = {"Revision": revision, "Recursive": recursive, **({"Root": root} if root else {})}
        if self.repo.type is RepoType.MODEL:
            return self._ask("repo/files", **asked).objects("Files")
        entries: list[Fields] = []
        number = 0
        while number * _PAGE_SIZE == len(entries):  # all pages so far were full
            number += 1
            data = self._ask("repo/tree", **asked, PageNumber=number, PageSize=_PAGE_SIZE)
            page = data.objects("Files")
            if entries and page and page[0].text("Path") == entries[0].text("Path"):
                raise HubError(f"{self.endpoint.url} does not list all files of {self.repo}: its pages repeat")
            entries += page
        return entries

    def _ask(self, what: str, **query: object) -> Fields:
        answer = ask(self.endpoint, f"{_api(self.endpoint, self.repo)}/{what}?{urlencode(query)}", self.web)
        if answer.status in (401, 403):
            raise denied(self.endpoint, self.repo, answer.status)
        if answer.status not in (200, 404):
            raise HubError(f"{self.endpoint.url} answers {answer.status} for {self.repo}")
        told = Fields(
            read_answer(answer, strange=self.strange), document=self.strange, failure=HubError, where="answer"
        )
        if not told.says("Success"):
            self._refuse(answer, told)
        return told.inner("Data")

    def _refuse(self, answer: Answer, told: Fields) -> NoReturn:
        message = told.text("Message")[:200] if told.says("Message") else "no reason given"
        if answer.status == 404 or told.has("Code") and told.size("Code") in _NO_SUCH_REPO:
            raise RepoNotFoundError(
                f"{self.endpoint.url} has no {self.repo} that it would show: {message}",
                hint="check the `modelscope` id in the manifest",
            )
        raise HubError(f"{self.endpoint.url} answers for {self.repo}: {message}")
