"""One bundle after another under one roof: each with something wrong, verified, installed, and looked at.

    with Trial(sample) as trial, trial.having({"index.json": spoiled}):
        harm = trial.harm_of_damage()

A harm is a promise that did not hold, in words; "" if all held. Anything but an error of our own is raised.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from bundler.errors import BundlerError
from bundler.format.verify import verify_bundle
from bundler.target.install import InstallOptions, install_bundle
from tests.cache_layout import wrong_blobs

SECONDS = 60
"""For one bundle of some kilobytes: more is a way to hold up whoever is given it."""

_IN_A_REPO = (
    r"blobs(/([0-9a-f]{40}|[0-9a-f]{64}))?", r"snapshots(/[0-9a-f]{40}(/.+)?)?", r"refs(/.+)?",
    r"trees(/[0-9a-f]{40}\.json)?", r"\.bundler(/.+)?",
)
_IN_A_CACHE = re.compile(rf"roof(/hub(/(models|datasets|spaces)--[^/]+(/({'|'.join(_IN_A_REPO)}))?)?)?", re.DOTALL)
"""What an install may make, beside the bundle."""

Seen = dict[str, str]
"""What a reader of a cache finds: files of snapshots with the digests of their bytes, and refs with what they hold."""


class Trial:
    """A copy of a good bundle that may be spoiled, and a place for caches. A context manager."""

    def __init__(self, sample: Path) -> None:
        self._sample = sample
        # Only bytes count here, not what survives a crash: where syncing costs nothing, it is done ten times as fast.
        self._memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

    def __enter__(self) -> Trial:
        self._root = Path(tempfile.mkdtemp(prefix="fuzz-", dir=self._memory))
        self.bundle = self._root / "bundle"
        self.cache = self._root / "roof" / "hub"
        shutil.copytree(self._sample, self.bundle)
        self.good = {path.name: path.read_bytes() for path in self.bundle.iterdir()}
        with self._clean():
            self._install()
            self.expected = seen(self.cache)
        assert self.expected
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        shutil.rmtree(self._root)

    @contextmanager
    def having(self, changed: Mapping[str, bytes]) -> Iterator[None]:
        """Let files of the bundle have other bytes during the body."""
        try:
            for name, content in changed.items():
                (self.bundle / name).write_bytes(content)
            yield
        finally:
            for name in changed:
                (self.bundle / name).write_bytes(self.good[name])

    def harm_of_damage(self, *, keep_going: bool = False) -> str:
        """Verify and install a bundle that is not as it was written, and say what is wrong with how that ends."""
        with self._clean(), _limited():
            if not self._is_named():
                return "verify names nothing"
            refused = self._install(keep_going=keep_going)
            found = seen(self.cache)
            if wrong := wrong_blobs(self.cache):
                return f"the cache has wrong bytes under {wrong}"
            if not refused:
                return "" if found == self.expected else f"installed, but a reader sees {found}"
            allowed = self.expected if keep_going else {}
            return "" if found.items() <= allowed.items() else f"refused, but a reader sees {found}"

    def harm_of_lie(self) -> str:
        """The same for one that says of itself that all is well: it may be installed, if that harms nobody else."""
        with self._clean(), _limited():
            self._is_named()
            self._install()
            if wrong := wrong_blobs(self.cache):
                return f"the cache has wrong bytes under {wrong}"
            strangers = list(self._strangers())
            return f"written or linked outside of its repositories: {strangers}" if strangers else ""

    def _is_named(self) -> bool:
        try:
            return bool(verify_bundle((self.bundle,), workers=1).problems)
        except BundlerError:
            return True

    def _install(self, *, keep_going: bool = False) -> bool:
        """Install, and return whether that was refused or left something out."""
        options = InstallOptions(keep_going=keep_going)
        try:
            return install_bundle((self.bundle,), self.cache, options, workers=1).failure() is not None
        except BundlerError:
            return True

    def _strangers(self) -> Iterator[str]:
        """Yield what no cache holds, wherever it was put, and links that lead out of their repository."""
        for path in self._root.rglob("*"):
            inside = path.relative_to(self._root)
            if inside.parts[0] == "bundle":
                continue
            if not _IN_A_CACHE.fullmatch(inside.as_posix()):
                yield str(inside)
            if path.is_symlink() and not path.resolve().is_relative_to(self._root.joinpath(*inside.parts[:3])):
                yield f"{inside} -> {path.resolve()}"

    @contextmanager
    def _clean(self) -> Iterator[None]:
        """Leave no cache behind."""
        try:
            yield
        finally:
            shutil.rmtree(self.cache.parent, ignore_errors=True)


def seen(cache: Path) -> Seen:
    """Look at a cache as a reader does."""
    paths = [path for pattern in ("*/snapshots/**/*", "*/refs/**/*") for path in cache.glob(pattern)]
    return {
        path.relative_to(cache).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths if path.is_file()
    }


@contextmanager
def _limited() -> Iterator[None]:
    """Raise `TimeoutError` where the body goes on and on."""
    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"took more than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
