"""An endpoint: a base URL, and what it may be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from bundler.manifest import OFFICIAL_ENDPOINT, EndpointUrl


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A hub that can be asked."""

    url: EndpointUrl

    token: str | None = field(default=None, repr=False)
    """Sent to this endpoint's own origin, and nowhere else."""

    @property
    def official(self) -> bool:
        """Whether this is the hub whose word counts most."""
        return self.url == OFFICIAL_ENDPOINT


def endpoints_of(urls: tuple[EndpointUrl, ...], *, token: str | None) -> tuple[Endpoint, ...]:
    """Return the endpoints at `urls`, of which the official hub alone is given the user's token."""
    return tuple(Endpoint(url=url, token=token if url == OFFICIAL_ENDPOINT else None) for url in urls)


def origin(url: str) -> tuple[str, str | None, int]:
    """Return scheme, host and port of a URL: what a token must not leave."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
