"""A bundle that comes on several sticks, one after another: what the first stick said of all of them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from bundler.errors import FormatError, InstallError
from bundler.fields import read_bounded
from bundler.format.index import INDEX_NAME, MAX_INDEX_SIZE
from bundler.format.reader import Bundle
from bundler.format.sums import MAX_SUMS_SIZE, SIGNATURE_NAME, SUMS_NAME
from bundler.fsio import make_folders, place_folder, sync_folder, write_synced
from bundler.names import BundleName
from bundler.target.hubcache import RepoFolder

_VOLUME = re.compile(r"([a-z0-9_][a-z0-9._-]{0,63})-\d{3,}\.tar\Z")
_MAX_SIGNATURE_SIZE = 1 << 20
_KEPT = ((INDEX_NAME, MAX_INDEX_SIZE), (SIGNATURE_NAME, _MAX_SIGNATURE_SIZE), (SUMS_NAME, MAX_SUMS_SIZE))
"""The commit point last."""


def begun(cache_dir: Path, folders: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return where the index of the bundle lies to which the volumes in `folders` belong.

    Empty if a folder has one itself, or no bundle of that name was begun here. The next reader proves it like one
    that is on a stick.
    """
    if all(any((folder / name).is_file() for folder in folders) for name in (INDEX_NAME, SUMS_NAME)):
        return ()
    found = {_sums(path): path for name in set(_bundle_names(folders)) for path in _kept_for(cache_dir, name)}
    if len(found) > 1:
        raise InstallError(
            f"several bundles were begun in {cache_dir} that these volumes may belong to",
            hint="name the stick with index.json and SHA256SUMS as well",
        )
    return tuple(found.values())


def _bundle_names(folders: tuple[Path, ...]) -> Iterator[BundleName]:
    for folder in folders:
        for path in folder.iterdir():
            if match := _VOLUME.match(path.name):
                yield BundleName(match[1])


def _kept_for(cache_dir: Path, name: BundleName) -> Iterator[Path]:
    return (path.parent for path in cache_dir.glob(f"*/.bundler/incoming/{name}/{SUMS_NAME}"))


def _sums(folder: Path) -> bytes:
    return read_bounded(folder / SUMS_NAME, limit=MAX_SUMS_SIZE, failure=FormatError)


def remember(bundle: Bundle, folder: RepoFolder) -> None:
    """Keep index, sums and signature for sticks that have none; nothing of this is believed before it is proven again.

    Raises `InstallError` if another bundle of that name was begun: its sticks would be taken for this one's.
    """
    final = folder.incoming(bundle.index.name)
    texts = {
        name: read_bounded(path, limit=limit, failure=FormatError)
        for name, limit in _KEPT if (path := bundle.find(name)) is not None
    }
    if (final / SUMS_NAME).is_file():
        if _sums(final) != texts[SUMS_NAME]:
            raise InstallError(
                f"another bundle of the name {bundle.index.name} was begun here and is not complete, "
                f"and of this one volumes are missing as well",
                hint=f"go on with the sticks of that one; or, to give it up for this one, remove {final}",
            )
        return
    shutil.rmtree(final, ignore_errors=True)
    staged = folder.staging / f"{bundle.identity}.incoming"
    make_folders(staged, access=folder.access)
    for name, text in texts.items():
        write_synced(staged / name, text)
        folder.access.grant_file(staged / name)
    sync_folder(staged)
    make_folders(final.parent, access=folder.access)
    place_folder(staged, final)


def forget(name: BundleName, folder: RepoFolder) -> None:
    """Drop what was kept for the sticks of a bundle: it is complete."""
    (folder.incoming(name) / SUMS_NAME).unlink(missing_ok=True)
    shutil.rmtree(folder.incoming(name), ignore_errors=True)
