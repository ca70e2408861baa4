"""The manifest: what is wanted, as a person writes it (TOML)."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from bundler.errors import ManifestError
from bundler.fields import Fields, read_bounded
from bundler.names import BundleName, RefName, RepoId, RepoType

OFFICIAL_ENDPOINT = "https://huggingface.co"
MAX_MANIFEST_SIZE = 4 << 20


class EndpointUrl(str):
    """The base URL of a hub: http or https, a host, perhaps a path; no slash at the end, no user, no query."""

    __slots__ = ()

    def __new__(cls, text: str) -> EndpointUrl:
        if any(character in text for character in "@?#"):
            # Not quoted: what stands before the @ may be a password.
            raise ValueError(f"a URL such as {OFFICIAL_ENDPOINT} carries no user, password, query or fragment")
        url = urlsplit(text)
        plain = all("!" <= character <= "~" and character not in '"<>\\^`{|}' for character in text)
        if url.scheme not in ("http", "https") or not url.hostname or url.port == 0 or not plain:
            raise ValueError(f"{text[:200]!r} is not a URL such as {OFFICIAL_ENDPOINT}")
        return super().__new__(cls, text.rstrip("/"))


class EndpointKind(StrEnum):
    """The API that an endpoint speaks."""

    HUB = "hub"
    MODELSCOPE = "modelscope"


class TokenFrom(str):
    """Where a token is found: `user` (where Hugging Face's own programs look), `none`, `env:NAME` or `file:PATH`."""

    __slots__ = ()

    def __new__(cls, text: str) -> TokenFrom:
        if not re.fullmatch(r"user|none|env:[A-Za-z_][A-Za-z0-9_]*|file:[^\x00-\x1f\x7f]+", text):
            # Not quoted: it may be the token itself.
            raise ValueError('it is one of "user", "none", "env:NAME" and "file:PATH", and never the token itself')
        return super().__new__(cls, text)


class ProxyRule(str):
    """The proxy of an endpoint: `http://host:port`, or `none`."""

    __slots__ = ()

    def __new__(cls, text: str) -> ProxyRule:
        try:
            usable = text == "none" or EndpointUrl(text).startswith("http://")
        except ValueError:
            usable = False
        if not usable:
            # Not quoted: it may hold a password.
            raise ValueError('it is "none", or a proxy that speaks HTTP, such as http://proxy.example:3128')
        return super().__new__(cls, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointEntry:
    """An endpoint as a manifest names it."""

    url: EndpointUrl

    kind: EndpointKind = EndpointKind.HUB

    token: TokenFrom | None = None
    """None: the user's for the official hub, none for any other."""

    ca: str | None = None
    """File with certificates of an own authority, from the manifest's folder."""

    proxy: ProxyRule | None = None
    """None: as the variables of the environment say."""

    @property
    def token_from(self) -> TokenFrom:
        """Where its token is found."""
        return self.token or TokenFrom("user" if self.url == OFFICIAL_ENDPOINT else "none")


DEFAULT_ENDPOINTS = (EndpointEntry(url=EndpointUrl(OFFICIAL_ENDPOINT)),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One `[[repo]]` of a manifest: a repository, where in its history, and which of its files."""

    repo: RepoId

    revision: RefName = RefName("main")
    """A branch, a tag, `refs/pr/N`, or a full or short commit."""

    include: tuple[str, ...] = ()
    """Patterns of files to take, all if empty: the hub's `allow_patterns`, in which `*` crosses folders."""

    exclude: tuple[str, ...] = ()
    """Patterns of files to leave. The hub's `ignore_patterns`."""

    modelscope: RepoId | None = field(default=None, compare=False)
    """The same repository on ModelScope. Like endpoints, it only carries: no lock knows of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a bundle shall hold and where its bytes may come from."""

    name: BundleName

    endpoints: tuple[EndpointEntry, ...]
    """Where to ask, in order."""

    requests: tuple[Request, ...]

    def __post_init__(self) -> None:
        if len({entry.url for entry in self.endpoints}) != len(self.endpoints):
            raise ValueError("an endpoint stands in it twice")
        seen = set()
        for request in self.requests:
            if (request.repo, request.revision) in seen:
                raise ValueError(f"`{request.repo}` at `{request.revision}` stands in it twice")
            seen.add((request.repo, request.revision))


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest. Raises `ManifestError`, which names the field."""
    text = read_bounded(path, limit=MAX_MANIFEST_SIZE, failure=ManifestError)
    return parse_manifest(text, document=str(path))


def parse_manifest(text: bytes, *, document: str = "the manifest") -> Manifest:
    """Parse TOML into a `Manifest`."""
    try:
        values = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:
        hint = "it looks like JSON: name the manifest, not its lock" if text.lstrip().startswith(b"{") else ""
        raise ManifestError(f"{document} is not readable TOML: {error}", hint=hint) from error
    fields = Fields(values, document=document, failure=ManifestError)
    fields.only("name", "endpoints", "repo")
    requests = tuple(_request(repo) for repo in fields.objects("repo"))
    if not requests:
        fields.refuse("repo", "is missing: name at least one `[[repo]]`")
    endpoints = fields.texts_or_objects("endpoints", lambda text: EndpointEntry(url=EndpointUrl(text)), _endpoint)
    try:
        return Manifest(
            name=fields.name("name", BundleName), endpoints=endpoints or DEFAULT_ENDPOINTS, requests=requests
        )
    except ValueError as error:
        raise ManifestError(f"{document}: {error}") from error


def _endpoint(fields: Fields) -> EndpointEntry:
    fields.only("url", "kind", "token", "ca", "proxy")
    return EndpointEntry(
        url=fields.name("url", EndpointUrl),
        kind=fields.optional("kind", EndpointKind) or EndpointKind.HUB,
        token=fields.optional("token", TokenFrom),
        ca=fields.optional("ca", str),
        proxy=fields.optional("proxy", ProxyRule),
    )


def _request(fields: Fields) -> Request:
    fields.only("id", "type", "revision", "include", "exclude", "modelscope")
    repo_type = fields.optional("type", RepoType) or RepoType.MODEL
    return Request(
        repo=fields.name("id", lambda name: RepoId(repo_type, name)),
        revision=fields.optional("revision", RefName) or RefName("main"),
        include=fields.texts("include", str),
        exclude=fields.texts("exclude", str),
        modelscope=fields.optional("modelscope", lambda name: RepoId(repo_type, name)),
    )
