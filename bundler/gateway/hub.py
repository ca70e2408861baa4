"""The hub's API. The only module that imports huggingface_hub.

Its errors come from another HTTP library in each major release (requests, httpx, httpx2), so all that is not one of
huggingface_hub's own errors counts as an endpoint that could not be asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import huggingface_hub
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
)
from huggingface_hub.errors import RevisionNotFoundError as HubRevisionNotFoundError
from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]  # public, but not in __all__

from bundler.digest import Commit, Digest, GitOid
from bundler.errors import (
    AccessDeniedError, HubError, HubUnreachableError, NothingSelectedError, RepoNotFoundError, RevisionNotFoundError
)
from bundler.fsio import explain_os_errors
from bundler.gateway.endpoint import Endpoint
from bundler.lock import LockedFile
from bundler.manifest import Request
from bundler.names import RelPath, RepoId

_TIMEOUT = 20.0
"""Seconds for an answer to one question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What an endpoint says that a revision is."""

    commit: Commit

    files: tuple[LockedFile, ...]
    """All that the request's patterns let through, sorted by path."""


def user_token() -> str | None:
    """Return the user's token: `HF_TOKEN`, or what `hf auth login` wrote."""
    with explain_os_errors("reading the token"):
        return huggingface_hub.get_token()


def list_snapshot(endpoint: Endpoint, request: Request) -> Listing:
    """Ask an endpoint which commit a revision is, and which files that holds.

    Raises `HubError` or one of its kinds, naming repository and endpoint; `NothingSelectedError` if the patterns let
    no file through.
    """
    values = _ask(endpoint, request)
    where = f"{endpoint.url} answers for {request.repo}"
    siblings = getattr(values, "siblings", None) or []
    chosen = filter_repo_objects(
        siblings,
        allow_patterns=list(request.include) or None,
        ignore_patterns=list(request.exclude) or None,
        key=lambda sibling: str(sibling.rfilename),
    )
    try:
        commit = Commit(getattr(values, "sha", None) or "")
        files = tuple(sorted((_locked_file(sibling) for sibling in chosen), key=lambda file: file.path))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise HubError(f"{where} with something that is not the hub's API: {error}") from error
    if not files:
        raise NothingSelectedError(
            f"none of the {len(siblings):,} files of {request.repo} at `{request.revision}` passes the patterns",
            hint="patterns are the hub's `allow_patterns`: `*.json`, `onnx/*`, a whole file name",
        )
    return Listing(commit=commit, files=files)


def _ask(endpoint: Endpoint, request: Request) -> object:
    repo, where = request.repo, f"{endpoint.url} has no {request.repo}"
    api = HfApi(endpoint=endpoint.url, token=endpoint.token or False)
    try:
        return api.repo_info(
            repo.name, repo_type=repo.type, revision=request.revision, timeout=_TIMEOUT, files_metadata=True
        )
    except GatedRepoError as error:
        raise AccessDeniedError(
            f"{repo} is gated: {endpoint.url} wants to know who asks",
            hint=f"accept its terms on {endpoint.url}/{repo}, then `hf auth login` or set HF_TOKEN",
        ) from error
    except HubRevisionNotFoundError as error:
        raise RevisionNotFoundError(
            f"{where} at `{request.revision}`", hint="look at the repository's branches, tags and commits"
        ) from error
    except RepositoryNotFoundError as error:
        raise RepoNotFoundError(
            f"{where} that it would show",
            hint="check id and type; a private repository looks the same without a token that may read it",
        ) from error
    except OfflineModeIsEnabled as error:
        raise HubUnreachableError("HF_HUB_OFFLINE forbids asking any hub", hint="unset it on the gateway") from error
    except HfHubHTTPError as error:
        raise HubError(f"{endpoint.url} does not answer for {repo}: {_first_line(error)}") from error
    except Exception as error:  # whatever the HTTP library of this release of huggingface_hub raises
        raise HubUnreachableError(
            f"{endpoint.url} cannot be reached: {_first_line(error)}", hint="check the line, or name another endpoint"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _locked_file(sibling: object) -> LockedFile:
    # Attribute access on a foreign, loosely typed object: what is missing becomes an error of the caller.
    path, size = RelPath(getattr(sibling, "rfilename")), getattr(sibling, "size")
    blob_id, lfs = getattr(sibling, "blob_id"), getattr(sibling, "lfs")
    if lfs:
        digest = Digest(lfs["sha256"])
        pointer = GitOid(blob_id) if blob_id else None
        return LockedFile(path=path, size=int(lfs["size"]), etag=digest, sha256=digest, pointer=pointer)
    return LockedFile(path=path, size=int(size), etag=GitOid(blob_id))


def file_url(endpoint: Endpoint, repo: RepoId, commit: Commit, path: RelPath) -> str:
    """Return where an endpoint serves a file."""
    return huggingface_hub.hf_hub_url(
        repo.name, path, repo_type=repo.type, revision=commit, endpoint=endpoint.url
    )
