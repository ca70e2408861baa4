"""A gateway's folders with everything fetched already, and the commands of the real command line over them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bundler.demo.hub import is_lfs
from bundler.digest import Commit, hash_file
from bundler.gateway.staging import Staging
from bundler.lock import Identity, Lock, LockedFile, LockedRepo, lock_path, write_lock
from bundler.manifest import EndpointUrl, Request
from bundler.names import BundleName, RelPath, RepoId, RepoType

REPO = "bench/model"
_NOWHERE = EndpointUrl("http://127.0.0.1:9")
_COMMIT = Commit("c0ffee" + 34 * "0")
_NAME = BundleName("bench")


def bundler_command(*arguments: object) -> list[str]:
    """Return what runs `bundle ARGUMENTS...` of this checkout."""
    return [sys.executable, "-m", "bundler", *map(str, arguments)]


@dataclass(frozen=True, slots=True)
class Site:
    """A manifest, its lock, and staging, in a folder of their own."""

    place: Path

    @property
    def manifest(self) -> Path:
        """Asks for `REPO`, and is named as the bundle."""
        return self.place / f"{_NAME}.toml"

    @property
    def staging(self) -> Staging:
        """Where blobs wait."""
        return Staging(self.place / "staging")

    @property
    def out(self) -> Path:
        """Where bundles are built."""
        return self.place / "out"

    @property
    def bundle(self) -> Path:
        """The bundle, once it was built."""
        return self.out / _NAME

    @property
    def cache(self) -> Path:
        """A cache to install into."""
        return self.place / "cache"

    def build(self, *more: object) -> list[str]:
        """Return the command that builds the bundle."""
        places = [self.manifest, "-o", self.out, "--staging", self.staging.root]
        return bundler_command("build", *places, "--locked", *more)

    def verify(self, *more: object) -> list[str]:
        """Return the command that verifies it."""
        return bundler_command("verify", self.bundle, "--allow-unsigned", *more)

    def install(self, *more: object) -> list[str]:
        """Return the command that installs it."""
        return bundler_command("install", self.bundle, "--cache-dir", self.cache, *more)

    def write_manifest(self, endpoint: EndpointUrl = _NOWHERE) -> None:
        """Write the manifest."""
        self.place.mkdir(parents=True, exist_ok=True)
        self.manifest.write_text(f'name = "{_NAME}"\nendpoints = ["{endpoint}"]\n[[repo]]\nid = "{REPO}"\n')


def stage(place: Path, files: Mapping[str, Path]) -> Site:
    """Make a site, where nothing is yet, that has `files`, by their paths in the repository, fetched and locked.

    They are linked, not copied: they must be on the same file system.
    """
    site = Site(place)
    site.write_manifest()
    (site.staging.root / "blobs").mkdir(parents=True)
    locked = tuple(_stage(site.staging, path, files[path]) for path in sorted(files))
    request = Request(repo=RepoId(RepoType.MODEL, REPO))
    repo = LockedRepo(request=request, commit=_COMMIT, identity=Identity(told_by=_NOWHERE), files=locked)
    write_lock(Lock(name=_NAME, repos=(repo,)), lock_path(site.manifest))
    return site


def _stage(staging: Staging, path: str, source: Path) -> LockedFile:
    by_sha256 = is_lfs(path, source.stat().st_size)
    size, hasher = hash_file(source, git=not by_sha256)
    etag = hasher.sha256 if by_sha256 else hasher.git_oid
    assert etag is not None  # it was asked for
    if not staging.blob(etag).exists():
        os.link(source, staging.blob(etag))
    return LockedFile(path=RelPath(path), size=size, etag=etag, sha256=hasher.sha256 if by_sha256 else None)
