"""Manifest to lock: which commit each revision is, and exactly which bytes that holds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from bundler.gateway.endpoint import Endpoint
from bundler.gateway.identity import Hearing, Trust
from bundler.gateway.web import Web
from bundler.lock import Lock, LockedRepo
from bundler.manifest import Manifest, Request
from bundler.progress import Advanced, Finished, OnEvent, Phase, Started, ignore

_QUESTIONS_AT_ONCE = 8
_TIMEOUTS = (5.0, 20.0)
"""Seconds to connect, and for the next bytes of an answer."""


def resolve_manifest(
    manifest: Manifest, tellers: tuple[Endpoint, ...], *, keep: Lock | None = None, trust: Trust = Trust(),
    on_event: OnEvent = ignore,
) -> Lock:
    """Ask endpoints what a manifest stands for now. What `keep` has pinned for the same request stays as it is.

    Raises `HubError` or one of its kinds, `NothingSelectedError` if a repository's patterns let no file through.
    """
    pinned = {repo.request: repo for repo in keep.repos} if keep else {}
    on_event(Started(Phase.LOCK, len(manifest.requests)))
    with (
        Web(connections=_QUESTIONS_AT_ONCE, timeouts=_TIMEOUTS) as web,
        ThreadPoolExecutor(max_workers=_QUESTIONS_AT_ONCE) as pool,
    ):
        hearing = Hearing(tellers, trust, web, on_event)

        def resolve(request: Request) -> LockedRepo:
            repo = pinned.get(request) or hearing.lock(request)
            on_event(Advanced(Phase.LOCK, 1))
            return repo

        repos = tuple(pool.map(resolve, manifest.requests))
    on_event(Finished(Phase.LOCK))
    return Lock(name=manifest.name, repos=repos)
