"""Whether gated and private repositories open: asked before anything is fetched."""

from __future__ import annotations

from bundler.errors import FetchError, ProxyError
from bundler.gateway.endpoint import Endpoint
from bundler.gateway.hub import denied, file_url
from bundler.gateway.trouble import Trouble
from bundler.gateway.web import Location, StatusError, Web
from bundler.lock import LockedRepo
from bundler.manifest import EndpointKind


def check_access(repos: tuple[LockedRepo, ...], endpoints: tuple[Endpoint, ...], web: Web) -> None:
    """Ask for the headers of one file of every gated or private repository, without its bytes.

    Raises `AccessDeniedError` if somebody denies it and nobody gives it. Silence is no denial: the line may recover.
    """
    hubs = sorted(
        (each for each in endpoints if each.kind is EndpointKind.HUB),
        key=lambda each: (not each.official, each.token is None),
    )
    for repo in repos:
        if repo.restricted and repo.files:
            _check(repo, hubs, web)


def _check(repo: LockedRepo, hubs: list[Endpoint], web: Web) -> None:
    first: tuple[Endpoint, int] | None = None
    for hub in hubs:
        url = file_url(hub, repo.request.repo, repo.commit, repo.files[0].path)
        try:
            web.locate(Location.at(hub, url))
            return
        except StatusError as error:
            if error.trouble is Trouble.REFUSED:
                first = first or (hub, error.status)
        except ProxyError:
            raise
        except FetchError:
            continue
    if first:
        raise denied(first[0], repo.request.repo, first[1])
