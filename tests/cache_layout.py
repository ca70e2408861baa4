"""What stands in a Hugging Face cache, name by name, and what of it is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tests.bundles import git_oid

Layout = dict[str, str]
"""Each path below a folder with its kind, mode, link target and digest, in one line."""


def layout_of(folder: Path) -> Layout:
    """Describe all that stands below `folder`, links as links."""
    return {path.relative_to(folder).as_posix(): _described(path) for path in _walk(folder)}


def _walk(folder: Path) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))


def _described(path: Path) -> str:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return f"link to {os.readlink(path)}"
    if stat.S_ISDIR(mode):
        return f"folder {stat.S_IMODE(mode):04o}"
    return f"file {stat.S_IMODE(mode):04o} {hashlib.sha256(path.read_bytes()).hexdigest()}"


def wrong_blobs(cache_dir: Path) -> list[str]:
    """Return the blobs of a cache whose bytes are not the ones that their names promise."""
    return [str(path) for path in sorted(cache_dir.glob("*/blobs/*")) if not _keeps_promise(path)]


def _keeps_promise(path: Path) -> bool:
    content = path.read_bytes()
    return path.name == (hashlib.sha256(content).hexdigest() if len(path.name) == 64 else git_oid(content))


def staged(cache_dir: Path) -> list[str]:
    """Return what stands in the staging folders of a cache."""
    return [str(path) for path in sorted(cache_dir.glob("*/.bundler/staging/*"))]


def listed(repo_folder: Path, commit: str) -> dict[str, object]:
    """Return the files of a snapshot's tree listing."""
    tree = json.loads((repo_folder / "trees" / f"{commit}.json").read_bytes())
    assert tree["format_version"] == 1
    files: dict[str, object] = tree["files"]
    return files
