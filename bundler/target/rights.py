"""Who may read and write what is in the cache already: ours is mended, another user's is named."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path

from bundler.access import Access, set_mode
from bundler.errors import FileSystemError


def open_to_readers(path: Path, access: Access) -> None:
    """Let others read a blob that only its owner can: most readers take it for missing.

    Raises `FileSystemError` if the owner is somebody else. A link is left alone, and nothing at all is fine.
    """
    try:
        status = path.lstat()
    except OSError:
        return
    wanted = access.file_mode & 0o444
    if stat.S_ISREG(status.st_mode) and status.st_mode & wanted != wanted:
        _add(path, status, wanted, "closed to other readers")


def open_folders(folders: Iterable[Path], access: Access) -> None:
    """Make sure that what stands in `folders` can be read by others and changed by us; what is not there is fine.

    Raises `FileSystemError` for the first that is somebody else's and closed.
    """
    for folder in folders:
        try:
            status = folder.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISDIR(status.st_mode):
            continue
        wanted = access.folder_mode & 0o555
        if status.st_mode & wanted != wanted:
            _add(folder, status, wanted | 0o700, "closed to other readers")
        elif not os.access(folder, os.W_OK | os.X_OK):
            _add(folder, status, 0o700, "not open for writing")


def _add(path: Path, status: os.stat_result, bits: int, what: str) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid():
        raise FileSystemError(
            f"{path} is {what} ({mode:04o}), and belongs to {_name_of(status.st_uid)}",
            hint="let its owner, or root, open it or remove it; or choose another place with `--cache-dir`",
        )
    set_mode(path, mode | bits)


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
