"""The hub's API: what it says, and how its answers are read. The only module that imports huggingface_hub.

From huggingface_hub comes the meaning of patterns. Its client is not used: it reads proxies, certificates and tokens
from places of its own, follows pages to whichever host they name, and raises the errors of another HTTP library in
each major release. The questions are few, and `web` asks them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, TypeVar
from urllib.parse import quote

from huggingface_hub import constants

from bundler.digest import Commit, Digest, GitOid
from bundler.errors import (
    AccessDeniedError, FetchError, HubError, HubUnreachableError, ProxyError, RepoNotFoundError, RevisionNotFoundError
)
from bundler.fields import Fields, parse_json
from bundler.gateway.endpoint import Endpoint
from bundler.gateway.listing import Listing, parse_time, sorted_files
from bundler.gateway.proxies import without_user
from bundler.gateway.web import Answer, Location, Web
from bundler.lock import LockedFile
from bundler.manifest import Request
from bundler.names import RelPath, RepoId

T = TypeVar("T")

_ALL_AT_ONCE = 10_000
"""Files. Of larger repositories the list that comes with the facts may be cut off without a word."""

_MAX_PAGES = 10_000


def list_snapshot(endpoint: Endpoint, request: Request, web: Web) -> Listing:
    """Ask an endpoint which commit a revision is, and which files that holds.

    Raises `HubError` or one of its kinds, naming repository and endpoint; `NothingSelectedError` if the patterns let
    no file through.
    """
    facts = _facts(endpoint, request, web, blobs=True)
    commit = facts.name("sha", Commit)
    siblings = facts.objects("siblings")
    entries = [(sibling.text("rfilename"), sibling) for sibling in siblings]
    if len(siblings) > _ALL_AT_ONCE or not any(_tells_content(sibling) for sibling in siblings):
        entries = _tree(endpoint, request.repo, commit, web, known=[path for path, _ in entries])
    chosen = choose(entries, request)
    files = [_locked_file(path, entry) for path, entry in chosen]
    return Listing(
        commit=commit,
        files=sorted_files(files, request, of=len(entries), strange=_strange(endpoint, request.repo)),
        modified=parse_time(facts.text("lastModified")) if facts.has("lastModified") else None,
        restricted=facts.says("gated") or facts.says("private"),
    )


def find_commit(endpoint: Endpoint, request: Request, web: Web) -> Commit:
    """Ask an endpoint which commit a revision is, and no more. Raises what `list_snapshot` raises."""
    return _facts(endpoint, request, web, blobs=False).name("sha", Commit)


def choose(entries: Sequence[tuple[str, T]], request: Request) -> list[tuple[str, T]]:
    """Return the entries, path first, that a request's patterns let through."""
    # Here, as a build over a lock asks no hub: to import it costs more time than to read the lock.
    from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]  # public, but not in __all__

    return list(
        filter_repo_objects(
            entries,
            allow_patterns=list(request.include) or None,
            ignore_patterns=list(request.exclude) or None,
            key=lambda entry: entry[0],
        )
    )


def file_url(endpoint: Endpoint, repo: RepoId, commit: Commit, path: RelPath) -> str:
    """Return where an endpoint serves a file, as `huggingface_hub.hf_hub_url` does: to import that takes longer."""
    return f"{endpoint.url}/{repo}/resolve/{commit}/{quote(path)}"


def ask(endpoint: Endpoint, url: str, web: Web) -> Answer:
    """Ask an endpoint a question, and return the answer whatever its status. Raises `HubUnreachableError`."""
    if constants.HF_HUB_OFFLINE:
        raise HubUnreachableError("HF_HUB_OFFLINE forbids asking any hub", hint="unset it on the gateway")
    try:
        return web.ask(Location.at(endpoint, url))
    except ProxyError:
        raise
    except FetchError as error:
        raise HubUnreachableError(
            f"{endpoint.url} cannot be reached: {error}",
            hint="check line, proxy and certificates with `bundle doctor`, or name another endpoint",
        ) from error


def read_answer(answer: Answer, *, strange: str) -> object:
    """Parse the JSON of an answer. Raises a `HubError` that begins with `strange`."""
    try:
        return parse_json(answer.body, document="it", failure=HubError)
    except HubError as error:
        raise HubError(
            f"{strange}: {error}",
            hint="look at that URL in a browser: perhaps it wants a login, or is another kind of server",
        ) from error


def _strange(endpoint: Endpoint, repo: RepoId) -> str:
    return f"what {endpoint.url} answers for {repo} is not the hub's API"


def _facts(endpoint: Endpoint, request: Request, web: Web, *, blobs: bool) -> Fields:
    repo = request.repo
    url = f"{_api(endpoint, repo)}/revision/{quote(request.revision, safe='')}{'?blobs=true' if blobs else ''}"
    answer = ask(endpoint, url, web)
    if answer.status != 200:
        _refuse(answer, endpoint, request)
    strange = _strange(endpoint, repo)
    return Fields(read_answer(answer, strange=strange), document=strange, failure=HubError, where="answer")


def _api(endpoint: Endpoint, repo: RepoId) -> str:
    return f"{endpoint.url}/api/{repo.type.plural}/{repo.name}"


def _refuse(answer: Answer, endpoint: Endpoint, request: Request) -> NoReturn:
    """Turn an error of the API into one that says what to do."""
    code, repo, where = answer.headers.get("X-Error-Code", ""), request.repo, f"{endpoint.url} has no {request.repo}"
    if code == "RevisionNotFound":
        raise RevisionNotFoundError(
            f"{where} at `{request.revision}`", hint="look at the repository's branches, tags and commits"
        )
    if code == "GatedRepo" or answer.status == 403:
        raise denied(endpoint, repo, answer.status)
    if answer.status == 401 and endpoint.token and code != "RepoNotFound":
        raise AccessDeniedError(
            f"{endpoint.url} does not accept the token of {endpoint.token_found_in or 'its own'}",
            hint="make a new one on its website, then `hf auth login` or set HF_TOKEN",
        )
    if code == "RepoNotFound" or answer.status in (401, 404):
        raise RepoNotFoundError(
            f"{where} that it would show",
            hint="check id and type; a private repository looks the same without a token that may read it",
        )
    message = f"{endpoint.url} answers {answer.status}{_by_proxy(endpoint)} for {repo}"
    if answer.status == 429 or answer.status >= 500:
        raise HubUnreachableError(message, hint="try again in some minutes, or name another endpoint with `--endpoint`")
    raise HubError(message)


def denied(endpoint: Endpoint, repo: RepoId, status: int) -> AccessDeniedError:
    """Return the error of a repository that an endpoint does not open, with the way out."""
    page, answers = f"{endpoint.url}/{repo}", f"{endpoint.url} answers {status}{_by_proxy(endpoint)}"
    if endpoint.token:
        return AccessDeniedError(
            f"{repo} is gated or private: {answers} to the token of {endpoint.token_found_in or 'its own'}",
            hint=f"accept the terms on {page} as the user whose token it is, or use another user's token",
        )
    hint = f"accept its terms on {page}, then `hf auth login` or set HF_TOKEN"
    if not endpoint.official:
        hint += f"; your token is told to {endpoint.url} only if its table in the manifest says `token = \"user\"`"
    return AccessDeniedError(
        f"{repo} is gated or private: {answers} and wants to know who asks", hint=hint
    )


def _by_proxy(endpoint: Endpoint) -> str:
    """Name the proxy on the way, if there is one: over plain HTTP its word cannot be told from the endpoint's."""
    proxy = endpoint.proxies.for_url(endpoint.url)
    return f" (by the proxy {without_user(proxy)})" if proxy else ""


def _tree(
    endpoint: Endpoint, repo: RepoId, commit: Commit, web: Web, *, known: Sequence[str]
) -> list[tuple[str, Fields]]:
    """List a commit page by page.

    A link to the next page may lead to another host: only its query counts, and the endpoint itself is asked. Some
    servers ignore the cursor and give the same page for ever: that ends the list, which then must have all of `known`.
    """
    url, strange = f"{_api(endpoint, repo)}/tree/{commit}", _strange(endpoint, repo)
    entries: dict[str, Fields] = {}
    pages: set[Digest] = set()
    query, repeats = "recursive=true", False
    while query and not repeats and len(pages) < _MAX_PAGES:
        answer = ask(endpoint, f"{url}?{query}", web)
        if answer.status != 200:
            raise HubError(f"{endpoint.url} answers {answer.status} for the files of {repo}")
        repeats = Digest.of(answer.body) in pages
        pages.add(Digest.of(answer.body))
        page = Fields({"files": read_answer(answer, strange=strange)}, document=strange, failure=HubError)
        entries |= {entry.text("path"): entry for entry in page.objects("files") if entry.text("type") == "file"}
        query = (answer.next_page or "").partition("?")[2]
    missing = len(set(known) - set(entries))
    if missing or (query and not known):
        raise HubError(
            f"{endpoint.url} does not list all files of {repo}: "
            + (f"{missing:,} of {len(known):,} are missing" if missing else "its pages repeat"),
            hint="name an endpoint that does, such as the official hub, with `--endpoint` or `--identity`",
        )
    return list(entries.items())


def _tells_content(entry: Fields) -> bool:
    return entry.says("lfs") or any(entry.has(key) for key in ("blobId", "oid", "size"))


def _locked_file(path: str, entry: Fields) -> LockedFile:
    """Read a file of either list: the names of its fields differ."""
    checked = entry.name("path" if entry.has("path") else "rfilename", RelPath)
    git_oid = next((key for key in ("blobId", "oid") if entry.has(key)), "")
    if entry.says("lfs"):
        lfs = entry.inner("lfs")
        digest = lfs.name("sha256" if lfs.has("sha256") else "oid", Digest)
        pointer = entry.name(git_oid, GitOid) if git_oid else None
        return LockedFile(path=checked, size=lfs.size("size"), etag=digest, sha256=digest, pointer=pointer)
    if not git_oid or not entry.has("size"):
        entry.refuse("", f"does not tell size and digest of `{path}`")
    return LockedFile(path=checked, size=entry.size("size"), etag=entry.name(git_oid, GitOid))
