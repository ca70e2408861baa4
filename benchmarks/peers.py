"""What others would use: their commands, as they recommend them, synced at the end as ours are."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

from benchmarks.peer_names import MODELFERRY_BUNDLE

TAR = "tar | zstd -T0 -3, sync"
TAR_BACK = "tar --zstd -xf, sync"


def missing() -> list[str]:
    """Return the names of the peers that are not installed here."""
    programs = [name for name in ("tar", "zstd", "hf") if not has(name)]
    return [*programs, *(name for name in ("zipnn", "modelferry") if not has(name))]


def has(name: str) -> bool:
    """Say whether a peer is installed: a program, or a package of this interpreter."""
    if name in ("tar", "zstd"):
        return shutil.which(name) is not None
    return importlib.util.find_spec({"hf": "huggingface_hub"}.get(name, name)) is not None


def tar_to(folder: Path, archive: Path) -> list[str]:
    """Pack a folder."""
    return _shell('tar cf - -C "$1" . | zstd -q -f -T0 -3 -o "$2"; sync "$2"', folder, archive)


def tar_from(archive: Path, folder: Path) -> list[str]:
    """Unpack it."""
    return _shell('mkdir "$2"; tar --zstd -xf "$1" -C "$2"; sync -f "$2"', archive, folder)
