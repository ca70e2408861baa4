"""The hub's HTTP API over a `Hub`, without sockets: a `Request` in, a `Response` out.

The routes, headers and error codes that huggingface_hub 2.4.0 relies on: facts about models, datasets and
spaces, the paged tree, refs, and files. LFS files are redirected to a second host with a link that expires.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from bundler.demo.hub import Blob, Hub, Repo, Snapshot
from bundler.demo.messages import Request, Response, json_response, text_response, xml_response
from bundler.names import RepoId, RepoType

PAGE_SIZE = 1000
EXPANDED_PAGE_SIZE = 50
_DATE = "2026-01-01T00:00:00.000Z"
_TYPES = {repo_type.plural: repo_type for repo_type in RepoType}
_LICENCE = re.compile(rb"\A---\n(?:(?!---\n).*\n)*?license:\s*(\S+)\s*\n")


class Refused(Exception):
    """The answer is an error of the hub's."""

    def __init__(self, status: int, code: str, message: str, *, commit: str = "") -> None:
        super().__init__(message)
        headers = {"X-Error-Code": code, "X-Error-Message": message, "X-Repo-Commit": commit}
        given = {name: value for name, value in headers.items() if value}
        self.response = json_response({"error": message}, status=status, headers=given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a hub's URL means."""

    repo_id: RepoId
    action: str
    """`info`, `revision`, `tree`, `refs` or `resolve`."""

    rest: tuple[str, ...]
    """What follows: a revision, perhaps in several segments, and a path."""


def parse_route(segments: tuple[str, ...]) -> Route | None:
    """Read a URL's path; None if it means nothing here."""
    api = segments[0] == "api"
    parts = segments[1:] if api else segments
    repo_type = _TYPES.get(parts[0]) if parts else None
    actions = ("revision", "tree", "refs") if api else ("resolve",)
    if repo_type is None and api:
        return None
    parts = parts if repo_type is None else parts[1:]
    length = next((n for n in (1, 2) if parts[n:n + 1] and parts[n] in actions), len(parts))
    action = next(iter(parts[length:]), "info" if api else "")
    try:
        repo_id = RepoId(repo_type or RepoType.MODEL, "/".join(parts[:length]))
    except ValueError:
        return None
    return Route(repo_id=repo_id, action=action, rest=parts[length + 1:]) if action else None


@dataclass(slots=True, kw_only=True)
class Cdn:
    """The second host: bytes of LFS files for whoever comes with a link that is still good."""

    hub: Hub
    url: str
    lifetime: float = 3600.0
    """Seconds that a link given from now on stays good; it ends at a whole second, rounded up."""

    generation: int = 0
    """Changing it makes every link that was given before worthless."""

    def link(self, blob: Blob, path: str, now: float) -> str:
        """Return a signed-looking URL. The path in it is for readers of the log; only the digest counts."""
        expires = str(math.ceil(now + self.lifetime))
        signature = self._sign(blob.etag, expires)
        query = urlencode({"Expires": expires, "Signature": signature, "Key-Pair-Id": "DEMO"})
        return f"{self.url}/lfs/{blob.etag}/{quote(path)}?{query}"

    def answer(self, request: Request) -> Response:
        """Give the bytes, or the errors in XML that such hosts give."""
        if "authorization" in request.headers:
            return xml_response(400, "InvalidArgument", "only one authentication mechanism is allowed")
        sha256 = (*request.segments, "", "")[1]
        expires = request.query.get("Expires", "0")
        if request.query.get("Signature") != self._sign(sha256, expires) or request.time >= int(expires):
            return xml_response(403, "AccessDenied", "the link has expired, or was never given")
        blob = self.hub.lfs_blob(sha256)
        if blob is None:
            return xml_response(404, "NoSuchKey", "the key does not exist")
        # As with a real object store, this ETag is not the blob's name.
        headers = {"Accept-Ranges": "bytes", "ETag": f'"{blob.etag[:32]}"'}
        return Response(status=200, headers=headers, content=blob.content)

    def _sign(self, etag: str, expires: str) -> str:
        return hashlib.sha256(f"{self.generation} {etag} {expires}".encode()).hexdigest()


@dataclass(slots=True, kw_only=True)
class HubApi:
    """The first host: all about repositories, the bytes of small files, and links to the large ones."""

    hub: Hub
    url: str
    """The endpoint, for links to the next page."""

    cdn: Cdn | None
    """None: LFS files are served right here, as many mirrors do."""

    def answer(self, request: Request) -> Response:
        """Answer as the official hub would, as far as a client can tell."""
        prefix = urlsplit(self.url).path
        try:
            if not request.target.startswith(f"{prefix}/"):
                raise Refused(404, "", "page not found")
            return self._answer(replace(request, target=request.target.removeprefix(prefix)))
        except Refused as refusal:
            return refusal.response

    def _answer(self, request: Request) -> Response:
        route = parse_route(request.segments)
        if route is None:
            raise Refused(404, "", "page not found")
        repo = self._repo(route, request)
        match route.action:
            case "info" | "revision":
                return _info(repo, _split_revision(repo, route.rest or ("main",))[0], request)
            case "tree":
                return self._tree(repo, route, request)
            case "refs":
                return _refs(repo, request)
            case _:
                return self._resolve(repo, route, request)

    def _repo(self, route: Route, request: Request) -> Repo:
        repo = self.hub.repo(route.repo_id)
        if repo is None or repo.private and not _is_bearer(repo, request):
            raise Refused(404, "RepoNotFound", "repository not found")
        return repo

    def _tree(self, repo: Repo, route: Route, request: Request) -> Response:
        snapshot, path = _split_revision(repo, route.rest)
        entries = _entries(snapshot, path, recursive=_is_true(request, "recursive"))
        if path and not entries:
            raise Refused(404, "EntryNotFound", f"{path} does not exist", commit=snapshot.commit)
        start = int(base64.urlsafe_b64decode(request.query.get("cursor", "MA==")))
        stop = start + (EXPANDED_PAGE_SIZE if _is_true(request, "expand") else PAGE_SIZE)
        headers = {} if stop >= len(entries) else {"Link": self._next_page(request, stop)}
        return json_response(entries[start:stop], headers=headers)

    def _next_page(self, request: Request, start: int) -> str:
        cursor = base64.urlsafe_b64encode(str(start).encode()).decode()
        query = urlencode({**request.query, "cursor": cursor})
        return f'<{self.url}{request.target.partition("?")[0]}?{query}>; rel="next"'

    def _resolve(self, repo: Repo, route: Route, request: Request) -> Response:
        if repo.token is not None and not _is_bearer(repo, request):
            status = 403 if "authorization" in request.headers else 401
            raise Refused(status, "GatedRepo", f"access to {repo.id} is restricted")
        snapshot, path = _split_revision(repo, route.rest)
        blob = snapshot.files.get(path)
        if blob is None:
            raise Refused(404, "EntryNotFound", "entry not found", commit=snapshot.commit)
        headers = {"X-Repo-Commit": snapshot.commit, "ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"}
        if blob.sha256 is not None:
            headers |= {"X-Linked-Size": str(blob.content.size), "X-Linked-Etag": f'"{blob.sha256}"'}
            if self.cdn is not None:
                headers["Location"] = self.cdn.link(blob, path, request.time)
                return replace(text_response("Found. Redirecting"), status=302, headers=headers)
        return Response(status=200, headers=headers, content=blob.content)


def _is_bearer(repo: Repo, request: Request) -> bool:
    return request.headers.get("authorization") == f"Bearer {repo.token}"


def _is_true(request: Request, name: str) -> bool:
    return request.query.get(name, "").lower() in ("1", "true")


def _split_revision(repo: Repo, parts: tuple[str, ...]) -> tuple[Snapshot, str]:
    """Take the shortest beginning that is a revision, `refs/pr/1` may come unquoted; the rest is a path."""
    for length in range(1, len(parts) + 1):
        snapshot = repo.resolve("/".join(parts[:length]))
        if snapshot is not None:
            return snapshot, "/".join(parts[length:])
    raise Refused(404, "RevisionNotFound", f"invalid rev id: {'/'.join(parts)}")


def _info(repo: Repo, snapshot: Snapshot, request: Request) -> Response:
    licence = _licence(snapshot)
    blobs = _is_true(request, "blobs")
    gated = "manual" if repo.token and not repo.private else False
    return json_response({
        "id": repo.id.name, "modelId": repo.id.name, "author": repo.id.name.rpartition("/")[0],
        "sha": snapshot.commit, "lastModified": _DATE, "createdAt": _DATE,
        "private": repo.private, "gated": gated, "disabled": False, "downloads": 0, "likes": 0,
        "tags": [f"license:{licence}"] if licence else [],
        **({"cardData": {"license": licence}} if licence else {}),
        "siblings": [_sibling(path, blob, blobs=blobs) for path, blob in snapshot.files.items()],
    })


def _sibling(path: str, blob: Blob, *, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": path}
    lfs = {"sha256": blob.sha256, "size": blob.content.size, "pointerSize": blob.pointer_size}
    known = {"rfilename": path, "blobId": blob.git_oid, "size": blob.content.size}
    return {**known, "lfs": lfs} if blob.sha256 else known


def _licence(snapshot: Snapshot) -> str:
    """Return the licence that the README's front matter states on one line, or nothing."""
    readme = snapshot.files.get("README.md")
    if readme is None:
        return ""
    head = b"".join(readme.content.chunks(0, min(readme.content.size, 64 << 10)))
    match = _LICENCE.match(head)
    return match[1].decode(errors="replace").strip("\"'") if match else ""


def _refs(repo: Repo, request: Request) -> Response:
    kinds = {"branches": "refs/heads/", "converts": "refs/convert/", "tags": "refs/tags/"}
    if _is_true(request, "include_prs"):
        kinds["pullRequests"] = "refs/pr/"
    return json_response({kind: [
        {"name": name.removeprefix(prefix), "ref": name, "targetCommit": commit}
        for name, commit in sorted(repo.refs.items()) if name.startswith(prefix)
    ] for kind, prefix in kinds.items()})


def _entries(snapshot: Snapshot, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    """List what is below `folder`, sorted by path; folders too, as git keeps them."""
    below = f"{folder}/" if folder else ""
    entries: dict[str, dict[str, Any]] = {}
    for path, blob in snapshot.files.items():
        if path.startswith(below):
            parts = path.removeprefix(below).split("/")
            folders = [below + "/".join(parts[:depth]) for depth in range(1, len(parts))]
            for name in folders if recursive else folders[:1]:
                entries[name] = _folder_entry(name)
            if recursive or not folders:
                entries[path] = _file_entry(path, blob)
    return [entries[path] for path in sorted(entries)]


def _folder_entry(path: str) -> dict[str, Any]:
    oid = hashlib.sha1(path.encode(), usedforsecurity=False).hexdigest()
    return {"type": "directory", "oid": oid, "size": 0, "path": path}


def _file_entry(path: str, blob: Blob) -> dict[str, Any]:
    known = {"type": "file", "oid": blob.git_oid, "size": blob.content.size, "path": path}
    lfs = {"oid": blob.sha256, "size": blob.content.size, "pointerSize": blob.pointer_size}
    return {**known, "lfs": lfs} if blob.sha256 else known
