"""ModelScope as a client meets it, on loopback: its own API, with the traits that surprise.

Errors come with status 200, a model's list of files is cut off without a word, a dataset's comes in pages, small files
are sent whole whatever range is asked for, LFS files by a redirect.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from bundler.demo.hub import InMemory, is_lfs
from bundler.demo.messages import Request, Response, json_response, text_response
from bundler.demo.server import HubServer

CUT_AT = 3_000
_NOT_THERE = {"Code": 10010205001, "Success": False, "Message": "record not found", "Data": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repo:
    commit: str
    files: Mapping[str, bytes]


class ModelScopeServer(HubServer):
    """A running ModelScope with nothing in it: `publish` into it, give `endpoint` to clients."""

    def __init__(self) -> None:
        super().__init__()
        self._repos: dict[tuple[str, str], _Repo] = {}
        self.largest_list = CUT_AT
        """Entries of a model's list, at most; what is beyond is not told."""

        self.tells_commits = True

    def publish(self, repo_id: str, files: Mapping[str, bytes], *, kind: str = "models") -> str:
        """Let a repository hold exactly `files`, and return its commit."""
        told = "".join(f"{path} {hashlib.sha256(raw).hexdigest()}\n" for path, raw in sorted(files.items()))
        commit = hashlib.sha1(f"modelscope {told}".encode(), usedforsecurity=False).hexdigest()
        self._repos[kind, repo_id] = _Repo(commit=commit, files=dict(files))
        return commit

    def answer(self, request: Request) -> Response:
        """Answer as ModelScope would, as far as a client can tell."""
        if request.host == "cdn":
            return self._from_cdn(request)
        if request.segments[:2] != ("api", "v1"):
            return text_response("ModelScope")
        kind, owner, name, *what = (*request.segments[2:], "", "", "")
        repo = self._repos.get((kind, f"{owner}/{name}"))
        revision = request.query.get("Revision") or request.query.get("Ref")
        if repo is None or revision not in ("master", repo.commit):
            return json_response(_NOT_THERE)
        match "/".join(filter(None, what)):
            case "commits":
                commits = [{"Id": repo.commit, "ShortId": repo.commit[:8]}] if self.tells_commits else []
                return _success({"Commit": commits, "TotalCount": len(commits)})
            case "repo/files":
                return _success({"Files": _entries(repo, request)[:self.largest_list]})
            case "repo/tree":
                size, number = int(request.query["PageSize"]), int(request.query["PageNumber"])
                return _success({"Files": _entries(repo, request)[(number - 1) * size:number * size]})
            case "repo":
                return self._file(repo, request)
        return json_response(_NOT_THERE)

    def _file(self, repo: _Repo, request: Request) -> Response:
        path = request.query["FilePath"]
        raw = repo.files.get(path)
        if raw is None:
            return json_response(_NOT_THERE)
        if is_lfs(path, len(raw)):
            link = f"{self.cdn.url}/{path}?{urlencode({'Sha256': hashlib.sha256(raw).hexdigest()})}"
            return Response(status=302, headers={"Location": link}, content=InMemory(raw=b""))
        return Response(status=200, content=InMemory(raw=raw))

    def _from_cdn(self, request: Request) -> Response:
        wanted = request.query.get("Sha256")
        for repo in self._repos.values():
            for raw in repo.files.values():
                if hashlib.sha256(raw).hexdigest() == wanted:
                    return Response(status=200, headers={"Accept-Ranges": "bytes"}, content=InMemory(raw=raw))
        return Response(status=404, content=InMemory(raw=b"no"))


def _success(data: Any) -> Response:
    return json_response({"Code": 200, "Success": True, "Message": "success", "Data": data})


def _entries(repo: _Repo, request: Request) -> list[dict[str, Any]]:
    """List what is below `Root`: folders as `tree`, files as `blob`."""
    root = request.query.get("Root", "").strip("/")
    below = f"{root}/" if root else ""
    recursive = request.query.get("Recursive") == "True"
    entries: dict[str, dict[str, Any]] = {}
    for path, raw in sorted(repo.files.items()):
        if not path.startswith(below):
            continue
        steps = path.removeprefix(below).split("/")
        folders = [below + "/".join(steps[:depth]) for depth in range(1, len(steps))]
        for folder in folders if recursive else folders[:1]:
            entries[folder] = {"Path": folder, "Name": folder, "Type": "tree", "Size": 0, "Sha256": ""}
        if recursive or not folders:
            sha256 = hashlib.sha256(raw).hexdigest()
            entries[path] = {"Path": path, "Name": steps[-1], "Type": "blob", "Size": len(raw), "Sha256": sha256}
    return list(entries.values())
