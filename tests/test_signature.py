"""Signatures, made and judged by the real ssh-keygen: every way in which one is not good has a name of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bundler.errors import (
    BadSignatureError, BundlerError, DamagedBundleError, ExpiredSignerError, FileSystemError, PolicyFileError,
    RevokedSignerError, SshKeygenError, UncheckedSignatureError, UnknownSignerError, UnsignedError, WrongNamespaceError
)
from bundler.format.reader import open_bundle
from bundler.format.sign import sign_bundle
from bundler.format.signature import Keyring, check_signature
from bundler.format.verdict import Outcome, Verdict
from tests.bundles import Repo, flip_bit, make_bundle
from tests.signers import ALICE, allow, make_key, public, sign, ssh_keygen

ROOT = Path(__file__).parent.parent


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """A bundle that nobody signed."""
    return make_bundle(tmp_path / "speech", repos=[Repo(id="org/a", files={"config.json": b"{}"})])


@pytest.fixture
def alice(tmp_path: Path) -> Path:
    """A key."""
    return make_key(tmp_path, "alice")


def verdict_on(bundle: Path, signers: Path | None = None, *revoked: Path) -> Verdict:
    """Return what opening a bundle says of its signature."""
    return open_bundle((bundle,), Keyring(signers=signers, revoked=revoked)).verdict


def fingerprint(key: Path) -> str:
    """Return what `ssh-keygen -l` calls a key."""
    listed = subprocess.run(["ssh-keygen", "-l", "-f", key], capture_output=True, text=True, check=True)
    return listed.stdout.split()[1]


# --- Good signatures


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_signature_of_an_allowed_key_is_good(speech: Path, tmp_path: Path, kind: str) -> None:
    """Who it is, with which key, by whose word, and at what time by this machine's clock."""
    key = make_key(tmp_path, "key", kind=kind)
    signers = allow(tmp_path, f"{ALICE},al@example.com {public(key)}")

    report = sign_bundle((speech,), key)
    before, verdict, after = datetime.now(UTC), verdict_on(speech, signers), datetime.now(UTC)

    assert verdict.outcome is Outcome.GOOD
    assert verdict.principals == (ALICE, "al@example.com")
    assert verdict.key == report.key == f"{kind.upper()} key {fingerprint(key)}"
    assert verdict.signers == signers
    assert verdict.checked_at is not None and before <= verdict.checked_at <= after
    assert f"{verdict.checked_at:%Y-%m-%d %H:%M} UTC by this machine's clock" in str(verdict)


def test_signing_touches_nothing_but_the_signature(speech: Path, alice: Path) -> None:
    """SHA256SUMS and all that it proves stay byte for byte; an older signature is replaced."""
    before = {path.name: path.read_bytes() for path in speech.iterdir()}
    (speech / "SHA256SUMS.sig").write_text("older")

    sign_bundle((speech,), alice)

    after = {path.name: path.read_bytes() for path in speech.iterdir()}
    assert after.pop("SHA256SUMS.sig").startswith(b"-----BEGIN SSH SIGNATURE-----")
    assert after == before


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A running ssh-agent, which programs find as they find the user's."""
    socket = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as process:
        try:
            while not socket.exists():
                assert process.poll() is None
                time.sleep(0.01)
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
            yield
        finally:
            process.send_signal(signal.SIGTERM)


@pytest.mark.usefixtures("agent")
def test_an_agent_signs_for_a_public_key(speech: Path, alice: Path, tmp_path: Path) -> None:
    """The private half need not be on the gateway."""
    subprocess.run(["ssh-add", "-q", alice], check=True)
    alice.unlink()

    sign_bundle((speech,), tmp_path / "alice.pub")

    verdict = verdict_on(speech, allow(tmp_path, f"{ALICE} {public(alice)}"))
    assert (verdict.outcome, verdict.principals) == (Outcome.GOOD, (ALICE,))


def certify(folder: Path, key: Path, *options: str) -> Path:
    """Return the certificate of a new authority `ca` for a key."""
    make_key(folder, "ca")
    ssh_keygen("-s", folder / "ca", "-I", "a certificate", *options, key.with_name(f"{key.name}.pub"))
    return key.with_name(f"{key.name}-cert.pub")


def test_a_certificate_of_an_allowed_authority_is_good(speech: Path, alice: Path, tmp_path: Path) -> None:
    """The names that both the certificate and the allowed signers give are the signer's."""
    certificate = certify(tmp_path, alice, "-n", f"{ALICE},alice@elsewhere.org")
    sign_bundle((speech,), certificate)

    verdict = verdict_on(speech, allow(tmp_path, f"*@example.com cert-authority {public(tmp_path / 'ca')}"))
    other = verdict_on(speech, allow(tmp_path, f"*@example.com {public(tmp_path / 'ca')}"))

    assert (verdict.outcome, verdict.principals) == (Outcome.GOOD, (ALICE,))
    assert verdict.key == f"ED25519-CERT key {fingerprint(alice)}"
    assert other.outcome is Outcome.UNKNOWN_SIGNER, "a key that is no authority vouches for no other"


def test_a_key_that_is_allowed_for_bundles_among_others_is_good(speech: Path, alice: Path, tmp_path: Path) -> None:
    """A list of namespaces, and a second line of the same signer."""
    sign(speech, alice)

    listed = verdict_on(speech, allow(tmp_path, f'{ALICE} namespaces="git,bundler-v1" {public(alice)}'))
    second = verdict_on(speech, allow(
        tmp_path, f'{ALICE} namespaces="git" {public(alice)}', f'{ALICE} namespaces="bundler-*" {public(alice)}'))

    assert (listed.outcome, second.outcome) == (Outcome.GOOD, Outcome.GOOD)


def test_a_line_says_whom_it_is_not_for(speech: Path, alice: Path, tmp_path: Path) -> None:
    """Names with `!` are no names of the signer."""
    sign(speech, alice)

    verdict = verdict_on(speech, allow(tmp_path, f"{ALICE},!mallory@example.com {public(alice)}"))

    assert verdict.principals == (ALICE,)


def test_the_signature_on_one_stick_is_enough(speech: Path, alice: Path, tmp_path: Path) -> None:
    """On whichever; on several it must be the same."""
    signature = sign(speech, alice)
    signers = allow(tmp_path, f"{ALICE} {public(alice)}")
    second = tmp_path / "second"
    shutil.copytree(speech, second)
    signature.unlink()

    only_second = open_bundle((speech, second), Keyring(signers=signers)).verdict
    signature.write_bytes((second / signature.name).read_bytes() + b"\n")

    assert only_second.outcome is Outcome.GOOD
    with pytest.raises(BadSignatureError, match="SHA256SUMS.sig and .*SHA256SUMS.sig differ"):
        open_bundle((speech, second), Keyring(signers=signers))


def test_every_stick_is_signed(speech: Path, alice: Path, tmp_path: Path) -> None:
    """Each that carries SHA256SUMS, with the same bytes."""
    second = shutil.copytree(speech, tmp_path / "second")
    third = tmp_path / "third"
    third.mkdir()

    report = sign_bundle((speech, second, third), alice)

    assert report.signatures == (speech / "SHA256SUMS.sig", second / "SHA256SUMS.sig")
    assert len({path.read_bytes() for path in report.signatures}) == 1
    assert list(third.iterdir()) == []


def test_the_command_in_the_bundles_readme_accepts_it(speech: Path, alice: Path, tmp_path: Path) -> None:
    """By hand, without this program, as README.txt says it; and no other SHA256SUMS."""
    sign_bundle((speech,), alice)
    signers = allow(tmp_path, f"{ALICE} {public(alice)}")
    match = re.search(r"^    (ssh-keygen .*\\\n.*)$", (speech / "README.txt").read_text(), re.MULTILINE)
    assert match is not None
    command = match[1].replace("ALLOWED_SIGNERS", str(signers)).replace("SIGNER", ALICE)

    good = subprocess.run(["sh", "-c", command], cwd=speech, capture_output=True, text=True)
    flip_bit(speech / "SHA256SUMS", at=0)
    bad = subprocess.run(["sh", "-c", command], cwd=speech, capture_output=True, text=True)

    assert (good.returncode, bad.returncode) == (0, 255)
    assert good.stdout.startswith(f'Good "bundler-v1" signature for {ALICE} with ED25519 key SHA256:')


# --- Those that are not


def _signed_by(line: str) -> Callable[[Path, Path], Keyring]:
    def prepare(bundle: Path, key: Path) -> Keyring:
        sign(bundle, key)
        return Keyring(signers=allow(key.parent, line.format(alice=public(key), al=ALICE)))
    return prepare


def _unsigned(bundle: Path, key: Path) -> Keyring:
    return Keyring(signers=allow(key.parent, f"{ALICE} {public(key)}"))


def _not_checked(bundle: Path, key: Path) -> Keyring:
    sign(bundle, key)
    return Keyring()


def _of_another(bundle: Path, key: Path) -> Keyring:
    sign(bundle, make_key(key.parent, "mallory"))
    return Keyring(signers=allow(key.parent, f"{ALICE} {public(key)}"))


def _for_git(bundle: Path, key: Path) -> Keyring:
    sign(bundle, key, namespace="git")
    return Keyring(signers=allow(key.parent, f"{ALICE} {public(key)}"))


def _by_certificate(*options: str) -> Callable[[Path, Path], Keyring]:
    def prepare(bundle: Path, key: Path) -> Keyring:
        sign(bundle, certify(key.parent, key, *options))
        return Keyring(signers=allow(key.parent, f"*@example.com cert-authority {public(key.parent / 'ca')}"))
    return prepare


def _revoked_by(*options: str, certified: bool = False) -> Callable[[Path, Path], Keyring]:
    def prepare(bundle: Path, key: Path) -> Keyring:
        prepared = _by_certificate("-n", ALICE) if certified else _signed_by("{al} {alice}")
        keyring, folder = prepared(bundle, key), key.parent
        given = [option.format(folder=folder) for option in options]
        if given:
            ssh_keygen("-k", "-f", folder / "revoked", *given)
        else:
            shutil.copy(folder / "alice.pub", folder / "revoked")
        return Keyring(signers=keyring.signers, revoked=(folder / "revoked",))
    return prepare


REFUSED: dict[str, tuple[Callable[[Path, Path], Keyring], Outcome, type[BundlerError], str]] = {
    "no signature": (_unsigned, Outcome.UNSIGNED, UnsignedError, "NOT SIGNED"),
    "no signers known": (_not_checked, Outcome.NOT_CHECKED, UncheckedSignatureError, "NOT CHECKED"),
    "an unknown key": (_of_another, Outcome.UNKNOWN_SIGNER, UnknownSignerError, "UNKNOWN SIGNER with ED25519 key SHA"),
    "no signers at all": (_signed_by(""), Outcome.UNKNOWN_SIGNER, UnknownSignerError, "UNKNOWN SIGNER"),
    "signers that are none": (_signed_by("\0\xff"), Outcome.UNKNOWN_SIGNER, UnknownSignerError, "UNKNOWN SIGNER"),
    "a line that is misspelled": (
        _signed_by("{al} namespace=git {alice}"), Outcome.UNKNOWN_SIGNER, UnknownSignerError, "bad options: unknown"),
    "a certificate for nobody": (
        _by_certificate(), Outcome.UNKNOWN_SIGNER, UnknownSignerError, "UNKNOWN SIGNER with ED25519-CERT"),
    "a certificate for another": (
        _by_certificate("-n", "alice@elsewhere.org"), Outcome.UNKNOWN_SIGNER, UnknownSignerError, "UNKNOWN SIGNER"),
    "a key for other things": (
        _signed_by('{al} namespaces="git,file" {alice}'), Outcome.WRONG_NAMESPACE, WrongNamespaceError,
        'not permitted for use in signature namespace "bundler-v1"'),
    "a signature of another thing": (
        _for_git, Outcome.WRONG_NAMESPACE, WrongNamespaceError, "namespace does not match"),
    "a key of the past": (
        _signed_by('{al} valid-before="20200101" {alice}'), Outcome.EXPIRED, ExpiredSignerError,
        "> valid-before 2020-01-01T00:00:00"),
    "a key of the future": (
        _signed_by('{al} valid-after="20990101" {alice}'), Outcome.EXPIRED, ExpiredSignerError, "not yet valid"),
    "a certificate of the past": (
        _by_certificate("-n", ALICE, "-V", "20190101:20200101"), Outcome.EXPIRED, ExpiredSignerError, "expired"),
    "a certificate of the future": (
        _by_certificate("-n", ALICE, "-V", "20980101:20990101"), Outcome.EXPIRED, ExpiredSignerError, "not yet valid"),
    "a revoked key": (_revoked_by(), Outcome.REVOKED, RevokedSignerError, "/revoked)"),
    "a key in a revocation list": (
        _revoked_by("{folder}/alice.pub"), Outcome.REVOKED, RevokedSignerError, "/revoked)"),
    "a certificate in a revocation list": (
        _revoked_by("-s", "{folder}/ca.pub", "{folder}/alice-cert.pub", certified=True), Outcome.REVOKED,
        RevokedSignerError, "/revoked)"),
    "a certificate of a revoked authority": (
        _revoked_by("{folder}/ca.pub", certified=True), Outcome.REVOKED, RevokedSignerError, "/revoked)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_each_way_not_to_be_good_has_a_name(speech: Path, alice: Path, case: str) -> None:
    """An outcome and an error of its own, with what ssh-keygen said; nobody is called the signer."""
    prepare, outcome, error, words = REFUSED[case]
    keyring = prepare(speech, alice)

    verdict = open_bundle((speech,), keyring).verdict

    assert (verdict.outcome, verdict.good, verdict.principals) == (outcome, False, ())
    assert words in str(verdict)
    assert type(verdict.failure()) is error
    assert verdict.failure().hint


def test_an_expired_key_is_told_with_this_machines_clock(speech: Path, alice: Path) -> None:
    """A server whose clock is wrong is found out by its operator."""
    keyring = _signed_by('{al} valid-before="20200101" {alice}')(speech, alice)

    failure = open_bundle((speech,), keyring).verdict.failure()

    assert f"{datetime.now(UTC):%Y-%m-%d}" in str(failure) and "by this machine's clock" in str(failure)


def test_a_key_that_others_lost_is_still_good(speech: Path, alice: Path, tmp_path: Path) -> None:
    """A revocation list that names another key, and an empty one."""
    sign(speech, alice)
    make_key(tmp_path, "bob")
    ssh_keygen("-k", "-f", tmp_path / "list", tmp_path / "bob.pub")
    (tmp_path / "empty").touch()

    verdict = verdict_on(speech, allow(tmp_path, f"{ALICE} {public(alice)}"), tmp_path / "list", tmp_path / "empty")

    assert verdict.outcome is Outcome.GOOD


@pytest.mark.parametrize("content", [b"SSHKRL\n\0", b"no key at all\n"])
def test_a_revocation_list_that_is_none_revokes_trust(
    speech: Path, alice: Path, tmp_path: Path, content: bytes
) -> None:
    """Neither good nor revoked: the list is named, and nothing goes on."""
    sign(speech, alice)
    (tmp_path / "revoked").write_bytes(content)

    with pytest.raises(PolicyFileError, match="revoked is not a list of revoked keys"):
        verdict_on(speech, allow(tmp_path, f"{ALICE} {public(alice)}"), tmp_path / "revoked")


def test_signers_that_cannot_be_read_are_named(speech: Path, alice: Path, tmp_path: Path) -> None:
    """Missing, a folder, or without end."""
    sign(speech, alice)
    (tmp_path / "folder").mkdir()

    for signers, error, words in (
        (tmp_path / "nowhere", FileSystemError, "nowhere cannot be read"),
        (tmp_path / "folder", FileSystemError, "folder cannot be read"),
        (Path("/dev/zero"), PolicyFileError, "/dev/zero is larger than"),
    ):
        with pytest.raises(error, match=words):
            verdict_on(speech, signers)


TAMPERED: dict[str, Callable[[Path, Path], object]] = {
    "a changed digest": lambda sums, signature: flip_bit(sums, at=3),
    "cut sums": lambda sums, signature: sums.write_bytes(sums.read_bytes()[:-1]),
    "sums that are none": lambda sums, signature: sums.write_bytes(b"\xff\0"),
    "an added line": lambda sums, signature: sums.write_bytes(sums.read_bytes() + b"0" * 64 + b"  zzz\n"),
    "a changed signature": lambda sums, signature: flip_bit(signature, at=signature.stat().st_size // 2),
    "a cut signature": lambda sums, signature: signature.write_bytes(signature.read_bytes()[:100]),
    "an empty signature": lambda sums, signature: signature.write_bytes(b""),
    "a signature that is none": lambda sums, signature: signature.write_bytes(b"\0\xffanything\n" * 1000),
}


@pytest.mark.parametrize("damage", TAMPERED)
@pytest.mark.parametrize("known", [True, False], ids=["signers known", "no signers known"])
def test_a_signature_of_other_bytes_stops_before_anything_is_parsed(
    speech: Path, alice: Path, damage: str, known: bool
) -> None:
    """Whatever stands in SHA256SUMS then: it is not even found out. No signers need be known for that."""
    signature = sign(speech, alice)
    keyring = Keyring(signers=allow(alice.parent, f"{ALICE} {public(alice)}") if known else None)
    TAMPERED[damage](speech / "SHA256SUMS", signature)

    with pytest.raises(BadSignatureError, match="NOT WHAT WAS SIGNED"):
        open_bundle((speech,), keyring)


def test_below_a_good_signature_damage_is_damage(speech: Path, alice: Path, tmp_path: Path) -> None:
    """The index is held against the sums that were signed, and not parsed before."""
    sign(speech, alice)
    (speech / "index.json").write_text("{")

    with pytest.raises(DamagedBundleError, match="index.json has the SHA-256"):
        verdict_on(speech, allow(tmp_path, f"{ALICE} {public(alice)}"))


def test_a_huge_signature_is_not_read(speech: Path, alice: Path) -> None:
    """A sparse file of terabytes takes no memory; nor does it take the place of a small one."""
    with sign(speech, alice).open("wb") as stream:
        stream.truncate(1 << 40)

    with pytest.raises(BadSignatureError, match="SHA256SUMS.sig is larger than the 65,536 bytes"):
        verdict_on(speech)


def test_a_verdict_can_stop_before_anything_is_parsed(speech: Path, tmp_path: Path) -> None:
    """Whoever admits a bundle sees the verdict first: the sums here are none, and nobody noticed."""
    (speech / "SHA256SUMS").write_text("no sums")

    def admit(verdict: Verdict) -> None:
        raise verdict.failure()

    with pytest.raises(UnsignedError):
        open_bundle((speech,), admit=admit)


# --- No ssh-keygen


@pytest.fixture
def bare_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, with no program in it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_without_ssh_keygen_nothing_is_good(
    speech: Path, alice: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With known signers it is told that the check is not possible, without them that there was none."""
    sign(speech, alice)
    signers = allow(tmp_path, f"{ALICE} {public(alice)}")
    request.getfixturevalue("bare_path")

    asked, not_asked = verdict_on(speech, signers), verdict_on(speech)

    assert (asked.outcome, not_asked.outcome) == (Outcome.NO_TOOL, Outcome.NOT_CHECKED)
    assert type(asked.failure()) is SshKeygenError and "OpenSSH" in asked.failure().hint


def test_an_ssh_keygen_that_is_too_old_is_none(
    speech: Path, alice: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One from before signatures prints how it is used: the bundle is not blamed for that."""
    sign(speech, alice)
    signers = allow(tmp_path, f"{ALICE} {public(alice)}")
    old = request.getfixturevalue("bare_path") / "ssh-keygen"
    old.write_text("#!/bin/sh\necho 'unknown option -- Y' >&2\nexit 1\n")
    old.chmod(0o755)

    assert verdict_on(speech, signers).outcome is Outcome.NO_TOOL


@pytest.mark.usefixtures("bare_path")
def test_signing_without_ssh_keygen_says_what_is_missing(speech: Path, tmp_path: Path) -> None:
    """And leaves no signature."""
    with pytest.raises(SshKeygenError, match="there is no ssh-keygen"):
        sign_bundle((speech,), tmp_path / "key")

    assert not (speech / "SHA256SUMS.sig").exists()


# --- Signing what cannot be signed


def test_a_key_that_cannot_sign_leaves_the_old_signature(
    speech: Path, alice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key at all, a public one of which nobody has the other half, one whose passphrase nobody types."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("SSH_ASKPASS", "/bin/false")
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    before = sign(speech, alice).read_bytes()
    (tmp_path / "text").write_text("no key")
    lonely, locked = make_key(tmp_path, "lonely"), tmp_path / "locked"
    lonely.unlink()
    ssh_keygen("-t", "ed25519", "-N", "a secret", "-f", locked)

    for key in (tmp_path / "text", tmp_path / "lonely.pub", locked, tmp_path / "nowhere"):
        with pytest.raises(SshKeygenError, match=str(key)):
            sign_bundle((speech,), key)

    assert (speech / "SHA256SUMS.sig").read_bytes() == before
    assert not [path for path in speech.iterdir() if path.name.endswith(".tmp")]


def test_what_is_no_bundle_is_not_signed(speech: Path, alice: Path) -> None:
    """Sums that do not name this index would make the signer vouch for nothing."""
    flip_bit(speech / "index.json", at=30)

    with pytest.raises(DamagedBundleError):
        sign_bundle((speech,), alice)

    assert not (speech / "SHA256SUMS.sig").exists()


def test_nothing_is_left_behind(speech: Path, alice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is handed to ssh-keygen stands in a temporary folder, which is gone afterwards."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", os.fspath(temporary))

    sums = (speech / "SHA256SUMS").read_bytes()
    signature = sign(speech, alice).read_bytes()
    check_signature(sums, signature, Keyring(signers=allow(tmp_path, f"{ALICE} {public(alice)}")))
    sign_bundle((speech,), alice)

    assert list(temporary.iterdir()) == []
