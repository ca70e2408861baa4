"""Signatures of SHA256SUMS, made and checked by the program `ssh-keygen` (OpenSSH 8.2 or later).

So agents, hardware keys, certificates, revocation lists and validity intervals work as they do elsewhere. That a
signature is good is told by exit codes alone; the program's words only tell one refusal from another.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from bundler.errors import PolicyFileError, SshKeygenError
from bundler.fields import read_bounded
from bundler.format.sums import SIGNATURE_NAME, SUMS_NAME
from bundler.format.verdict import NAMESPACE, Outcome, Verdict
from bundler.fsio import explain_os_errors

MAX_SIGNATURE_SIZE = 64 << 10
MAX_SIGNERS_SIZE = 16 << 20
"""Bytes of a file of allowed signers, or of revoked keys."""

_GOOD = re.compile(r'Good ".*" signature .*with (?P<key>\S+ key \S+)')
_TOO_OLD = re.compile(r"unknown option|nsupported operation")
_OUTSIDE_OF_ITS_TIME = re.compile(
    r"(?P<said>key has expired: .*|key is not yet valid: .*|Certificate invalid: (expired|not yet valid))")
_OTHER_NAMESPACE = re.compile(r"(?P<said>key is not permitted for use in signature namespace .*)")
_NOT_ALLOWED = re.compile(r"(?P<said>bad options: .*|certificate not authorized: .*)")
_KEY_IS_REVOKED = "Key is revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """Whose signatures count."""

    signers: Path | None = None
    """A file of allowed signers, see `ssh-keygen(1)`; None if nobody said whose signatures count."""

    revoked: tuple[Path, ...] = ()
    """Files of keys that no longer count: revocation lists (KRL), or public keys as text."""


def check_signature(sums: bytes, signature: bytes | None, keyring: Keyring) -> Verdict:
    """Say who vouches for the bytes of SHA256SUMS. Nothing of them is parsed.

    Raises `PolicyFileError` or `FileSystemError` where a file of `keyring` cannot be used.
    """
    if signature is None:
        return Verdict(outcome=Outcome.UNSIGNED)
    tool = shutil.which("ssh-keygen")
    if tool is None:
        return _unchecked(keyring)
    with explain_os_errors("checking the signature"), TemporaryDirectory(prefix="bundler-") as folder:
        return _Check(tool, Path(folder), sums, signature, keyring).verdict()


def _unchecked(keyring: Keyring) -> Verdict:
    return Verdict(outcome=Outcome.NO_TOOL if keyring.signers else Outcome.NOT_CHECKED, signers=keyring.signers)


class _Check:
    """A signature under check, with copies of all that counts in a folder that nobody else can change."""

    def __init__(self, tool: str, folder: Path, sums: bytes, signature: bytes, keyring: Keyring) -> None:
        self._tool = tool
        self._sums = sums
        self._keyring = keyring
        self._now = datetime.now(UTC)
        self._key = ""
        self._signature = folder / "signature"
        self._signature.write_bytes(signature)
        self._signers = folder / "allowed_signers"
        if keyring.signers:
            self._signers.write_bytes(_read(keyring.signers))
        self._revoked = {folder / f"revoked-{number}": path for number, path in enumerate(keyring.revoked)}
        for copy, path in self._revoked.items():
            copy.write_bytes(_read(path))

    def verdict(self) -> Verdict:
        """Check the mathematics, then who it is, then whether that still counts."""
        made = self._run("check-novalidate", "-n", NAMESPACE)
        if made.returncode:
            return self._not_of_these_bytes(made.stderr)
        self._key = _first(_GOOD, made.stdout, "key")
        if self._keyring.signers is None:
            return self._found(Outcome.NOT_CHECKED)
        principals, refusals = self._principals()
        if not principals:
            return self._not_allowed(refusals)
        return self._revocation(principals[0]) or self._found(Outcome.GOOD, principals=principals)

    def _not_of_these_bytes(self, said: str) -> Verdict:
        if _TOO_OLD.search(said):
            return _unchecked(self._keyring)
        # The namespace that a signature was made for is in it, and is a part of what was signed.
        outcome = Outcome.WRONG_NAMESPACE if "namespace does not match" in said else Outcome.BAD
        return self._found(outcome, detail=said.partition("\n")[0])

    def _principals(self) -> tuple[tuple[str, ...], str]:
        """Return the names of the key's owner that hold for bundles, and what was said against all others."""
        named = self._run("find-principals", "-vvv", "-f", str(self._signers))
        refusals, good = named.stderr, []
        # A name with `!` in front is one that its line does not hold for.
        for principal in () if named.returncode else named.stdout.splitlines():
            verified = self._verify(principal)
            refusals += verified.stderr
            if verified.returncode == 0 and not principal.startswith("!"):
                good.append(principal)
        return tuple(good), refusals

    def _not_allowed(self, refusals: str) -> Verdict:
        for pattern, outcome in (
            (_OTHER_NAMESPACE, Outcome.WRONG_NAMESPACE),
            (_OUTSIDE_OF_ITS_TIME, Outcome.EXPIRED),
        ):
            if pattern.search(refusals):
                return self._found(outcome, detail=_first(pattern, refusals, "said"))
        return self._found(Outcome.UNKNOWN_SIGNER, detail=_first(_NOT_ALLOWED, refusals, "said"))

    def _revocation(self, principal: str) -> Verdict | None:
        for copy, path in self._revoked.items():
            verified = self._verify(principal, "-r", str(copy))
            if _KEY_IS_REVOKED in verified.stderr:
                return self._found(Outcome.REVOKED, detail=f"by {path}")
            if verified.returncode:
                raise PolicyFileError(
                    f"{path} is not a list of revoked keys that ssh-keygen can read",
                    hint="make it with `ssh-keygen -k`, or put public keys into it, one a line",
                )
        return None

    def _verify(self, principal: str, *more: str) -> subprocess.CompletedProcess[str]:
        return self._run("verify", "-vvv", "-n", NAMESPACE, "-f", str(self._signers), "-I", principal, *more)

    def _found(self, outcome: Outcome, *, principals: tuple[str, ...] = (), detail: str = "") -> Verdict:
        return Verdict(
            outcome=outcome,
            principals=principals,
            key=self._key,
            detail=detail,
            signers=self._keyring.signers,
            checked_at=self._now,
        )

    def _run(self, operation: str, *options: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self._tool, "-Y", operation, "-s", str(self._signature), *options],
            input=self._sums, capture_output=True, env=_environment(), check=False,
        )
        # Names need not be UTF-8, and go back to the program as they came from it.
        stdout, stderr = os.fsdecode(done.stdout), os.fsdecode(done.stderr)
        return subprocess.CompletedProcess(done.args, done.returncode, stdout, stderr)


def _read(path: Path) -> bytes:
    return read_bounded(path, limit=MAX_SIGNERS_SIZE, failure=PolicyFileError)


def _first(pattern: re.Pattern[str], text: str, group: str) -> str:
    match = pattern.search(text)
    return match[group] if match else ""


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}


def require_key(key: Path) -> None:
    """Fail unless there is an `ssh-keygen`, and `key` is one; whether it can sign is only seen when it does.

    Raises `SshKeygenError`.
    """
    done = subprocess.run(
        [_require_tool(), "-l", "-f", str(key)], stdin=subprocess.DEVNULL, capture_output=True, env=_environment(),
        check=False,
    )
    if done.returncode:
        said = os.fsdecode(done.stderr or done.stdout).strip()
        raise SshKeygenError(f"{key} is not a key to sign with: {said}", hint="make one with `ssh-keygen -t ed25519`")


def sign_sums(sums: bytes, key: Path) -> bytes:
    """Return a signature of the bytes of SHA256SUMS, asking for a passphrase or a touch where the key needs it.

    `key` is a private key, or a public one whose private half an agent or a piece of hardware has. Raises
    `SshKeygenError`.
    """
    require_key(key)
    with explain_os_errors("signing"), TemporaryDirectory(prefix="bundler-") as folder:
        text = Path(folder, SUMS_NAME)
        text.write_bytes(sums)
        # What it asks, it asks the terminal: neither its input nor its errors may be taken away from there.
        command = [_require_tool(), "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key), str(text)]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, env=_environment(), check=False)
        signature = text.with_name(SIGNATURE_NAME)
        if done.returncode or not signature.is_file():
            raise SshKeygenError(f"ssh-keygen made no signature with {key}, and has said why", hint=_SIGNING_HINT)
        return signature.read_bytes()


_SIGNING_HINT = "is its passphrase right, its agent reachable (`ssh-add -l`), its hardware plugged in?"


def _require_tool() -> str:
    tool = shutil.which("ssh-keygen")
    if tool is None:
        raise SshKeygenError("there is no ssh-keygen on this machine", hint="install OpenSSH's client, 8.2 or later")
    return tool
