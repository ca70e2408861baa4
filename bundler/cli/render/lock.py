"""What `bundle lock` says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundler.cli.render.words import as_json, as_lines, human_size, identity_values
from bundler.lock import Lock


def lock_text(path: Path, lock: Lock) -> str:
    """Say what was pinned."""
    lines = [f"locked {lock.name} in {path}"]
    for repo in lock.repos:
        size = human_size(sum(file.size for file in repo.files))
        lines.append(f"  {repo.request.repo} {repo.request.revision} -> {repo.commit}")
        lines.append(f"    {len(repo.files):,} files, {size}; {repo.identity}")
    return as_lines(lines)


def lock_json(path: Path, lock: Lock, notes: Sequence[str]) -> str:
    """Say what was pinned, and what was noted on the way: who did not answer, who differs and how far it lags."""
    repos = [
        {
            "id": repo.request.repo.name,
            "type": repo.request.repo.type,
            "revision": repo.request.revision,
            "commit": repo.commit,
            "files": len(repo.files),
            "size": sum(file.size for file in repo.files),
            **identity_values(repo.identity),
        }
        for repo in lock.repos
    ]
    return as_json({"lock": str(path), "name": lock.name, "repos": repos, "notes": list(notes)})
