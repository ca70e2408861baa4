"""Signatures and policies at the command line: what is refused, with which exit code, and who cannot talk it round."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.bundle_command import Result, bundle, succeed
from tests.bundles import Repo, flip_bit, make_bundle
from tests.faulty_hub import FaultyHubServer
from tests.gateway_side import Gateway
from tests.signers import ALICE, allow, make_key, public, sign, ssh_keygen

FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 1000}
GOOD_LINE = "{al} {alice}"


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """A bundle that nobody signed."""
    return make_bundle(tmp_path / "speech", repos=[Repo(id="org/a", files=FILES)])


@pytest.fixture
def alice(tmp_path: Path) -> Path:
    """A key."""
    return make_key(tmp_path, "alice")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home, with nothing in it."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return folder


pytestmark = pytest.mark.usefixtures("home")


def told(done: Result) -> Any:
    """Return what a command printed as JSON."""
    return json.loads(done.stdout)


def error_of(done: Result) -> str:
    """Return the error that a command ended with."""
    return next(line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: "))


def signers_of(key: Path, line: str = GOOD_LINE) -> Path:
    """Allow a key, as a line says it."""
    return allow(key.parent, line.format(al=ALICE, alice=public(key)))


# --- What is said, and with which exit code


def test_a_signed_bundle_is_verified_and_installed(speech: Path, alice: Path, tmp_path: Path) -> None:
    """Every command says who vouches for it and with which key, to people and to programs."""
    cache, signers = tmp_path / "hub", signers_of(alice)

    signed = told(succeed("sign", speech, "--key", alice, "--json"))
    said = [
        succeed(verb, speech, "--signers", signers, *more).stdout
        for verb, *more in (("inspect",), ("verify",), ("install", "--cache-dir", cache))
    ]
    verdicts = [
        told(succeed(verb, speech, "--signers", signers, "--json", *more))["signature"]
        for verb, *more in (("inspect",), ("verify",), ("install", "--cache-dir", cache))
    ]

    assert signed["signatures"] == [str(speech / "SHA256SUMS.sig")] and signed["key"].startswith("ED25519 key SHA256:")
    assert all(f"  signed by {ALICE}, {signed['key']}, allowed by {signers} on 2" in text for text in said)
    for verdict in verdicts:
        assert verdict.pop("checked_at").startswith("2")
        assert verdict == {
            "outcome": "good", "principals": [ALICE], "key": signed["key"], "detail": "", "signers": str(signers)}


def test_signing_says_what_was_signed(speech: Path, alice: Path) -> None:
    """The bundle, its identity, the key, and where the signature is."""
    said = succeed("sign", speech, "--key", alice).stdout.splitlines()

    assert said[0].startswith("signed speech, identity ") and len(said[0].split()[-1]) == 64
    assert said[1].startswith("  with ED25519 key SHA256:")
    assert said[2:] == [f"  in {speech}/SHA256SUMS.sig"]


def test_verify_tells_programs_who_told_what(speech: Path) -> None:
    """Each snapshot with its identity's witnesses."""
    snapshot, = told(bundle("verify", speech, "--json"))["snapshots"]

    assert (snapshot["id"], snapshot["type"], snapshot["refs"]) == ("org/a", "model", ["main"])
    assert (snapshot["told_by"], snapshot["agreed_by"], snapshot["differed"]) == ("https://hub.example", [], [])


Spoil = Callable[[Path, Path], tuple[object, ...]]
"""Prepares a bundle and a key, and returns the options for the command."""


def _mallory(speech: Path, alice: Path) -> tuple[object, ...]:
    sign(speech, make_key(alice.parent, "mallory"))
    return "--signers", signers_of(alice)


def _line(line: str) -> Spoil:
    def prepare(speech: Path, alice: Path) -> tuple[object, ...]:
        sign(speech, alice)
        return "--signers", signers_of(alice, line)
    return prepare


def _revoked(speech: Path, alice: Path) -> tuple[object, ...]:
    sign(speech, alice)
    ssh_keygen("-k", "-f", alice.parent / "revoked", alice.parent / "alice.pub")
    user_policy(alice.parent / "home", f'signers = "{signers_of(alice)}"\nrevoked = "{alice.parent / "revoked"}"\n')
    return ()


def _tampered(speech: Path, alice: Path) -> tuple[object, ...]:
    sign(speech, alice)
    flip_bit(speech / "SHA256SUMS", at=0)
    return "--signers", signers_of(alice)


def user_policy(home: Path, text: str, *, below: str = ".config") -> None:
    """Write the user's policy."""
    folder = home / below / "bundler"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.toml").write_text(text)


REFUSED: dict[str, tuple[Spoil, int, str]] = {
    "an unknown signer": (_mallory, 71, "signed by an UNKNOWN SIGNER"),
    "a key for other things": (_line('{al} namespaces="git" {alice}'), 72, "signed FOR ANOTHER PURPOSE"),
    "an expired key": (_line('{al} valid-before="20200101" {alice}'), 73, "OUTSIDE OF ITS TIME on 2"),
    "a revoked key": (_revoked, 74, "which is REVOKED (by "),
    "other bytes": (_tampered, 75, "NOT WHAT WAS SIGNED"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_signature_that_is_not_good_stops_every_use(speech: Path, alice: Path, tmp_path: Path, case: str) -> None:
    """Each with its exit code, whatever is said about unsigned ones; the cache is not even made."""
    prepare, code, words = REFUSED[case]
    options = prepare(speech, alice)

    verified = bundle("verify", speech, "--allow-unsigned", *options)
    installed = bundle("install", speech, "--cache-dir", tmp_path / "hub", *options)

    assert (verified.returncode, installed.returncode) == (code, code)
    assert words in error_of(verified) and words in error_of(installed)
    assert (code == 75) == (verified.stdout == "") and installed.stdout == ""
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize("case", [case for case in REFUSED if case != "other bytes"])
def test_inspect_says_what_it_found(speech: Path, alice: Path, case: str) -> None:
    """An officer sees the content and that its signature is not good."""
    prepare, _, words = REFUSED[case]
    options = prepare(speech, alice)

    said = succeed("inspect", speech, *options).stdout

    assert words in said and "model org/a" in said


def test_nobody_signed_it(speech: Path, alice: Path, tmp_path: Path) -> None:
    """70 for `verify` unless allowed, also with known signers; `install` goes on and says so."""
    signers = signers_of(alice)

    verified = bundle("verify", speech, "--signers", signers)
    allowed = bundle("verify", speech, "--signers", signers, "--allow-unsigned")
    installed = succeed("install", speech, "--signers", signers, "--cache-dir", tmp_path / "hub")

    assert (verified.returncode, allowed.returncode) == (70, 0)
    assert "NOT SIGNED: nobody vouches for it" in verified.stdout and "NOT SIGNED" in installed.stdout


def test_nobody_knows_whose_signatures_count(speech: Path, alice: Path, tmp_path: Path) -> None:
    """76 for `verify`, which no option takes back; `install` goes on, names the key and says that nobody checked it."""
    sign(speech, alice)

    verified = bundle("verify", speech, "--allow-unsigned")
    installed = succeed("install", speech, "--cache-dir", tmp_path / "hub")

    assert verified.returncode == 76
    assert "signed with ED25519 key SHA256:" in installed.stdout and "NOT CHECKED" in installed.stdout


def test_without_ssh_keygen_nothing_counts_as_checked(speech: Path, alice: Path, tmp_path: Path) -> None:
    """77 where a check was asked for; without that the bundle is said to be not checked."""
    sign(speech, alice)
    signers = signers_of(alice)
    no_programs = {"PATH": str(tmp_path / "nowhere")}

    asked = bundle("install", speech, "--signers", signers, "--cache-dir", tmp_path / "hub", variables=no_programs)
    assert not (tmp_path / "hub").exists()
    not_asked = bundle("install", speech, "--cache-dir", tmp_path / "hub", variables=no_programs)

    assert (asked.returncode, not_asked.returncode) == (77, 0)
    assert "CANNOT BE CHECKED" in error_of(asked) and "NOT CHECKED" in not_asked.stdout


def test_damage_below_a_good_signature_is_damage(speech: Path, alice: Path) -> None:
    """40, and both are told: who vouched, and what is broken."""
    sign(speech, alice)
    flip_bit(speech / "speech-001.tar", at=600)

    done = bundle("verify", speech, "--signers", signers_of(alice))

    assert done.returncode == 40
    assert f"signed by {ALICE}" in done.stdout and "damaged: speech-001.tar" in done.stdout


@pytest.mark.parametrize("verb", ["verify", "install", "inspect"])
def test_signers_that_are_not_there_are_a_usage_error(speech: Path, verb: str) -> None:
    """Exit code 2, before anything is read."""
    done = bundle(verb, speech, "--signers", "nowhere")

    assert done.returncode == 2 and "'nowhere' does not exist" in done.stderr


def test_a_policy_with_a_mistake_stops_everything(speech: Path, home: Path, tmp_path: Path) -> None:
    """79: it might have asked for much. The file and the field are named."""
    user_policy(home, "require_signatures = true\n")

    done = bundle("install", speech, "--cache-dir", tmp_path / "hub")

    assert done.returncode == 79
    assert error_of(done).startswith(f"{home}/.config/bundler/policy.toml: `require_signatures` is not a known field")
    assert not (tmp_path / "hub").exists()


def test_the_users_policy_is_where_users_keep_such_things(speech: Path, home: Path, tmp_path: Path) -> None:
    """Below XDG_CONFIG_HOME if that is set and absolute, else below ~/.config."""
    asks = f'require_signature = true\nsigners = "{allow(tmp_path)}"\n'

    user_policy(home, asks, below="elsewhere")
    codes = [
        bundle("install", speech, "--cache-dir", tmp_path / "hub", variables={"XDG_CONFIG_HOME": config}).returncode
        for config in (str(home / "elsewhere"), None, "elsewhere", "")
    ]
    user_policy(home, asks)
    codes += [
        bundle("install", speech, "--cache-dir", tmp_path / "hub", variables={"XDG_CONFIG_HOME": config}).returncode
        for config in (None, "", str(tmp_path / "nowhere"))
    ]

    assert codes == [70, 0, 0, 0, 70, 70, 0]


# --- The machine's policy, in a real /etc


@cache
def _own_mounts() -> tuple[str, ...]:
    for command in (("unshare", "--mount"), ("unshare", "--map-root-user", "--mount")):
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    raise AssertionError("nobody may mount here, and the tests of /etc need it")


class Machine:
    """A machine of whose /etc the tests may write a copy: commands `under` it see that one."""

    def __init__(self, folder: Path) -> None:
        self.etc = folder / "etc"
        self.bundler = self.etc / "bundler"
        self.bundler.mkdir(parents=True)
        for name in ("passwd", "group", "nsswitch.conf", "ld.so.cache"):
            if Path("/etc", name).exists():
                shutil.copy(Path("/etc", name), self.etc)

    @property
    def under(self) -> tuple[str, ...]:
        """The command that runs another one there."""
        return *_own_mounts(), "sh", "-c", 'mount --bind "$0" /etc && exec "$@"', str(self.etc)

    def demand(self, text: str, *, signers: str | None = None) -> None:
        """Write its policy, and the signers whom it allows."""
        (self.bundler / "policy.toml").write_text(text)
        if signers is not None:
            allow(self.bundler, signers)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine without a policy."""
    made = Machine(tmp_path / "machine")
    yield made
    made.bundler.chmod(0o755)


REQUIRED = 'require_signature = true\nsigners = "allowed_signers"\n'


def test_nothing_that_a_user_says_loosens_the_machines_policy(
    speech: Path, alice: Path, home: Path, machine: Machine, tmp_path: Path
) -> None:
    """Not a policy, not an option, not a variable; for unsigned bundles, and for those of the user's own signers."""
    machine.demand(REQUIRED, signers=f"{ALICE} {public(alice)}")
    mallory = make_key(tmp_path, "mallory")
    own = allow(tmp_path, f"{ALICE} {public(mallory)}")
    user_policy(home, f'require_signature = false\nsigners = "{own}"\n')
    variables = {"XDG_CONFIG_HOME": str(home / ".config"), "XDG_CONFIG_DIRS": str(home), "BUNDLER_ETC": str(home)}

    def codes() -> list[int]:
        return [
            bundle(*command, *more, under=machine.under, variables=variables).returncode
            for command in (
                ("install", speech, "--cache-dir", tmp_path / "hub"), ("verify", speech, "--allow-unsigned"))
            for more in ((), ("--signers", own))
        ]

    unsigned = codes()
    sign(speech, mallory)
    signed_by_mallory = codes()
    assert not (tmp_path / "hub").exists()
    sign(speech, alice)
    signed_by_alice = codes()

    assert (unsigned, signed_by_mallory, signed_by_alice) == ([70] * 4, [71] * 4, [0] * 4)


def test_the_users_policy_may_ask_for_more(
    speech: Path, alice: Path, home: Path, machine: Machine, tmp_path: Path
) -> None:
    """What the machine lets pass, the user's own policy may still refuse: 78, with all that is wrong in `inspect`."""
    machine.demand(REQUIRED, signers=f"{ALICE} {public(alice)}")
    user_policy(home, "require_confirmed_identity = true\n")
    sign(speech, alice)

    installed = bundle("install", speech, "--cache-dir", tmp_path / "hub", under=machine.under)
    verified = bundle("verify", speech, under=machine.under)
    inspected = succeed("inspect", speech, under=machine.under)

    reason = f"{home}/.config/bundler/policy.toml wants the official hub, or a second endpoint that it does not " \
        "contradict, to confirm org/a, which was told by https://hub.example alone"
    assert (installed.returncode, error_of(installed)) == (78, reason)
    assert (verified.returncode, error_of(verified)) == (78, reason)
    assert f"  REFUSED: {reason}" in inspected.stdout.splitlines()
    assert not (tmp_path / "hub").exists()


def test_a_signer_signs_what_is_his_and_no_more(speech: Path, alice: Path, machine: Machine, tmp_path: Path) -> None:
    """78 for a repository that the machine's policy does not give to the signer."""
    sign(speech, alice)
    rule = f'[[signer]]\nprincipal = "{ALICE}"\nrepos = ["other/*"]\n'

    machine.demand(REQUIRED + rule, signers=f"{ALICE} {public(alice)}")
    refused = bundle("install", speech, "--cache-dir", tmp_path / "hub", under=machine.under)
    machine.demand(REQUIRED + rule.replace("other", "org"))
    installed = bundle("install", speech, "--cache-dir", tmp_path / "hub", under=machine.under)

    assert (refused.returncode, installed.returncode) == (78, 0)
    assert error_of(refused) == f"/etc/bundler/policy.toml does not let {ALICE} sign org/a"


def test_a_policy_of_the_machine_that_a_user_may_not_read_is_not_overlooked(
    speech: Path, machine: Machine, tmp_path: Path
) -> None:
    """The folder is closed to the user: 62, and nothing is installed."""
    machine.demand(REQUIRED, signers="")
    os.chown(machine.bundler, 65534, 65534)
    machine.bundler.chmod(0o700)
    as_anybody = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")

    done = bundle("install", speech, "--cache-dir", tmp_path / "hub", under=(*machine.under, *as_anybody))

    assert (done.returncode, error_of(done)) == (62, "/etc/bundler/policy.toml cannot be looked for: Permission denied")
    assert not (tmp_path / "hub").exists()


# --- Building and signing at once


@pytest.fixture
def gateway(tmp_path: Path, hub: FaultyHubServer) -> Gateway:
    """A gateway, and on the hub what it shall fetch."""
    hub.publish("org/a", FILES)
    place = tmp_path / "gateway"
    place.mkdir()
    return Gateway(place)


def test_a_build_can_be_signed_at_once(hub: FaultyHubServer, gateway: Gateway, alice: Path) -> None:
    """The signature is the last thing written; a bundle that stands already is signed as well, and stays as it is."""
    manifest = gateway.manifest("org/a", hubs=(hub,))

    plain = gateway.build(manifest)
    before = {path.name: path.read_bytes() for path in gateway.bundle.iterdir()}
    signed = gateway.build(manifest, "--sign", str(alice), "--json")
    after = {path.name: path.read_bytes() for path in gateway.bundle.iterdir()}
    verified = succeed("verify", gateway.bundle, "--signers", signers_of(alice))

    assert (plain.returncode, signed.returncode) == (0, 0), signed.stderr
    assert told(signed)["signed_with"].startswith("ED25519 key SHA256:") and told(signed)["fresh"] is False
    assert after.pop("SHA256SUMS.sig") and after == before
    assert f"signed by {ALICE}" in verified.stdout


def test_a_fresh_build_is_signed(hub: FaultyHubServer, gateway: Gateway, alice: Path) -> None:
    """And says with which key; built anew, the old signature goes first."""
    manifest = gateway.manifest("org/a", hubs=(hub,))

    done = gateway.build(manifest, "--sign", str(alice))
    hub.publish("org/a", {**FILES, "config.json": b'{"new": 1}'})
    again = succeed("lock", manifest) and gateway.build(manifest, "--replace")

    assert done.returncode == 0 and "  signed with ED25519 key SHA256:" in done.stdout
    assert again.returncode == 0
    assert not (gateway.bundle / "SHA256SUMS.sig").exists()


def test_a_key_that_is_none_is_noticed_before_anything_is_fetched(
    hub: FaultyHubServer, gateway: Gateway, tmp_path: Path
) -> None:
    """Not on Monday, after a weekend of fetching: the hub is not even asked."""
    manifest = gateway.manifest("org/a", hubs=(hub,))
    (tmp_path / "text").write_text("no key")

    missing = gateway.build(manifest, "--sign", "nowhere")
    no_key = gateway.build(manifest, "--sign", str(tmp_path / "text"))

    assert (missing.returncode, no_key.returncode) == (2, 77)
    assert f"{tmp_path / 'text'} is not a key to sign with" in error_of(no_key)
    assert not hub.requests and not gateway.bundle.exists()


def test_a_bundle_is_whole_though_it_could_not_be_signed(
    hub: FaultyHubServer, gateway: Gateway, alice: Path, tmp_path: Path
) -> None:
    """Nobody has the private half: 77, the bundle stands, and `bundle sign` makes up for it."""
    manifest = gateway.manifest("org/a", hubs=(hub,))
    hidden = alice.rename(tmp_path / "hidden")

    done = gateway.build(manifest, "--sign", str(tmp_path / "alice.pub"))
    hidden.rename(alice)
    succeed("sign", gateway.bundle, "--key", alice)

    assert done.returncode == 77 and "is complete, signing it" in done.stderr
    assert succeed("verify", gateway.bundle, "--signers", signers_of(alice))
