"""Everything that may go wrong as expected, and the exit code by which a script can tell.

A family of ten codes answers *whose move is it*: the manifest's author (10), the hub (20), the line and its
sources (30), the medium (40), whoever wrote the bundle (50), this machine (60), the signer (70). An error's text
names the thing and the numbers; its `hint` says what to do next. A bug is not in here: it shows its traceback.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar


class BundlerError(Exception):
    """An expected failure: `str()` says what happened, `hint` what to do about it."""

    exit_code: ClassVar[int]

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


# 10: the manifest and its lock


class ManifestError(BundlerError):
    """The manifest cannot be read, or says something that has no meaning."""

    exit_code = 10


class LockError(BundlerError):
    """The lock file cannot be read, or is not a lock."""

    exit_code = 11


class StaleLockError(BundlerError):
    """The lock does not answer to what the manifest asks for now."""

    exit_code = 12


class NothingSelectedError(BundlerError):
    """A repository has no file that the manifest's patterns let through."""

    exit_code = 13


# 20: the hub


class HubError(BundlerError):
    """An endpoint gave an answer that is not the hub's API."""

    exit_code = 20


class RepoNotFoundError(HubError):
    """No endpoint knows the repository (or it is private: the hub does not tell which)."""

    exit_code = 21


class RevisionNotFoundError(HubError):
    """The repository is there, the revision is not."""

    exit_code = 22


class AccessDeniedError(HubError):
    """The repository is gated or private, and no token opened it."""

    exit_code = 23


class HubUnreachableError(HubError):
    """No endpoint could be reached, or all are busy or ill."""

    exit_code = 24


class DisagreementError(HubError):
    """Fewer endpoints than were asked for say the same of a revision."""

    exit_code = 25


# 30: the line, and the sources of bytes


class FetchError(BundlerError):
    """Bytes could not be fetched."""

    exit_code = 30


class NoSourceError(FetchError):
    """Every source was asked for a file and none delivered it."""

    exit_code = 31


class WrongBytesError(FetchError):
    """What the sources delivered is not the file that the lock names."""

    exit_code = 32


class Aria2MissingError(FetchError):
    """There is no usable aria2c on this machine."""

    exit_code = 33


class Aria2Error(FetchError):
    """The aria2c daemon cannot be started, or does not answer."""

    exit_code = 34


class MissingExtraError(FetchError):
    """A package that only the connected side needs is not installed."""

    exit_code = 35


class ProxyError(FetchError):
    """A proxy is set that cannot be used."""

    exit_code = 36


# 40: the medium


class DamagedBundleError(BundlerError):
    """Bytes of the bundle are not the bytes that were written."""

    exit_code = 40


class IncompleteBundleError(BundlerError):
    """Files of the bundle are not there."""

    exit_code = 41


# 50: the format


class FormatError(BundlerError):
    """This is not a bundle, or one that breaks the rules of its format."""

    exit_code = 50


class UnsupportedVersionError(FormatError):
    """The bundle is of a format version, or needs a feature, that this release does not know."""

    exit_code = 51


class BundleExistsError(BundlerError):
    """Another complete bundle stands where this one should be written."""

    exit_code = 52


# 60: this machine


class InstallError(BundlerError):
    """The bundle cannot be installed as asked."""

    exit_code = 60


class NotEnoughSpaceError(BundlerError):
    """A file system is too small; raised before anything is written to it."""

    exit_code = 61

    def __init__(
        self, place: Path, *, needed: int, free: int, purpose: str, way_out: str, unit: str = "bytes"
    ) -> None:
        super().__init__(f"{place} has {free:,} {unit} free, {purpose} needs {needed:,}")
        self.hint = f"free {needed - free:,} {unit} there, or {way_out}"
        self.needed = needed
        self.free = free


class FileSystemError(BundlerError):
    """The operating system refused to read or write a file."""

    exit_code = 62


class DamagedStagingError(BundlerError):
    """A file that waits to be packed does not hold the bytes of its digest."""

    exit_code = 63


class OlderCommitError(BundlerError):
    """The bundle would turn a ref back to a commit that it has left."""

    exit_code = 65


class ReceiptError(BundlerError):
    """A receipt in the cache cannot be read, or is not a receipt."""

    exit_code = 66


class NotInstalledError(BundlerError):
    """No receipt in the cache tells of what was named."""

    exit_code = 67


class DamagedCacheError(BundlerError):
    """What was installed is not there any more, or not as it was."""

    exit_code = 68


class MovedRefError(BundlerError):
    """All files are as they were installed, but a ref is not where the receipts left it."""

    exit_code = 69


# 70: the signer


class UnsignedError(BundlerError):
    """Nobody vouches for the bundle."""

    exit_code = 70


class UnknownSignerError(BundlerError):
    """The bundle is signed with a key that is not among the allowed signers."""

    exit_code = 71


class WrongNamespaceError(BundlerError):
    """The key, or the signature itself, is for other purposes than bundles."""

    exit_code = 72


class ExpiredSignerError(BundlerError):
    """The signer's key or certificate is outside of its time, by this machine's clock."""

    exit_code = 73


class RevokedSignerError(BundlerError):
    """The signer's key was revoked."""

    exit_code = 74


class BadSignatureError(BundlerError):
    """The signature is not one of this bundle."""

    exit_code = 75


class UncheckedSignatureError(BundlerError):
    """There is a signature, and nobody here said whose signatures count."""

    exit_code = 76


class SshKeygenError(BundlerError):
    """There is no usable `ssh-keygen` on this machine, or it cannot sign with the key."""

    exit_code = 77


class PolicyRefusalError(BundlerError):
    """A policy on this machine asks more of a bundle than this one has."""

    exit_code = 78


class PolicyFileError(BundlerError):
    """A policy, or a file that it names, cannot be understood; nothing is trusted then."""

    exit_code = 79


USAGE_EXIT_CODE = 2
INTERRUPTED_EXIT_CODE = 130
