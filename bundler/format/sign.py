"""Put a signature beside SHA256SUMS, so that others can tell who vouches for a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundler.errors import SshKeygenError
from bundler.format.reader import Bundle, open_own
from bundler.format.signature import Keyring, check_signature, sign_sums
from bundler.format.sums import SIGNATURE_NAME, SUMS_NAME, sums_text
from bundler.format.verdict import Outcome
from bundler.fsio import explain_os_errors, replace_file


@dataclass(frozen=True, slots=True, kw_only=True)
class SignReport:
    """What was signed."""

    bundle: Bundle

    key: str
    """Kind and fingerprint."""

    signatures: tuple[Path, ...]
    """The files that were written, one on each medium."""


def sign_bundle(folders: tuple[Path, ...], key: Path) -> SignReport:
    """Sign SHA256SUMS with `key` and put the signature beside each copy of it, in place of an older one.

    Raises what opening a bundle raises: no index is signed that its sums do not name, and none that breaks the
    format. The volumes are not read, `verify` does that.
    """
    bundle = open_own(folders)
    sums = sums_text(dict(bundle.sums))
    signature = sign_sums(sums, key)
    verdict = check_signature(sums, signature, Keyring())
    if verdict.outcome is not Outcome.NOT_CHECKED:
        raise SshKeygenError(f"what ssh-keygen made with {key} is no signature: {verdict.detail}")
    signatures = tuple(path.with_name(SIGNATURE_NAME) for path in bundle.find_all(SUMS_NAME))
    with explain_os_errors("writing the signature"):
        for path in signatures:
            replace_file(path, signature)
    return SignReport(bundle=bundle, key=verdict.key, signatures=signatures)
