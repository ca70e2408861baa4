"""A cache as programs on the server see it: the real huggingface_hub, in another process, with `HF_HUB_OFFLINE=1`."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

_NOWHERE = "http://127.0.0.1:9"
_SINGLY_AT_MOST = 60

Digests = dict[str, str]
"""SHA-256 by path."""


@dataclass(frozen=True, slots=True)
class Question:
    """A snapshot, as a user names it."""

    id: str
    revision: str = "main"
    type: str = "model"


@dataclass(frozen=True, slots=True)
class Answers:
    """What huggingface_hub found."""

    snapshots: dict[Question, Digests]
    """By `snapshot_download`: all that stands in the folder that it gives."""

    files: dict[Question, Digests]
    """By `hf_hub_download`, file by file, the first ones where there are very many."""

    refs: dict[tuple[str, str, str], set[str]]
    """By `scan_cache_dir`: the refs of each type, id and commit."""

    warnings: list[str]
    """By `scan_cache_dir`."""


def ask_offline(cache_dir: Path, questions: Iterable[Question]) -> Answers:
    """Ask the cache for snapshots, for each of their files, and for a scan."""
    asked = list(questions)
    given = json.dumps([asdict(question) for question in asked])
    done = subprocess.run(
        [sys.executable, __file__], input=given, capture_output=True, check=False, encoding="utf-8",
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": _NOWHERE, "HF_HUB_CACHE": str(cache_dir)},
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    return Answers(
        snapshots=dict(zip(asked, told["snapshots"])),
        files=dict(zip(asked, told["files"])),
        refs={(kind, name, commit): set(refs) for kind, name, commit, refs in told["refs"]},
        warnings=told["warnings"],
    )


def digests_below(folder: Path) -> Digests:
    """Return the digests of all files below a folder, by their paths in it."""
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _answer() -> None:
    from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download

    snapshots, files = [], []
    for question in json.load(sys.stdin):
        place = {"repo_id": question["id"], "revision": question["revision"], "repo_type": question["type"]}
        snapshot = digests_below(Path(snapshot_download(**place)))
        snapshots.append(snapshot)
        singly = list(snapshot)[:_SINGLY_AT_MOST]
        files.append({path: _sha256(Path(hf_hub_download(filename=path, **place))) for path in singly})
    scan = scan_cache_dir()
    refs = [
        (repo.repo_type, repo.repo_id, revision.commit_hash, sorted(revision.refs))
        for repo in scan.repos for revision in repo.revisions
    ]
    warnings = [str(warning) for warning in scan.warnings]
    json.dump({"snapshots": snapshots, "files": files, "refs": refs, "warnings": warnings}, sys.stdout)


if __name__ == "__main__":
    _answer()
