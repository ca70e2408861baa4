"""Which endpoints are asked for the bytes of a lock, and in which order."""

from __future__ import annotations

from bundler.gateway.endpoint import Endpoint, Endpoints
from bundler.gateway.modelscope import DEFAULT_BRANCH, ModelScopeSource, Place
from bundler.gateway.sources import HubSource, Source, Takes
from bundler.gateway.web import Web
from bundler.lock import Lock
from bundler.manifest import EndpointKind, Manifest
from bundler.names import RepoId


def network_sources(manifest: Manifest, lock: Lock, endpoints: Endpoints, web: Web) -> tuple[Source, ...]:
    """Return the endpoints as sources, in the manifest's order.

    Gated and private repositories are asked from whoever is given a token: the official hub even where the manifest
    does not name it. A mirror could open them only by passing a token through third hands.
    """
    unnamed = [each for each in endpoints.tellers if each.official and each.token and each not in endpoints.sources]
    token_is_there = unnamed or any(each.token for each in endpoints.sources)
    hubs = Takes.OPEN if token_is_there else Takes.ALL
    named: list[Source] = []
    for each in endpoints.sources:
        if each.kind is EndpointKind.MODELSCOPE:
            named.append(ModelScopeSource(each, _places(manifest, lock, each), web))
        else:
            named.append(HubSource(each, Takes.ALL if each.token else hubs))
    return (*named, *(HubSource(each, Takes.RESTRICTED) for each in unnamed))


def _places(manifest: Manifest, lock: Lock, endpoint: Endpoint) -> dict[RepoId, Place]:
    """Return what ModelScope calls the repositories, at the lock's commit where that is one of its own."""
    own = {repo.request: repo.commit for repo in lock.repos if repo.identity.told_by == endpoint.url}
    return {
        request.repo: Place(repo=request.modelscope, revision=own.get(request, DEFAULT_BRANCH))
        for request in manifest.requests if request.modelscope
    }
