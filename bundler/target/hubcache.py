"""The layout of the Hugging Face cache, as huggingface_hub itself writes and reads it.

The facts behind each line were found with huggingface_hub 0.36, 1.0 and 2.4 in November 2026. What is ours in a
repository's folder stands in `.bundler/`, which no scan of any of them looks at.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bundler.digest import Commit, Etag, GitOid, hash_file
from bundler.errors import BundlerError
from bundler.fields import parse_json, read_bounded
from bundler.fsio import FOLDER_MODE, atomic_write, hold_lock, make_folders, place_folder, place_link, sync_folder
from bundler.lock import LockedFile
from bundler.names import RefName, RelPath, RepoId
from bundler.progress import Noted, OnEvent

_TREE_VERSION = 1
_MAX_TREE_SIZE = 512 << 20


def default_cache_dir(environment: Mapping[str, str], home: Path) -> Path:
    """Return where huggingface_hub would look: its own order of variables (`huggingface_hub.constants`)."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environment.get(variable):
            return Path(environment[variable]).expanduser()
    if environment.get("HF_HOME"):
        return Path(environment["HF_HOME"]).expanduser() / "hub"
    caches = Path(environment.get("XDG_CACHE_HOME") or home / ".cache").expanduser()
    return caches / "huggingface" / "hub"


@dataclass(frozen=True, slots=True)
class RepoFolder:
    """One repository in the cache. Whoever changes it holds `exclusively`."""

    path: Path

    @classmethod
    def of(cls, cache_dir: Path, repo: RepoId) -> RepoFolder:
        """Return the folder of `repo`, which need not exist."""
        return cls(cache_dir / repo.cache_folder)

    @property
    def staging(self) -> Path:
        """What is not yet visible to anybody, on the same file system as what it will become."""
        return self.path / ".bundler" / "staging"

    def blob(self, etag: Etag) -> Path:
        """Return where the blob of that name stands, or will."""
        return self.path / "blobs" / etag

    def snapshot(self, commit: Commit) -> Path:
        """Return the folder of a commit's files."""
        return self.path / "snapshots" / commit

    @contextmanager
    def exclusively(self, on_event: OnEvent) -> Iterator[None]:
        """Hold the repository against other installers; wait if one holds it. A killed holder blocks nobody.

        Whoever holds it finds empty staging: leftovers of an interrupted run are removed. Those of a body that
        fails are removed at once, as they may be what filled the file system.
        """
        for folder in (self.staging, self.path / "blobs", self.path / "snapshots", self.path / "refs"):
            make_folders(folder)
        with hold_lock(self.path / ".bundler" / "lock", lambda text: on_event(Noted(text))):
            shutil.rmtree(self.staging)
            make_folders(self.staging)
            try:
                yield
            except BaseException:
                shutil.rmtree(self.staging, ignore_errors=True)
                raise

    def holds(self, file: LockedFile) -> bool:
        """Say whether the right bytes stand under the file's blob name. Reads and hashes all of them."""
        path = self.blob(file.etag)
        try:
            if not path.is_file() or path.stat().st_size != file.size:
                return False
            hasher = hash_file(path, git=isinstance(file.etag, GitOid))[1]
        except OSError:
            return False
        return hasher.sha256 == file.sha256 and hasher.matches(file.etag)

    def write_snapshot(self, commit: Commit, files: Sequence[LockedFile]) -> None:
        """Make the files of a commit appear, each a link to its blob; all at once if the commit is new here.

        Files of the same commit that are there and not among `files` stay.
        """
        final = self.snapshot(commit)
        if not final.exists():
            staged = self.staging / uuid.uuid4().hex
            _link_files(staged, files)
            place_folder(staged, final)
        else:
            self._merge_snapshot(final, files)
        for file in files:
            # A stale marker of absence would hide the file from every reader.
            with suppress(FileNotFoundError, NotADirectoryError):
                (self.path / ".no_exist" / commit / file.path).unlink()

    def _merge_snapshot(self, final: Path, files: Sequence[LockedFile]) -> None:
        touched = {final}
        for file in files:
            path = final / file.path
            if path.is_symlink() and os.readlink(path) == _link_target(file):
                continue
            make_folders(path.parent)
            staged = self.staging / uuid.uuid4().hex
            staged.symlink_to(_link_target(file))
            place_link(staged, path)
            touched.add(path.parent)
        for folder in touched:
            sync_folder(folder)

    def write_tree(self, commit: Commit, files: Sequence[LockedFile]) -> None:
        """List what the snapshot holds, as huggingface_hub 1.22 and later do: these files, no others that are absent.

        A listing of more than is there would make clients refuse the snapshot as incomplete.
        """
        entries = self._listed_and_there(commit) | {file.path: _tree_entry(file) for file in files}
        make_folders(self.path / "trees")
        text = json.dumps({"format_version": _TREE_VERSION, "files": dict(sorted(entries.items()))}, indent=1)
        with atomic_write(self.path / "trees" / f"{commit}.json", staging=self.staging) as stream:
            stream.write(text.encode())

    def _listed_and_there(self, commit: Commit) -> dict[str, object]:
        path = self.path / "trees" / f"{commit}.json"
        try:
            text = read_bounded(path, limit=_MAX_TREE_SIZE, failure=BundlerError)
            values = parse_json(text, document=str(path), failure=BundlerError)
        except BundlerError:
            return {}
        if not isinstance(values, dict) or values.get("format_version") != _TREE_VERSION:
            return {}
        files = values.get("files")
        snapshot = self.snapshot(commit)
        return {
            path: entry for path, entry in (files if isinstance(files, dict) else {}).items()
            if isinstance(entry, dict) and _is_path(path) and (snapshot / path).is_file()
        }

    def write_ref(self, name: RefName, commit: Commit) -> None:
        """Make `name` resolve to `commit`: 40 digits, no newline, or no client can read it."""
        path = self.path / "refs" / name
        make_folders(path.parent)
        with atomic_write(path, staging=self.staging) as stream:
            stream.write(commit.encode())


def _link_files(folder: Path, files: Sequence[LockedFile]) -> None:
    folders = {folder}
    folder.mkdir()
    for file in files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(_link_target(file))
        folders.update(path.parents[:len(file.path.split("/"))])
    for each in folders:
        each.chmod(FOLDER_MODE)
        sync_folder(each)


def _is_path(text: str) -> bool:
    try:
        RelPath(text)
    except ValueError:
        return False
    return True


def _link_target(file: LockedFile) -> str:
    return "../" * (len(file.path.split("/")) + 1) + f"blobs/{file.etag}"


def _tree_entry(file: LockedFile) -> dict[str, object]:
    if isinstance(file.etag, GitOid):
        entry: dict[str, object] = {"size": file.size, "blob_id": file.etag}
    else:
        pointer = file.pointer or _pointer_oid(file)
        entry = {"size": file.size, "blob_id": pointer, "lfs_sha256": file.sha256, "lfs_size": file.size}
    return entry | ({"xet_hash": file.xet_hash} if file.xet_hash else {})


def _pointer_oid(file: LockedFile) -> str:
    """Return the git id of the LFS pointer (git-lfs specification, version 1), which not every hub tells."""
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{file.sha256}\nsize {file.size}\n".encode()
    return hashlib.sha1(b"blob %d\0" % len(text) + text, usedforsecurity=False).hexdigest()
