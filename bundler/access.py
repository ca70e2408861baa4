"""Who may read and write what is written: modes that no umask changes, and a group for those who share a cache."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

_NO_SUCH_THING = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
"""What a file system without modes answers to who asks for one, for a file of his own."""


def set_mode(path: Path, mode: int) -> None:
    """Set the mode of a file or folder of ours, as far as its file system has such."""
    try:
        path.chmod(mode)
    except OSError as error:
        if error.errno not in _NO_SUCH_THING:
            raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Modes for files and folders."""

    folder_mode: int = 0o755
    file_mode: int = 0o644

    group: int | None = None
    """Number of the group that gets everything; None leaves what the operating system gives."""

    @classmethod
    def of_folders(cls, mode: int, *, group: int | None = None) -> Access:
        """Return what goes with folders of that mode: files that the same people read and write, and nobody runs."""
        return cls(folder_mode=mode, file_mode=mode & 0o666, group=group)

    def grant_folder(self, folder: Path) -> None:
        """Set mode and group of a folder, as far as its file system has such."""
        self._grant(folder, self.folder_mode)

    def grant_file(self, path: Path) -> None:
        """Set mode and group of a file, as far as its file system has such."""
        self._grant(path, self.file_mode)

    def _grant(self, path: Path, mode: int) -> None:
        if self.group is not None and path.stat().st_gid != self.group:
            os.chown(path, -1, self.group)
        # After chown, which takes set-group-id away.
        set_mode(path, mode)


PUBLIC = Access()
"""Everybody may read, the owner may write."""
