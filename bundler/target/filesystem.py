"""What a file system can do, and what it does to names: asked of the file system itself, with files that go again."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_COMPOSED, _DECOMPOSED = "\u00fc", "u\u0308"
_MAX_PATH = 4095
"""Bytes of a path that Linux takes."""

_WINDOWS_REFUSES = re.compile(r'[<>:"|?*]|[. ](/|\Z)|(^|/)(con|prn|aux|nul|com\d|lpt\d)(\.|/|\Z)', re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystem:
    """What was found out about a file system."""

    symbolic_links: bool = True
    hard_links: bool = True

    folds_case: bool = False
    """Whether `a` and `A` are one name."""

    folds_unicode: bool = False
    """Whether a letter with its accent and the same two one after another are one name."""

    windows_names: bool = False
    """Whether it takes only names that Windows would."""

    longest_name: int = 255
    """Bytes."""

    def why_unfit(self, folder: Path, paths: Iterable[str]) -> str:
        """Return why files and folders at `paths` cannot stand below `folder`; empty if they can."""
        above = len(os.fsencode(folder)) + 1
        spellings: dict[str, str] = {}
        for path in paths:
            if self.windows_names and _WINDOWS_REFUSES.search(path):
                return f"`{path}` is a name that this file system does not take"
            if max(map(len, path.encode().split(b"/"))) > self.longest_name:
                return f"a name in `{path}` has more bytes than the {self.longest_name} that this file system takes"
            if above + len(path.encode()) > _MAX_PATH:
                return f"`{path}` is too long below {folder}"
            if twin := self._twin(path, spellings):
                return f"`{path}` and `{twin}` are one name to this file system"
        return ""

    def _twin(self, path: str, spellings: dict[str, str]) -> str:
        """Return a name that differs from one in `path` by spelling alone; empty if there is none, as `path` now is."""
        if not self.folds_case and not self.folds_unicode:
            return ""
        end = 0
        while end < len(path):
            end = path.find("/", end + 1)
            end = len(path) if end < 0 else end
            known = spellings.setdefault(self._folded(path[:end]), path[:end])
            if known != path[:end]:
                return known
        return ""

    def _folded(self, name: str) -> str:
        if self.folds_unicode:
            name = unicodedata.normalize("NFD", name)
        return name.casefold() if self.folds_case else name


def ask_file_system(folder: Path) -> FileSystem:
    """Find out what the file system of `folder` is like, by trying in a folder below that is removed again."""
    place = folder / f"{os.urandom(16).hex()}.probe"
    place.mkdir()
    try:
        (place / f"probe-{_COMPOSED}").touch()
        return FileSystem(
            symbolic_links=_can(lambda: (place / "symbolic").symlink_to("target")),
            hard_links=_can(lambda: (place / "hard").hardlink_to(place / f"probe-{_COMPOSED}")),
            folds_case=(place / f"PROBE-{_COMPOSED}").exists(),
            folds_unicode=(place / f"probe-{_DECOMPOSED}").exists(),
            windows_names=not _can(lambda: (place / "probe: what?").touch()),
            longest_name=os.statvfs(place).f_namemax,
        )
    finally:
        # Some network and FUSE file systems keep a name for a while; it is in staging, which is swept.
        shutil.rmtree(place, ignore_errors=True)


def _can(attempt: Callable[[], None]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True
