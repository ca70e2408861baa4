"""What others would use: their commands as they recommend them, synced at the end as ours are."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

from benchmarks.peer_modelferry import BUNDLE

TAR_TO = "tar | zstd -T0 -3, sync"
TAR_FROM = "tar --zstd -xf, sync"
ZIPNN_DTYPES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
"""What zipnn calls the formats that it knows."""

_PROGRAMS = ("bash", "cp", "sync", "tar", "zstd")
_PACKAGES = ("zipnn", "modelferry")


def missing() -> list[str]:
    """Return the peers that are not installed here."""
    return [name for name in (*_PROGRAMS, *_PACKAGES) if not has(name)]


def has(*names: str) -> bool:
    """Say whether peers are installed: programs, or packages of this interpreter."""
    found = (shutil.which(name) if name in _PROGRAMS else importlib.util.find_spec(name) for name in names)
    return all(found)


def has_tar() -> bool:
    """Say whether all is there that `tar_to`, `tar_from` and `copy` need."""
    return has(*_PROGRAMS)


def tar_to(folder: Path, archive: Path) -> list[str]:
    """Pack a folder."""
    return _shell('tar cf - -C "$1" . | zstd -q -f -T0 -3 -o "$2"; sync "$2"', folder, archive)


def tar_from(archive: Path, folder: Path) -> list[str]:
    """Unpack it."""
    return _shell('mkdir "$2"; tar --zstd -xf "$1" -C "$2"; sync -f "$2"', archive, folder)


def copy(folder: Path, target: Path) -> list[str]:
    """Do nothing but copy a folder: what no installer can be faster than on this disk."""
    return _shell('cp -r "$1" "$2"; sync -f "$2"', folder, target)


def sha256(path: Path) -> list[str]:
    """Do nothing but hash a file once: what proof costs at least."""
    script = "import hashlib, sys; print(hashlib.file_digest(open(sys.argv[1], 'rb'), 'sha256').hexdigest())"
    return [sys.executable, "-c", script, str(path)]


def zipnn_to(source: Path, target: Path, dtype: str) -> list[str]:
    """Compress a file."""
    return _synced(target, *_module("peer_zipnn", "compress", source, target, dtype))


def zipnn_from(source: Path, target: Path, dtype: str) -> list[str]:
    """Decompress it."""
    return _synced(target, *_module("peer_zipnn", "decompress", source, target, dtype))


def modelferry_to(folder: Path, target: Path) -> list[str]:
    """Pack a folder, and verify the pack."""
    return _synced(target, *_module("peer_modelferry", folder, target))


def modelferry_verify(target: Path) -> list[str]:
    """Verify what `modelferry_to` wrote, by the program that it put into it."""
    return _modelferry_offline(target, "verify")


def modelferry_from(target: Path, folder: Path) -> list[str]:
    """Verify it, and unpack it."""
    return _synced(folder, *_modelferry_offline(target, "unpack"), str(folder))


def hf_download(repo: str, cache: Path) -> list[str]:
    """Fetch a repository into a cache as the hub's own client does."""
    return [sys.executable, "-m", "huggingface_hub.cli.hf", "download", repo, "--cache-dir", str(cache), "--quiet"]


def _modelferry_offline(target: Path, verb: str) -> list[str]:
    bundle = target / BUNDLE
    return [sys.executable, str(bundle / "tools" / "modelferry_offline.py"), verb, str(bundle)]


def _module(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)]


def _shell(script: str, *arguments: object) -> list[str]:
    return ["bash", "-euo", "pipefail", "-c", script, "bash", *map(str, arguments)]


def _synced(target: Path, *command: str) -> list[str]:
    return _shell('"${@:2}"; sync -f "$1"', target, *command)
