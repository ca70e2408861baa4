"""Manifest to lock: which commit each revision is, and exactly which bytes that holds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from bundler.errors import (
    AccessDeniedError, BundlerError, HubError, HubUnreachableError, NothingSelectedError, RepoNotFoundError,
    RevisionNotFoundError
)
from bundler.gateway.endpoint import Endpoint
from bundler.gateway.hub import Listing, list_snapshot
from bundler.lock import Identity, Lock, LockedRepo
from bundler.manifest import EndpointUrl, Manifest, Request
from bundler.progress import Advanced, Finished, OnEvent, Phase, Started, ignore

_QUESTIONS_AT_ONCE = 8

_TELLING = (NothingSelectedError, AccessDeniedError, RevisionNotFoundError, RepoNotFoundError, HubError)
"""Where no endpoint gives a listing, which of their errors says most, in this order."""


def resolve_manifest(
    manifest: Manifest, endpoints: tuple[Endpoint, ...], *, keep: Lock | None = None, on_event: OnEvent = ignore
) -> Lock:
    """Ask endpoints what a manifest stands for now. What `keep` has pinned for the same request stays as it is.

    Raises `HubError` or one of its kinds, `NothingSelectedError` if a repository's patterns let no file through.
    """
    pinned = {repo.request: repo for repo in keep.repos} if keep else {}
    on_event(Started(Phase.LOCK, len(manifest.requests)))

    def resolve(request: Request) -> LockedRepo:
        repo = pinned.get(request) or _resolve_request(request, endpoints)
        on_event(Advanced(Phase.LOCK, 1))
        return repo

    with ThreadPoolExecutor(max_workers=_QUESTIONS_AT_ONCE) as pool:
        repos = tuple(pool.map(resolve, manifest.requests))
    on_event(Finished(Phase.LOCK))
    return Lock(name=manifest.name, repos=repos)


def _resolve_request(request: Request, endpoints: tuple[Endpoint, ...]) -> LockedRepo:
    # The official hub is asked first wherever it stands in the list: the list's order is about bytes.
    in_order = sorted(endpoints, key=lambda endpoint: not endpoint.official)
    listings: list[tuple[EndpointUrl, Listing]] = []
    failures: list[BundlerError] = []
    for endpoint in in_order:
        try:
            listings.append((endpoint.url, list_snapshot(endpoint, request)))
        except (HubError, NothingSelectedError) as error:
            failures.append(error)
    if not listings:
        raise _most_telling(failures)
    (told_by, told), others = listings[0], listings[1:]
    identity = Identity(
        told_by=told_by,
        agreed_by=tuple(url for url, listing in others if _same(listing, told)),
        differed=tuple(url for url, listing in others if not _same(listing, told)),
    )
    return LockedRepo(request=request, commit=told.commit, identity=identity, files=told.files)


def _same(one: Listing, other: Listing) -> bool:
    names = [[(file.path, file.size, file.etag) for file in listing.files] for listing in (one, other)]
    return one.commit == other.commit and names[0] == names[1]


def _most_telling(failures: list[BundlerError]) -> BundlerError:
    def rank(error: BundlerError) -> int:
        unreachable = isinstance(error, HubUnreachableError)
        return len(_TELLING) if unreachable else next(i for i, kind in enumerate(_TELLING) if isinstance(error, kind))

    return min(failures, key=rank)
