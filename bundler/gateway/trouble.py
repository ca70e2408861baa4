"""What can go wrong with a source, in the few kinds that decide what to do next."""

from __future__ import annotations

from enum import StrEnum

from bundler.errors import FetchError


class Trouble(StrEnum):
    """A kind of failure; the rules for each are in `health`."""

    ABSENT = "absent"
    """It does not have the file (404, 410)."""

    REFUSED = "refused"
    """It does not give the file to us (401, 403)."""

    EXPIRED = "expired"
    """The link that it gave is refused (403 from another host)."""

    BUSY = "busy"
    """It wants to be left alone for a while (429, 503)."""

    BROKEN = "broken"
    """It failed: another error, a cut connection, silence."""

    UNREACHABLE = "unreachable"
    """No connection came about: no line, no name, no trust."""

    PAGE = "page"
    """A page for people instead of the file: a login, a portal."""

    MISFIT = "misfit"
    """Something of another length, or a redirect to nonsense."""

    WRONG = "wrong"
    """A file of the right length with other bytes."""

    SLOW = "slow"
    """So slow that another source is the better choice."""


class SourceError(FetchError):
    """A source did not deliver a file."""

    def __init__(self, message: str, trouble: Trouble, *, retry_after: float | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.trouble = trouble

        self.retry_after = retry_after
        """Seconds that the server asks for; None if it does not say."""


def trouble_of_status(status: int, *, redirected: bool) -> Trouble:
    """Sort an HTTP status. `redirected`: another origin says so than the one that was asked, and its links expire."""
    if status == 403 and redirected:
        return Trouble.EXPIRED
    if status in (401, 403):
        return Trouble.REFUSED
    if status in (404, 410):
        return Trouble.ABSENT
    return Trouble.BUSY if status in (429, 503) else Trouble.BROKEN
