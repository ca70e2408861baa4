"""Where fetched bytes wait to be packed: a folder of blobs by digest, shared by all runs and manifests of a user."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundler.access import Access
from bundler.digest import Digest, Etag, hash_file
from bundler.fsio import explain_os_errors, hold_lock, make_folders, place, sync_path
from bundler.lock import LockedFile, lock_path, read_lock
from bundler.progress import Noted, OnEvent, ignore

_PRIVATE = Access.of_folders(0o700)


def default_staging(environment: Mapping[str, str], home: Path) -> Path:
    """Return `$XDG_CACHE_HOME/bundler`, or `~/.cache/bundler`."""
    return Path(environment.get("XDG_CACHE_HOME") or home / ".cache").expanduser() / "bundler"


@dataclass(frozen=True, slots=True)
class Staging:
    """Blobs under their etags in `blobs/`; what is on its way in `partial/`."""

    root: Path

    @property
    def partial(self) -> Path:
        """Where downloads grow."""
        return self.root / "partial"

    def part(self, etag: Etag) -> Path:
        """Return where a download grows; aria2's control file stands beside it while bytes are missing."""
        return self.partial / f"{etag}.part"

    def copy(self, etag: Etag) -> Path:
        """Return where a file of this machine is copied to, to be proven."""
        return self.partial / f"{etag}.copy"

    def blob(self, etag: Etag) -> Path:
        """Return where a blob stands once it was proven."""
        return self.root / "blobs" / etag

    @contextmanager
    def exclusively(self, on_wait: Callable[[str], None]) -> Iterator[None]:
        """Hold the folder against other runs."""
        make_folders(self.root, access=_PRIVATE)
        make_folders(self.root / "blobs")
        make_folders(self.partial)
        with hold_lock(self.root / "lock", on_wait):
            yield

    def adopt(self, file: LockedFile, *, sure: bool = True) -> Digest | None:
        """Return the SHA-256 of a blob that is there and right; None, and no blob, in any other case.

        A download that is complete counts: whoever fetched it was killed before it was proven. Unless `sure`, a blob
        that an earlier run proved is believed where its name tells the SHA-256: its bytes are then not read.
        """
        # Of an empty file nothing would be packed, and so nothing proven.
        if not sure and file.size and isinstance(file.etag, Digest) and has_size(self.blob(file.etag), file.size):
            return file.etag
        for path in (self.blob(file.etag), self._complete_download(file)):
            if path is None or not path.is_file():
                continue
            if digest := prove(path, file):
                if path != self.blob(file.etag):
                    self.admit(path, file)
                return digest
            path.unlink()
        return None

    def _complete_download(self, file: LockedFile) -> Path | None:
        path = self.part(file.etag)
        # aria2 removes its control file when all is there.
        under_way = control_of(path).exists()
        return path if not under_way and has_size(path, file.size) else None

    def admit(self, fetched: Path, file: LockedFile) -> None:
        """Take in a file whose bytes were proven."""
        sync_path(fetched)
        place(fetched, self.blob(file.etag))

    def begun(self, file: LockedFile) -> int:
        """Return about how many bytes an earlier run of aria2 has left of a file."""
        path = self.part(file.etag)
        return min(file.size, path.stat().st_blocks * 512) if control_of(path).exists() and path.exists() else 0

    def discard(self, file: LockedFile) -> None:
        """Delete what there is of a download, and of a copy."""
        part = self.part(file.etag)
        for path in (part, control_of(part), self.copy(file.etag)):
            path.unlink(missing_ok=True)

    def lacks(self, files: Collection[LockedFile]) -> int:
        """Return how many bytes of `files` would still have to be written here, going by names and sizes."""
        return sum(max(0, file.size - self._size(file)) for file in files)

    def _size(self, file: LockedFile) -> int:
        if self.blob(file.etag).is_file():
            return self.blob(file.etag).stat().st_size
        part = self.part(file.etag)
        # Blocks, not length: a download by segments has holes.
        return part.stat().st_blocks * 512 if part.is_file() else 0

    def clean(self, keep: Collection[Etag]) -> int:
        """Remove everything but the blobs that `keep` names, and return the bytes that this freed."""
        freed = 0
        for path in (*(self.root / "blobs").glob("*"), *self.partial.glob("*")):
            if path.name.partition(".")[0] not in keep:
                freed += path.stat().st_blocks * 512
                path.unlink()
        return freed


def clean_staging(staging: Staging, keep: tuple[Path, ...], *, on_event: OnEvent = ignore) -> int:
    """Remove what no lock of the manifests at `keep` names; return the bytes that this freed."""
    etags = {file.etag for path in keep for repo in read_lock(lock_path(path)).repos for file in repo.files}
    with explain_os_errors("cleaning"), staging.exclusively(lambda text: on_event(Noted(text))):
        return staging.clean(etags)


def has_size(path: Path, size: int) -> bool:
    """Say whether a file of that size stands there, and can be seen."""
    try:
        return path.is_file() and path.stat().st_size == size
    except OSError:
        return False


def control_of(part: Path) -> Path:
    """Return where aria2 notes which pieces of a download it has."""
    return part.with_name(f"{part.name}.aria2")


def prove(path: Path, file: LockedFile, *, on_bytes: Callable[[int], None] = lambda count: None) -> Digest | None:
    """Return the SHA-256 of a file's bytes if they are the ones that were locked, None if not. Reads all of them."""
    size, hasher = hash_file(path, git=not isinstance(file.etag, Digest), on_bytes=on_bytes)
    pinned = file.sha256 is None or hasher.sha256 == file.sha256
    return hasher.sha256 if size == file.size and pinned and hasher.matches(file.etag) else None
