"""The layout of the Hugging Face cache, as huggingface_hub itself writes and reads it.

The facts behind each line were found with huggingface_hub 0.36, 1.0 and 2.4 in November 2026. What is ours in a
repository's folder stands in `.bundler/`, which no scan of any of them looks at.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bundler.access import PUBLIC, Access
from bundler.digest import Commit, Etag, GitOid, hash_file
from bundler.errors import BundlerError
from bundler.fields import parse_json, read_bounded
from bundler.fsio import atomic_write, hold_lock, make_folders, place_folder, place_link, sync_folder
from bundler.lock import LockedFile
from bundler.names import BundleName, RefName, RelPath, RepoId
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


class Linking(StrEnum):
    """What the files in a snapshot are. All readers take all three."""

    SYMBOLIC = "symbolic links"
    """As huggingface_hub makes them: links to blobs."""

    HARD = "hard links"
    """Second names of the blobs."""

    NONE = "files"
    """Files of their own, and no blobs: for media that know no links."""


@dataclass(frozen=True, slots=True)
class RepoFolder:
    """One repository in the cache. Whoever changes it holds `exclusively`."""

    path: Path
    access: Access = PUBLIC
    linking: Linking = Linking.SYMBOLIC

    @classmethod
    def of(cls, cache_dir: Path, repo: RepoId, *, access: Access = PUBLIC) -> RepoFolder:
        """Return the folder of `repo`, which need not exist."""
        return cls(cache_dir / repo.cache_folder, access)

    @classmethod
    def found(cls, cache_dir: Path, repo: RepoId) -> RepoFolder:
        """Return the folder of `repo`, which exists: what is added is for those who may read and write it now."""
        path = cache_dir / repo.cache_folder
        status = path.stat()
        return cls(path, Access.of_folders(stat.S_IMODE(status.st_mode), group=status.st_gid))

    @property
    def staging(self) -> Path:
        """What is not yet visible to anybody, on the same file system as what it will become."""
        return self.path / ".bundler" / "staging"

    @property
    def receipts(self) -> Path:
        """The folder of what was installed, and when; it need not exist."""
        return self.path / ".bundler" / "receipts"

    @property
    def draft(self) -> Path:
        """The receipt of refs that are being moved; left over, it tells the next run where they came from."""
        return self.path / ".bundler" / "receipt.draft"

    def incoming(self, bundle: BundleName) -> Path:
        """Return where it is kept what a bundle holds, some of whose sticks are still to come."""
        return self.path / ".bundler" / "incoming" / bundle

    def blob(self, etag: Etag) -> Path:
        """Return where the blob of that name stands, or will."""
        return self.path / "blobs" / etag

    def content(self, commit: Commit, file: LockedFile) -> Path:
        """Return where the bytes of a file go: to its blob, or, without links, to the snapshot itself.

        The files of a snapshot that is new here come together in staging, from where it is renamed as a whole.
        """
        if self.linking is not Linking.NONE:
            return self.blob(file.etag)
        final = self.snapshot(commit)
        return (final if final.is_dir() else self.gathering(commit)) / file.path

    def gathering(self, commit: Commit) -> Path:
        """Return where the files of a snapshot come together that has no links."""
        return self.staging / f"{commit}.snapshot"

    def snapshot(self, commit: Commit) -> Path:
        """Return the folder of a commit's files."""
        return self.path / "snapshots" / commit

    @contextmanager
    def exclusively(self, on_event: OnEvent) -> Iterator[None]:
        """Hold the repository against other installers; wait if one holds it. A killed holder blocks nobody.

        Whoever holds it finds what an interrupted run staged, and goes on with it or removes it.
        """
        for folder in (self.staging, self.path / "blobs", self.path / "snapshots", self.path / "refs"):
            make_folders(folder, access=self.access)
        with hold_lock(self.path / ".bundler" / "lock", lambda text: on_event(Noted(text)), access=self.access):
            yield

    def holds(self, file: LockedFile) -> bool:
        """Say whether the right bytes stand under the file's blob name. Reads and hashes all of them."""
        return is_right(self.blob(file.etag), file)

    def write_snapshot(self, commit: Commit, files: Sequence[LockedFile]) -> None:
        """Make the files of a commit appear, whose bytes are where `content` says; all at once if it is new here.

        Files of the same commit that are there and not among `files` stay.
        """
        final = self.snapshot(commit)
        if final.exists():
            self._merge_snapshot(final, files)
        elif self.linking is Linking.NONE:
            make_folders(self.gathering(commit), access=self.access)
            place_folder(self.gathering(commit), final)
        else:
            staged = self.staging / os.urandom(16).hex()
            self._link_files(staged, files)
            place_folder(staged, final)
        self._remove_markers(commit, files)

    def _link_files(self, folder: Path, files: Sequence[LockedFile]) -> None:
        folders = {folder}
        folder.mkdir()
        for file in files:
            path = folder / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            self._link(path, file)
            folders.update(path.parents[:len(file.path.split("/"))])
        for each in folders:
            self.access.grant_folder(each)
            sync_folder(each)

    def _link(self, path: Path, file: LockedFile) -> None:
        if self.linking is Linking.HARD:
            # The blob may itself be a link, into a store that repositories share.
            path.hardlink_to(self.blob(file.etag).resolve())
        else:
            path.symlink_to(_link_target(file))

    def _merge_snapshot(self, final: Path, files: Sequence[LockedFile]) -> None:
        touched = {final}
        for file in () if self.linking is Linking.NONE else files:
            path = final / file.path
            if self._is_linked(path, file):
                continue
            make_folders(path.parent, access=self.access)
            staged = self.staging / os.urandom(16).hex()
            self._link(staged, file)
            place_link(staged, path)
            touched.add(path.parent)
        for folder in touched:
            sync_folder(folder)

    def _is_linked(self, path: Path, file: LockedFile) -> bool:
        """Say whether a file of a snapshot is the right link already, of the kind that is wanted."""
        try:
            if self.linking is Linking.SYMBOLIC:
                return os.readlink(path) == _link_target(file)
            return stat.S_ISREG(path.lstat().st_mode) and path.samefile(self.blob(file.etag))
        except OSError:
            return False

    def _remove_markers(self, commit: Commit, files: Sequence[LockedFile]) -> None:
        """Remove stale markers of absence, which would hide files from every reader."""
        touched = set()
        for file in files:
            marker = self.path / ".no_exist" / commit / file.path
            with suppress(FileNotFoundError, NotADirectoryError):
                marker.unlink()
                touched.add(marker.parent)
        for folder in touched:
            sync_folder(folder)

    def write_tree(self, commit: Commit, files: Sequence[LockedFile]) -> None:
        """List what the snapshot holds, as huggingface_hub 1.22 and later do: these files, no others that are absent.

        A listing of more than is there would make clients refuse the snapshot as incomplete.
        """
        entries = self._listed_and_there(commit) | {file.path: _tree_entry(file) for file in files}
        make_folders(self.path / "trees", access=self.access)
        text = json.dumps({"format_version": _TREE_VERSION, "files": dict(sorted(entries.items()))}, indent=1)
        with atomic_write(self.path / "trees" / f"{commit}.json", staging=self.staging, access=self.access) as stream:
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

    def refs(self) -> dict[RefName, Commit]:
        """Return all refs by which a reader can resolve something."""
        return {name: commit for name in self._ref_names() if (commit := self.read_ref(name))}

    def _ref_names(self) -> Iterator[RefName]:
        top = self.path / "refs"
        for path in sorted(top.rglob("*")):
            with suppress(ValueError):
                yield RefName(path.relative_to(top).as_posix())

    def read_ref(self, name: RefName) -> Commit | None:
        """Return the commit that `name` resolves to; None if a reader can resolve nothing by it."""
        path = self.path / "refs" / name
        if not path.is_file():
            return None
        try:
            return Commit(read_bounded(path, limit=Commit.length, failure=BundlerError).decode("ascii", "replace"))
        except (BundlerError, ValueError):
            return None

    def write_ref(self, name: RefName, commit: Commit) -> None:
        """Make `name` resolve to `commit`: 40 digits, no newline, or no client can read it."""
        path = self.path / "refs" / name
        make_folders(path.parent, access=self.access)
        with atomic_write(path, staging=self.staging, access=self.access) as stream:
            stream.write(commit.encode())


def is_right(path: Path, file: LockedFile) -> bool:
    """Say whether the right bytes of a file stand at `path`. Reads and hashes all of them."""
    try:
        if not path.is_file() or path.stat().st_size != file.size:
            return False
        hasher = hash_file(path, git=isinstance(file.etag, GitOid))[1]
    except OSError:
        return False
    return hasher.sha256 == file.sha256 and hasher.matches(file.etag)


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
