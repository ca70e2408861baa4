"""A file system that is not like Linux's own: a folder, seen through FUSE by the rules of another system.

    with strange_disk(tmp_path / "mnt", tmp_path / "behind", "--folds-case", "--no-links") as disk:
        ...
"""

from __future__ import annotations

import argparse
import errno
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mfusepy import FUSE, FuseOSError, Operations

from tests.gateway_side import wait_until


@contextmanager
def strange_disk(mount_point: Path, behind: Path, *rules: str) -> Iterator[Path]:
    """Mount the file system; `rules` are its options. Who may not mount skips the test."""
    mount_point.mkdir()
    behind.mkdir()
    if os.geteuid() != 0 or not Path("/dev/fuse").exists():
        pytest.skip("may not mount a file system")
    command = [sys.executable, "-m", "tests.strange_disk", *rules, str(mount_point), str(behind)]
    with subprocess.Popen(command, cwd=Path(__file__).parent.parent) as process:
        try:
            wait_until(lambda: os.path.ismount(mount_point) or process.poll() is not None)
            assert process.poll() is None
            yield mount_point
        finally:
            subprocess.run(["umount", "--lazy", mount_point], check=True)
            process.wait()


class _StrangeDisk(Operations):  # type: ignore[misc]  # the package is not typed
    """Hands everything on to a folder, by its own ideas of names and links."""

    use_ns = True

    def init_with_config(self, conn_info: object, config_3: Any) -> None:
        if config_3 is not None:
            # What is one file behind has one number here.
            config_3.use_ino = config_3.hard_remove = 1

    def __init__(self, rules: argparse.Namespace) -> None:
        self._rules = rules
        self._root = os.fsencode(rules.behind).decode()

    def _real(self, path: str) -> str:
        """Return the path behind; a step that is there under another spelling is that one."""
        if self._rules.windows_names and any(character in path for character in '<>:"|?*'):
            raise FuseOSError(errno.EINVAL)
        real = self._root
        for step in path.strip("/").split("/"):
            real = os.path.join(real, self._spelled(real, step)) if step else real
        return real

    def _spelled(self, folder: str, step: str) -> str:
        if not (self._rules.folds_case or self._rules.folds_unicode) or not os.path.isdir(folder):
            return step
        return next((name for name in os.listdir(folder) if self._folded(name) == self._folded(step)), step)

    def _folded(self, name: str) -> str:
        name = unicodedata.normalize("NFC", name) if self._rules.folds_unicode else name
        return name.casefold() if self._rules.folds_case else name

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        status = os.lstat(self._real(path))
        names = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_atime", "st_mtime", "st_ctime", "st_ino")
        return {name: getattr(status, name) for name in names}

    def readdir(self, path: str, fh: int) -> list[tuple[str, dict[str, Any], int]]:
        names = (".", "..", *os.listdir(self._real(path)))
        return [(name, self.getattr(os.path.join(path, name)), 0) for name in names]

    def readlink(self, path: str) -> str:
        return os.readlink(self._real(path))

    def symlink(self, target: str, source: str) -> None:
        if self._rules.no_links:
            raise FuseOSError(errno.EPERM)
        os.symlink(source, self._real(target))

    def link(self, target: str, source: str) -> None:
        if self._rules.no_links:
            raise FuseOSError(errno.EPERM)
        os.link(self._real(source), self._real(target))

    def chmod(self, path: str, mode: int) -> None:
        if self._rules.no_modes:
            raise FuseOSError(errno.EPERM)
        os.chmod(self._real(path), mode)

    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self._root)
        names = ("bavail", "bfree", "blocks", "bsize", "favail", "ffree", "files", "frsize", "namemax")
        return {f"f_{name}": getattr(found, f"f_{name}") for name in names}

    def create(self, path: str, mode: int, fi: object = None) -> int:
        return os.open(self._real(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    def open(self, path: str, flags: int) -> int:
        return os.open(self._real(path), flags)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        os.truncate(self._real(path), length)

    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        os.fsync(fh)

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self._real(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._real(path))

    def unlink(self, path: str) -> None:
        os.unlink(self._real(path))

    def rename(self, old: str, new: str) -> None:
        os.rename(self._real(old), self._real(new))

    def utimens(self, path: str, times: object = None) -> None:
        os.utime(self._real(path))


def _serve() -> None:
    parser = argparse.ArgumentParser()
    for rule in ("--folds-case", "--folds-unicode", "--windows-names", "--no-links", "--no-modes"):
        parser.add_argument(rule, action="store_true")
    parser.add_argument("mount_point")
    parser.add_argument("behind")
    rules = parser.parse_args()
    FUSE(_StrangeDisk(rules), rules.mount_point, foreground=True, nothreads=True)


if __name__ == "__main__":
    _serve()
