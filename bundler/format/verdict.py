"""What is known of a bundle's signature: one outcome out of nine, and only one of them is good."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from bundler.errors import (
    BadSignatureError, BundlerError, ExpiredSignerError, RevokedSignerError, SshKeygenError, UncheckedSignatureError,
    UnknownSignerError, UnsignedError, WrongNamespaceError
)

NAMESPACE = "bundler-v1"
"""What a signature of a bundle is made for; a key may be limited to it, or to others."""


class Outcome(StrEnum):
    """What came of looking for a signature and checking it."""

    GOOD = "good"
    """Made over these very bytes by somebody who is allowed to."""

    UNSIGNED = "unsigned"

    NOT_CHECKED = "not checked"
    """There is one, and nobody here said whose signatures count."""

    UNKNOWN_SIGNER = "unknown signer"
    WRONG_NAMESPACE = "wrong namespace"

    EXPIRED = "expired"
    """Of a key or certificate outside of its time, before it or after it."""

    REVOKED = "revoked"

    BAD = "bad"
    """Not a signature of these bytes."""

    NO_TOOL = "no ssh-keygen"
    """It should be checked and cannot be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """An outcome with all that was found on the way to it; empty where it was not."""

    outcome: Outcome

    principals: tuple[str, ...] = ()
    """Whom the allowed signers call the owner of the key. Only if the outcome is good."""

    key: str = ""
    """Kind and fingerprint of the key that made the signature."""

    detail: str = ""
    """What ssh-keygen said."""

    signers: Path | None = None
    """The file of allowed signers that counted; None if there was none."""

    checked_at: datetime | None = None
    """This machine's clock, by which keys expire; None if nothing was checked."""

    @property
    def good(self) -> bool:
        """Whether somebody who is allowed to vouches for the bundle."""
        return self.outcome is Outcome.GOOD

    def failure(self) -> BundlerError:
        """Return the error that an outcome amounts to where only a good one will do."""
        kind, hint = _FAILURES[self.outcome]
        return kind(f"the bundle is {self}", hint=hint)

    def __str__(self) -> str:
        """Say it as the end of `the bundle is ...`."""
        return _WORDS[self.outcome].format(
            by=", ".join(self.principals), key=self.key or "a key that was not looked at", signers=self.signers,
            clock=f"{self.checked_at:%Y-%m-%d %H:%M} UTC by this machine's clock" if self.checked_at else "",
            said=f" ({self.detail})" if self.detail else "",
        )


_WORDS = {
    Outcome.GOOD: "signed by {by}, {key}, allowed by {signers} on {clock}",
    Outcome.UNSIGNED: "NOT SIGNED: nobody vouches for it",
    Outcome.NOT_CHECKED: "signed with {key}, which was NOT CHECKED: no allowed signers are known here",
    Outcome.UNKNOWN_SIGNER: "signed by an UNKNOWN SIGNER with {key}, which {signers} does not allow{said}",
    Outcome.WRONG_NAMESPACE: "signed FOR ANOTHER PURPOSE: key or signature are not for `bundler-v1`{said}",
    Outcome.EXPIRED: "signed with {key}, which is OUTSIDE OF ITS TIME on {clock}{said}",
    Outcome.REVOKED: "signed with {key}, which is REVOKED{said}",
    Outcome.BAD: "NOT WHAT WAS SIGNED: SHA256SUMS and its signature do not belong together{said}",
    Outcome.NO_TOOL: "signed, which CANNOT BE CHECKED: there is no ssh-keygen of OpenSSH 8.2 or later",
}

_FAILURES: dict[Outcome, tuple[type[BundlerError], str]] = {
    Outcome.UNSIGNED: (UnsignedError, "ask its sender to run `bundle sign`"),
    Outcome.NOT_CHECKED: (
        UncheckedSignatureError, "name the file of allowed signers with `--signers`, or in a policy"),
    Outcome.UNKNOWN_SIGNER: (
        UnknownSignerError, "if that key should be trusted, add it to the allowed signers, but never from the stick"),
    Outcome.WRONG_NAMESPACE: (
        WrongNamespaceError, "have it signed with `bundle sign`, by a key that is allowed for `bundler-v1`"),
    Outcome.EXPIRED: (ExpiredSignerError, "if the clock is right, have the bundle signed again with a key of today"),
    Outcome.REVOKED: (RevokedSignerError, "do not use it; have it checked and signed again with another key"),
    Outcome.BAD: (
        BadSignatureError, "copy both from the gateway again; if that does not help, the bundle was tampered with"),
    Outcome.NO_TOOL: (SshKeygenError, "install OpenSSH's client, such as Debian's `openssh-client`"),
}
