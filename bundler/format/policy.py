"""What a machine, and its user, ask of a bundle before it is believed.

A policy is a file of TOML, `policy.toml`: the machine's in `/etc/bundler`, the user's in `~/.config/bundler`. A bundle
must satisfy every policy that is there, so that none can loosen another; whose signatures count is said by the
machine's if it says so at all.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from bundler.errors import BundlerError, FileSystemError, PolicyFileError, PolicyRefusalError, UnsignedError
from bundler.fields import Fields, read_bounded
from bundler.format.index import Snapshot
from bundler.format.reader import Bundle, open_bundle
from bundler.format.signature import Keyring
from bundler.format.verdict import Outcome, Verdict
from bundler.lock import Identity
from bundler.manifest import OFFICIAL_ENDPOINT

POLICY_NAME = "policy.toml"
MAX_POLICY_SIZE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerRule:
    """A signer, and the repositories that he may sign."""

    principal: str
    """As the allowed signers call the owner of the key."""

    repos: tuple[str, ...]
    """Patterns of ids such as `org/*`, in which `*` crosses the slash, for repositories of any type."""

    def covers(self, snapshot: Snapshot) -> bool:
        """Say whether the signer may sign this repository."""
        return any(fnmatchcase(snapshot.repo.name, pattern) for pattern in self.repos)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One policy."""

    document: str
    """Where it stands, for messages."""

    require_signature: bool = False

    signers: Path | None = None
    """The file of those whose signatures count; None if the policy leaves that to others."""

    revoked: Path | None = None
    """A file of keys that count no longer."""

    rules: tuple[SignerRule, ...] = ()
    """Who may sign what; if empty, all whose signatures count may sign everything."""

    confirmed: bool = False
    """Whether the official hub must have said what a repository holds, or a second endpoint without its dissent."""

    agreeing: int = 0
    """How many endpoints must have agreed with the one that said what a repository holds."""

    def refusals(self, verdict: Verdict, snapshots: tuple[Snapshot, ...]) -> Iterator[str]:
        """Yield in words what a bundle with this signature and content lacks."""
        if self.require_signature and not verdict.good:
            yield f"{self.document} requires a good signature"
        for snapshot in snapshots:
            if verdict.good and not self._may_sign(verdict, snapshot):
                yield f"{self.document} does not let {' or '.join(verdict.principals)} sign {snapshot.repo}"
            if reason := self._unconfirmed(snapshot.identity):
                yield f"{self.document} wants {reason} {snapshot.repo}, which was {snapshot.identity}"

    def _may_sign(self, verdict: Verdict, snapshot: Snapshot) -> bool:
        return not self.rules or any(
            rule.principal in verdict.principals and rule.covers(snapshot) for rule in self.rules
        )

    def _unconfirmed(self, identity: Identity) -> str:
        others = set(identity.agreed_by) - {identity.told_by}
        confirmed = identity.told_by == OFFICIAL_ENDPOINT or (others and OFFICIAL_ENDPOINT not in identity.differed)
        if self.confirmed and not confirmed:
            return "the official hub, or a second endpoint that it does not contradict, to confirm"
        if len(others) < self.agreeing:
            return f"{self.agreeing} more endpoint{'' if self.agreeing == 1 else 's'} to agree on"
        return ""


@dataclass(frozen=True, slots=True)
class Policies:
    """All that hold for a command, the weightiest first."""

    all: tuple[Policy, ...] = ()

    @property
    def keyring(self) -> Keyring:
        """Whose signatures count: whoever the first policy names that names any, without those that any revokes."""
        signers = (policy.signers for policy in self.all if policy.signers)
        revoked = tuple(policy.revoked for policy in self.all if policy.revoked)
        return Keyring(signers=next(signers, None), revoked=revoked)

    def objection(self, verdict: Verdict) -> BundlerError | None:
        """Return the error with which a bundle with this signature is refused, whatever it holds; None if it is not.

        That nobody signed it, or that it is not known whose signatures count, passes where no policy asks for more.
        """
        required_by = [policy.document for policy in self.all if policy.require_signature]
        passes = (Outcome.GOOD,) if required_by else (Outcome.GOOD, Outcome.UNSIGNED, Outcome.NOT_CHECKED)
        if verdict.outcome in passes:
            return None
        if verdict.outcome is Outcome.UNSIGNED:
            return UnsignedError(
                f"nobody signed the bundle, and {required_by[0]} requires it", hint="ask its sender to sign it"
            )
        return verdict.failure()

    def admit(self, verdict: Verdict) -> None:
        """Raise the objection, if there is one."""
        if objection := self.objection(verdict):
            raise objection

    def refusals(self, bundle: Bundle) -> tuple[str, ...]:
        """Return in words all that a bundle lacks, by what its index says."""
        return tuple(
            text for policy in self.all for text in policy.refusals(bundle.verdict, bundle.index.snapshots)
        )

    def approve(self, bundle: Bundle) -> None:
        """Raise `PolicyRefusalError` if a bundle lacks anything that a policy asks for."""
        if refusals := self.refusals(bundle):
            raise refusal_of(refusals)


def open_approved(folders: tuple[Path, ...], policies: Policies) -> Bundle:
    """Open a bundle to use it: one that a policy has anything against is refused, by its signature before it is parsed.

    Raises what `open_bundle` raises, an error of the signer's family, `PolicyRefusalError`.
    """
    bundle = open_bundle(folders, policies.keyring, admit=policies.admit)
    policies.approve(bundle)
    return bundle


def refusal_of(refusals: tuple[str, ...]) -> PolicyRefusalError:
    """Return the error for what `Policies.refusals` found."""
    more = f" (and {len(refusals) - 1:,} more)" if len(refusals) > 1 else ""
    return PolicyRefusalError(refusals[0] + more, hint="`bundle inspect` lists all that a policy has against a bundle")


def combine(etc: Policy | None, signers: Path | None, user: Policy | None) -> Policies:
    """Put together what holds: the machine's policy, the signers that the command line names, the user's policy."""
    option = Policy(document="`--signers`", signers=signers) if signers else None
    return Policies(tuple(policy for policy in (etc, option, user) if policy))


def read_policies(etc: Path, user: Path, *, signers: Path | None = None) -> Policies:
    """Read the policies in the machine's folder and in the user's, either of which may have none.

    Raises `PolicyFileError` or `FileSystemError` where there is one that cannot be read: it might have asked for much.
    """
    return combine(_read_policy(etc / POLICY_NAME), signers, _read_policy(user / POLICY_NAME))


def _read_policy(path: Path) -> Policy | None:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise FileSystemError(f"{path} cannot be looked for: {error.strerror}") from error
    text = read_bounded(path, limit=MAX_POLICY_SIZE, failure=PolicyFileError)
    return parse_policy(text, path)


def parse_policy(text: bytes, path: Path) -> Policy:
    """Parse a policy that stands at `path`, from where the files that it names are looked for."""
    try:
        values = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise PolicyFileError(f"{path} is not readable TOML: {error}") from error
    fields = Fields(values, document=str(path), failure=PolicyFileError)
    fields.only(
        "require_signature", "signers", "revoked", "signer", "require_confirmed_identity", "require_agreeing_endpoints"
    )
    policy = Policy(
        document=str(path),
        require_signature=fields.flag("require_signature"),
        signers=fields.optional("signers", lambda name: _beside(path, name)),
        revoked=fields.optional("revoked", lambda name: _beside(path, name)),
        rules=tuple(_rule(rule) for rule in fields.objects("signer")),
        confirmed=fields.flag("require_confirmed_identity"),
        agreeing=fields.size("require_agreeing_endpoints") if fields.has("require_agreeing_endpoints") else 0,
    )
    _refuse_what_has_no_effect(fields, policy)
    return policy


def _beside(path: Path, name: str) -> Path:
    if not name or "\0" in name:
        raise ValueError("it names no file")
    return path.parent / name


def _rule(fields: Fields) -> SignerRule:
    fields.only("principal", "repos")
    repos = fields.texts("repos", str)
    if not repos:
        fields.refuse("repos", 'is missing or empty: `["*"]` lets the signer sign everything')
    return SignerRule(principal=fields.text("principal"), repos=repos)


def _refuse_what_has_no_effect(fields: Fields, policy: Policy) -> None:
    """Refuse a policy that would seem to protect, and would not."""
    if (policy.require_signature or policy.revoked) and policy.signers is None:
        # Else whoever names signers elsewhere could vouch for himself.
        fields.refuse("signers", "is missing: say whose signatures count")
    if policy.rules and not policy.require_signature:
        fields.refuse("signer", "has no effect without `require_signature = true`")
