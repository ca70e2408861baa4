"""Files that survive a crash. The only module that syncs and renames.

What is promised: after `place`, `atomic_write` or `sync_folder` returned, what they did is on the medium as far as
the operating system can make it so. What is not: the order of anything before that, nor anything on a drive that
lies about its cache.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import FileIO, IOBase, RawIOBase
from pathlib import Path
from typing import BinaryIO

from bundler.access import PUBLIC, Access
from bundler.errors import FileSystemError

_SYNCS_AT_ONCE = 16
_DRAIN_EVERY = 16 << 20
"""Bytes."""

_BLOCK = 4 << 20
"""Bytes: a multiple of what any device calls a block."""


def sync_file(stream: IOBase) -> None:
    """Push a file's bytes to the medium."""
    stream.flush()
    os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Push a folder's names to the medium: renames and new files in it."""
    sync_path(folder)


def make_folders(folder: Path, *, access: Access = PUBLIC) -> None:
    """Create `folder` and what is missing above it with exactly that access, whatever the umask; durable."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        access.grant_folder(path)
        sync_folder(path.parent)


def place(staged: Path, final: Path, *, access: Access = PUBLIC) -> None:
    """Rename a synced file to its final name, durably. Both must be on one file system."""
    access.grant_file(staged)
    _rename(staged, final)


def _rename(staged: Path, final: Path) -> None:
    staged.replace(final)
    # The rename lives in the folder; unsynced, a power failure can undo it.
    sync_folder(final.parent)


def place_folder(staged: Path, final: Path) -> None:
    """Rename a folder, whose content is synced, to a final name that nothing has yet, durably."""
    staged.rename(final)
    sync_folder(final.parent)


def place_link(staged: Path, final: Path) -> None:
    """Rename a link of either kind to its final name, in place of what is there; durable once its folder is synced."""
    staged.replace(final)


def place_all(staged: Sequence[tuple[Path, Path]], *, access: Access = PUBLIC) -> None:
    """Sync many staged files, then rename each to its final name, durably; for (staged, final) on one file system.

    Much faster than one by one: the syncs overlap, and a folder is synced once.
    """
    def settle(path: Path) -> None:
        access.grant_file(path)
        sync_path(path)

    with ThreadPoolExecutor(max_workers=_SYNCS_AT_ONCE) as pool:
        list(pool.map(settle, [path for path, _ in staged]))
    for path, final in staged:
        path.replace(final)
    for folder in {final.parent for _, final in staged}:
        sync_folder(folder)


def sync_path(path: Path) -> None:
    """Push a closed file, or a folder's names, to the medium."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_write(final: Path, *, staging: Path, access: Access = PUBLIC) -> Iterator[BinaryIO]:
    """Replace `final` with what the body writes, or leave it untouched.

    `staging` is a folder on the same file system that no reader looks into. A reader sees the old file (or none)
    or the new one, never a part; after a normal exit the new one survives power loss.
    """
    staged = staging / f"{os.urandom(16).hex()}.tmp"
    try:
        with staged.open("xb") as stream:
            access.grant_file(staged)
            yield stream
            sync_file(stream)
        _rename(staged, final)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise


def open_staged(path: Path) -> FileIO:
    """Open a file of staging for reading and writing where it was left, or a new one. Follows no link."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    stream = FileIO(path, "r+", opener=lambda name, _: os.open(name, flags, 0o600))
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise FileSystemError(f"{path} is not a regular file", hint="remove it, and run the same command again")
    return stream


def read_exactly(stream: RawIOBase, buffer: memoryview) -> None:
    """Fill `buffer` from an unbuffered file. Raises `FileSystemError` where the file ends before."""
    while buffer:
        count = stream.readinto(buffer)
        if not count:
            raise FileSystemError(f"{getattr(stream, 'name', 'a file')} ends {len(buffer):,} bytes too early")
        buffer = buffer[count:]


def write_all(stream: RawIOBase, content: bytes | memoryview) -> None:
    """Write all of `content` to an unbuffered file, which may take it in several bites."""
    view = memoryview(content)
    while view:
        view = view[stream.write(view) or 0:]


class Drain:
    """Lets a large file go to the medium while it is being written, and leave the page cache once it is there.

    So a sync at its end has little left to do, and what others work with is not pushed out of memory for bytes that
    nobody is about to read. A wish: where the system does not know it, nothing happens.
    """

    def __init__(self, stream: IOBase) -> None:
        self._stream = stream
        self._pending = 0

    def wrote(self, count: int) -> None:
        """Take note of so many more bytes, at any place of the file."""
        self._pending += count
        if self._pending >= _DRAIN_EVERY and hasattr(os, "posix_fadvise"):
            with suppress(OSError):
                # Starts to write out what is dirty, and drops what is clean: what was started the last time.
                os.posix_fadvise(self._stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            self._pending = 0


class StraightFile:
    """A new file, written from front to back, past the page cache where the file system can do that.

    For the reasons of `Drain`, and for less time in the kernel. Where it cannot, the cache is used and drained.
    """

    def __init__(self, path: Path) -> None:
        """Create the file, or empty it."""
        self._path = path
        self._stream, self._direct = _open_direct(path)
        self._drain = Drain(self._stream)
        # What goes past the cache starts and ends at whole blocks, in memory and in the file.
        self._block = memoryview(mmap.mmap(-1, _BLOCK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self._filled = 0

    def write(self, content: bytes | memoryview) -> None:
        """Append bytes."""
        view = memoryview(content)
        while view:
            count = min(len(view), _BLOCK - self._filled)
            self._block[self._filled:self._filled + count] = view[:count]
            self._filled += count
            view = view[count:]
            if self._filled == _BLOCK:
                self._flush()

    def finish(self) -> None:
        """Write and sync all that is left, and close."""
        self._through_cache()
        self._flush()
        sync_file(self._stream)
        self.close()

    def close(self) -> None:
        """Let go of the file, whatever is left to be written."""
        self._stream.close()

    def _flush(self) -> None:
        view = self._block[:self._filled]
        while view:
            try:
                view = view[self._stream.write(view) or 0:]
            except OSError as error:
                if error.errno != errno.EINVAL or not self._direct:
                    raise OSError(error.errno, error.strerror, str(self._path)) from error
                self._through_cache()
        if not self._direct:
            self._drain.wrote(self._filled)
        self._filled = 0

    def _through_cache(self) -> None:
        if self._direct:
            flags = fcntl.fcntl(self._stream, fcntl.F_GETFL)
            fcntl.fcntl(self._stream, fcntl.F_SETFL, flags & ~os.O_DIRECT)
            self._direct = False


def _open_direct(path: Path) -> tuple[FileIO, bool]:
    """Open a file for writing, and say whether that goes past the page cache."""
    direct = getattr(os, "O_DIRECT", 0)
    if direct:
        with suppress(OSError):
            return FileIO(path, "w", opener=lambda name, flags: os.open(name, flags | direct, 0o666)), True
    return FileIO(path, "w"), False


@contextmanager
def hold_lock(path: Path, on_wait: Callable[[str], None], *, access: Access = PUBLIC) -> Iterator[None]:
    """Hold a lock file against other processes, waiting while another one holds it.

    `on_wait` is told once who that is. The kernel lets go of the lock of a process that was killed.
    """
    with path.open("a+") as stream:
        if os.fstat(stream.fileno()).st_uid == os.geteuid():
            access.grant_file(path)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            on_wait(f"waiting for process {stream.read(20).strip() or '?'}, which is at work on {path.parent}")
            fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        stream.truncate()
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield


def write_synced(path: Path, content: bytes) -> None:
    """Write a whole file under its final name and sync it; for folders that have a commit point of their own."""
    with path.open("wb") as stream:
        stream.write(content)
        sync_file(stream)


def replace_file(final: Path, content: bytes) -> None:
    """Write a small file whole or not at all, durably. A killed run leaves `.NAME.tmp`; the next one overwrites it."""
    staged = final.with_name(f".{final.name}.tmp")
    write_synced(staged, content)
    place(staged, final)


def free_bytes(place: Path) -> int:
    """Return the bytes that an ordinary user may still write on the file system of `place`, which need not exist."""
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def free_names(place: Path) -> int:
    """Return how many files may still be made on the file system of `place`; very many if it does not say."""
    found = os.statvfs(place)
    return found.f_favail if found.f_files else sys.maxsize


@contextmanager
def explain_os_errors(doing: str) -> Iterator[None]:
    """Turn the operating system's refusals in the body into an error that names the file and what was being done."""
    try:
        yield
    except OSError as error:
        name = error.filename if error.filename is not None else "a file"
        hint = "free some space and run the same command again: it goes on" if error.errno == 28 else ""
        raise FileSystemError(f"{doing}: {name}: {error.strerror or error}", hint=hint) from error
