"""What an endpoint says that a revision is, whichever API it speaks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from bundler.digest import Commit
from bundler.errors import HubError, NothingSelectedError
from bundler.lock import LockedFile, why_no_folder
from bundler.manifest import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A commit and its files, as one endpoint tells them."""

    commit: Commit

    files: tuple[LockedFile, ...]
    """All that the request's patterns let through, sorted by path."""

    modified: datetime | None = None
    """When the commit was made, where the endpoint tells it."""

    restricted: bool = False
    """Whether the repository is gated or private."""

    def same(self, other: Listing) -> bool:
        """Say whether the two are the same bytes at the same commit."""
        names = [[(file.path, file.size, file.etag) for file in each.files] for each in (self, other)]
        return self.commit == other.commit and names[0] == names[1]


def sorted_files(files: Iterable[LockedFile], request: Request, *, of: int, strange: str) -> tuple[LockedFile, ...]:
    """Return the files that a request's patterns chose from `of` files.

    Raises `NothingSelectedError` if there are none, `HubError` (which begins with `strange`) if no folder could hold
    them.
    """
    ordered = tuple(sorted(files, key=lambda file: file.path))
    if reason := why_no_folder([file.path for file in ordered]):
        raise HubError(f"{strange}: its list of files {reason}")
    if not ordered:
        raise NothingSelectedError(
            f"none of the {of:,} files of {request.repo} at `{request.revision}` passes the patterns",
            hint="patterns are the hub's `allow_patterns`: `*.json`, `onnx/*`, a whole file name",
        )
    return ordered


def parse_time(text: str) -> datetime | None:
    """Read a time as APIs spell it; None where it is not one."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
