"""The names that come from outside: repositories, refs, paths, bundles. Checked once, when they are made.

Each is a `str` of its own type, so that a checked name is never mistaken for any other text. What is not a valid
name is a ValueError that says why; whoever reads a document adds where.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from bundler.digest import Commit

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 1024

_REPO_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)?\Z")
_BUNDLE_NAME = re.compile(r"[a-z0-9_][a-z0-9._-]{0,63}\Z")
_NOT_IN_A_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|\Z)|\.\Z|\A[/.-]")


class RepoType(StrEnum):
    """The kinds of repository that a hub keeps."""

    MODEL = "model"
    DATASET = "dataset"
    SPACE = "space"

    @property
    def plural(self) -> str:
        """The word in API routes and cache folders."""
        return f"{self.value}s"


@dataclass(frozen=True, slots=True, order=True)
class RepoId:
    """A repository: its type and its name as callers pass it, case and all."""

    type: RepoType
    name: str

    def __post_init__(self) -> None:
        """Apply the hub's own rule (`huggingface_hub.utils.validate_repo_id`), in ASCII."""
        too_long = len(self.name.rpartition("/")[2]) > 96 or len(self.name) > 200
        bad = "--" in self.name or ".." in self.name or self.name.endswith((".git", "-", "."))
        if too_long or bad or not _REPO_NAME.match(self.name):
            raise ValueError(f"{self.name[:120]!r} is not a repository id such as `org/name`")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` gives: `org/name`, `datasets/org/name`, `spaces/org/name`."""
        for repo_type in (RepoType.DATASET, RepoType.SPACE):
            if text.startswith(f"{repo_type.plural}/"):
                return cls(repo_type, text.removeprefix(f"{repo_type.plural}/"))
        return cls(RepoType.MODEL, text)

    @classmethod
    def of_cache_folder(cls, folder: str) -> Self:
        """Read the name of a repository's folder in the Hugging Face cache. Raises ValueError if it is another."""
        kind, *steps = folder.split("--")
        for repo_type in RepoType:
            if kind == repo_type.plural:
                return cls(repo_type, "/".join(steps))
        raise ValueError(f"{folder[:120]!r} is not the folder of a repository")

    def __str__(self) -> str:
        return self.name if self.type is RepoType.MODEL else f"{self.type.plural}/{self.name}"

    @property
    def cache_folder(self) -> str:
        """The folder's name in the Hugging Face cache."""
        return "--".join([self.type.plural, *self.name.split("/")])


class RelPath(str):
    """A file's path inside a repository: relative, `/` between its parts, safe to create below a folder."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        reason = _why_no_path(text)
        if reason:
            raise ValueError(f"{text[:120]!r} is not a path inside a repository: {reason}")
        return super().__new__(cls, text)

    @property
    def parts(self) -> tuple[str, ...]:
        """The names from the top down."""
        return tuple(self.split("/"))


def _why_no_path(text: str) -> str:
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        return "it is not Unicode text"
    if len(encoded) > MAX_PATH_BYTES:
        return f"it is longer than {MAX_PATH_BYTES} bytes"
    if any(character < " " or character in "\\\x7f" for character in text):
        return "it holds a backslash or a control character"
    if re.match(r"[A-Za-z]:", text):
        return "it starts with a drive letter"
    for name in encoded.split(b"/"):
        if name in (b"", b".", b".."):
            return "it is absolute, or has an empty, `.` or `..` step"
        if len(name) > MAX_NAME_BYTES:
            return f"a name in it is longer than {MAX_NAME_BYTES} bytes"
    return ""


class RefName(str):
    """A movable name: a branch, a tag, `refs/pr/1`, or a short commit that somebody wants to resolve."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not text or text.endswith("/") or _NOT_IN_A_REF.search(text):
            raise ValueError(f"{text[:120]!r} is not a branch, a tag, a pull request's ref or a commit")
        return super().__new__(cls, RelPath(text))


def refs_of(revision: RefName) -> tuple[RefName, ...]:
    """Return the refs that a user's revision stands for: itself, unless it is a full commit, which needs none."""
    try:
        Commit(revision)
    except ValueError:
        return (revision,)
    return ()


class BundleName(str):
    """The name of a bundle, and so of its files: `[a-z0-9._-]`, fit for any file system."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not _BUNDLE_NAME.match(text):
            raise ValueError(f"{text[:80]!r} is not a bundle's name: 1 to 64 of a-z 0-9 . _ -, no . or - first")
        return super().__new__(cls, text)
