"""An endpoint: a base URL, what it may be told, and how it is reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bundler.gateway.certificates import check_certificates
from bundler.gateway.proxies import Proxies
from bundler.gateway.tokens import named_token
from bundler.manifest import OFFICIAL_ENDPOINT, EndpointEntry, EndpointKind, EndpointUrl


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A place that can be asked."""

    url: EndpointUrl
    kind: EndpointKind = EndpointKind.HUB

    token: str | None = field(default=None, repr=False)
    """Sent to this endpoint's own origin, and nowhere else."""

    token_found_in: str = ""
    """`$NAME` or a path, empty without a token: for people."""

    ca: Path | None = None
    """Certificates to trust besides the system's, here and wherever its redirects lead."""

    proxies: Proxies = Proxies()
    """For its own URLs and those that its redirects lead to."""

    @property
    def official(self) -> bool:
        """Whether this is the hub whose word counts most."""
        return self.url == OFFICIAL_ENDPOINT


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the machine and its user bring along."""

    environment: Mapping[str, str] = field(repr=False)
    home: Path
    proxies: Proxies


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Whom a run asks, and what for."""

    sources: tuple[Endpoint, ...]
    """For bytes, in this order."""

    tellers: tuple[Endpoint, ...]
    """What a revision is: the sources, and perhaps others."""


def choose_endpoints(
    named: tuple[EndpointEntry, ...], folder: Path, surroundings: Surroundings, *,
    instead: tuple[EndpointUrl, ...] = (), identity: EndpointUrl | None = None,
) -> Endpoints:
    """Return the endpoints that a manifest in `folder` names, or those of the user's that are asked `instead`.

    The official hub is asked for identities even where the manifest does not name it; not so if the user names others.
    Raises `ManifestError` for a token or a certificate that is not where the manifest says.
    """
    entries = {entry.url: entry for entry in named}

    def endpoint(url: EndpointUrl) -> Endpoint:
        return _endpoint(entries.get(url, EndpointEntry(url=url)), folder, surroundings)

    sources = tuple(endpoint(url) for url in dict.fromkeys(instead or entries))
    known = [source.url for source in sources]
    more = [] if instead or identity else [EndpointUrl(OFFICIAL_ENDPOINT)]
    more += [identity] if identity else []
    return Endpoints(sources=sources, tellers=(*sources, *(endpoint(url) for url in more if url not in known)))


def _endpoint(entry: EndpointEntry, folder: Path, surroundings: Surroundings) -> Endpoint:
    found = named_token(entry.token_from, surroundings.environment, folder, surroundings.home)
    return Endpoint(
        url=entry.url,
        kind=entry.kind,
        token=found.secret if found else None,
        token_found_in=found.found_in if found else "",
        ca=_own_certificates(entry, folder, surroundings.environment),
        proxies=_proxies(entry, surroundings.proxies),
    )


def _own_certificates(entry: EndpointEntry, folder: Path, environment: Mapping[str, str]) -> Path | None:
    # The variable is the HTTP library's; its users rely on it where a proxy opens TLS.
    of_the_user = environment.get("REQUESTS_CA_BUNDLE")
    if entry.ca:
        path = (folder / Path(entry.ca).expanduser()).absolute()
    elif of_the_user:
        path = Path(of_the_user).absolute()
    else:
        return None
    check_certificates(path)
    return path


def _proxies(entry: EndpointEntry, of_the_system: Proxies) -> Proxies:
    if entry.proxy is None:
        return of_the_system
    return Proxies() if entry.proxy == "none" else Proxies(http=entry.proxy, https=entry.proxy)


def origin(url: str) -> tuple[str, str | None, int]:
    """Return scheme, host and port of a URL: what a token must not leave."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
