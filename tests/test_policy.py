"""Policies: what a machine asks of a bundle, nobody takes back; what its user asks comes on top."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.errors import (
    BundlerError, FileSystemError, PolicyFileError, PolicyRefusalError, UnknownSignerError, UnsignedError
)
from bundler.format.index import Snapshot
from bundler.format.policy import Policies, Policy, SignerRule, combine, open_approved, parse_policy, read_policies
from bundler.format.signature import Keyring
from bundler.format.verdict import Outcome, Verdict
from bundler.lock import Identity
from bundler.manifest import EndpointUrl
from tests.bundles import Repo, make_bundle
from tests.signers import ALICE, allow, make_key, public, sign

ROOT = Path(__file__).parent.parent
BOB = "bob@example.com"
MIRROR, OTHER, HUB = (EndpointUrl(f"https://{host}") for host in ("mirror.example", "other.example", "huggingface.co"))
GOOD = Verdict(outcome=Outcome.GOOD, principals=(ALICE,))
ETC, USER = Path("/etc/bundler/policy.toml"), Path("/home/me/.config/bundler/policy.toml")
SIGNED = 'require_signature = true\nsigners = "allowed"\n'


def policy(text: str, path: Path = ETC) -> Policy:
    """Parse a policy."""
    return parse_policy(text.encode(), path)


def snapshot(
    name: str = "org/a", *, told_by: EndpointUrl = MIRROR, agreed_by: tuple[EndpointUrl, ...] = ()
) -> Snapshot:
    """Return a snapshot as an index has it."""
    plain = Repo(id=name, files={}).snapshot
    return Snapshot(
        repo=plain.repo, commit=plain.commit, refs=(), identity=Identity(told_by=told_by, agreed_by=agreed_by), files=()
    )


def refusals(asked: Policy, *snapshots: Snapshot, verdict: Verdict = GOOD) -> list[str]:
    """Return what a policy has against a bundle."""
    return list(asked.refusals(verdict, snapshots))


# --- What a policy says


def test_a_policy_says_all_that_it_can() -> None:
    """Files are looked for beside it."""
    parsed = policy(
        'require_signature = true\nsigners = "allowed_signers"\nrevoked = "/srv/revoked"\n'
        "require_confirmed_identity = true\nrequire_agreeing_endpoints = 2\n"
        '[[signer]]\nprincipal = "alice@example.com"\nrepos = ["org/*", "other/b"]\n'
    )

    assert parsed == Policy(
        document="/etc/bundler/policy.toml",
        require_signature=True,
        signers=Path("/etc/bundler/allowed_signers"),
        revoked=Path("/srv/revoked"),
        rules=(SignerRule(principal=ALICE, repos=("org/*", "other/b")),),
        confirmed=True,
        agreeing=2,
    )


def test_an_empty_policy_asks_for_nothing() -> None:
    """And refuses nothing."""
    assert policy("") == Policy(document=str(ETC))
    assert refusals(policy(""), snapshot(), verdict=Verdict(outcome=Outcome.UNSIGNED)) == []


def test_the_policy_in_the_readme_is_one() -> None:
    """What people copy from there is understood."""
    shown = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)

    parsed, = (policy(text) for text in shown if "require_signature" in text)

    assert parsed.require_signature and parsed.signers and parsed.revoked and parsed.rules and parsed.confirmed


@pytest.mark.parametrize("text, error", [
    ("require_signature = ", "is not readable TOML"),
    ("\0", "is not readable TOML"),
    ("a = " + "[" * 5000, "is not readable TOML"),
    ("require_signatures = true", "`require_signatures` is not a known field"),
    ('require_signature = "yes"\nsigners = "a"', "`require_signature` is neither true nor false"),
    ("require_signature = 1\nsigners = \"a\"", "`require_signature` is neither true nor false"),
    ("require_signature = true", "`signers` is missing"),
    ('revoked = "revoked"', "`signers` is missing"),
    ('signers = ""', "`signers` is not valid"),
    ("signers = 7", "`signers` is not text"),
    ('signers = "a\\u0000"', "`signers` is not valid"),
    ('signers = "a"\n[[signer]]\nprincipal = "x"\nrepos = ["*"]', "`signer` has no effect without"),
    (SIGNED + '[[signer]]\nprincipal = "x"', "`signer[0].repos` is missing or empty"),
    (SIGNED + '[[signer]]\nrepos = ["*"]', "`signer[0].principal` is missing"),
    (SIGNED + '[[signer]]\nprincipal = "x"\nrepos = "*"', "`signer[0].repos` is not a list"),
    (SIGNED + '[[signer]]\nprincipal = "x"\nrepo = ["*"]', "`signer[0].repo` is not a known field"),
    ("require_agreeing_endpoints = -1", "`require_agreeing_endpoints` is not a whole number"),
    ("require_agreeing_endpoints = true", "`require_agreeing_endpoints` is not a whole number"),
    ("require_confirmed_identity = 2", "`require_confirmed_identity` is neither true nor false"),
])
def test_a_policy_without_meaning_is_refused(text: str, error: str) -> None:
    """Also one that would seem to protect and would not; file and field are named."""
    with pytest.raises(PolicyFileError) as caught:
        policy(text)

    assert str(caught.value).startswith(str(ETC)) and error in str(caught.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_policy_or_refused(text: bytes) -> None:
    """Nothing but the one error."""
    try:
        parse_policy(text, ETC)
    except PolicyFileError:
        pass


# --- What it refuses


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.GOOD])
def test_only_a_good_signature_is_one(outcome: Outcome) -> None:
    """Where one is required, each other outcome is refused."""
    required = Policies((policy(SIGNED),))

    assert required.objection(GOOD) is None
    assert required.objection(Verdict(outcome=outcome)) is not None
    assert refusals(policy(SIGNED), verdict=Verdict(outcome=outcome)) == [f"{ETC} requires a good signature"]


@pytest.mark.parametrize("outcome", Outcome)
def test_without_a_policy_a_signature_may_be_missing_and_not_wrong(outcome: Outcome) -> None:
    """No signature, or nobody to say whose count, passes; any that was found wanting does not."""
    objection = Policies().objection(Verdict(outcome=outcome))

    passes = outcome in (Outcome.GOOD, Outcome.UNSIGNED, Outcome.NOT_CHECKED)
    assert (objection is None) == passes
    assert passes or 71 <= type(objection).exit_code <= 77  # type: ignore[union-attr]  # `passes` tells


@pytest.mark.parametrize("principals, repo, allowed", [
    ((ALICE,), "org/a", True),
    ((ALICE,), "Org/a", False),
    ((ALICE,), "other/a", False),
    ((ALICE,), "evil-org/a", False),
    ((ALICE,), "gpt2", False),
    ((BOB,), "org/a", False),
    ((BOB,), "gpt2", True),
    ((BOB, ALICE), "org/a", True),
    (("alice@example.com.evil",), "org/a", False),
    (("*@example.com",), "org/a", False),
])
def test_a_signer_signs_the_repositories_that_are_his(principals: tuple[str, ...], repo: str, allowed: bool) -> None:
    """By the very name and by pattern, case and all."""
    ruled = policy(
        SIGNED + f'[[signer]]\nprincipal = "{ALICE}"\nrepos = ["org/*"]\n'
        f'[[signer]]\nprincipal = "{BOB}"\nrepos = ["gpt2"]\n'
    )

    found = refusals(ruled, snapshot(repo), verdict=Verdict(outcome=Outcome.GOOD, principals=principals))

    expected = [] if allowed else [f"{ETC} does not let {' or '.join(principals)} sign {repo}"]
    assert found == expected


def test_every_repository_that_a_signer_may_not_sign_is_named() -> None:
    """One bundle may hold many; one too many is enough to refuse it."""
    ruled = policy(SIGNED + f'[[signer]]\nprincipal = "{ALICE}"\nrepos = ["org/*"]\n')

    found = refusals(ruled, snapshot("org/a"), snapshot("evil/a"), snapshot("evil/b"))

    assert [text.rpartition(" ")[2] for text in found] == ["evil/a", "evil/b"]


@pytest.mark.parametrize("told_by, agreed_by, confirmed, one, two", [
    (MIRROR, (), False, False, False),
    (MIRROR, (OTHER,), True, True, False),
    (MIRROR, (OTHER, HUB), True, True, True),
    (HUB, (), True, False, False),
    (HUB, (MIRROR,), True, True, False),
    (MIRROR, (HUB,), True, True, False),
    (MIRROR, (MIRROR,), False, False, False),
    (MIRROR, (OTHER, OTHER), True, True, False),
])
def test_an_identity_can_be_asked_to_be_confirmed(
    told_by: EndpointUrl, agreed_by: tuple[EndpointUrl, ...], confirmed: bool, one: bool, two: bool
) -> None:
    """By the official hub or a second endpoint; or by a number of others, whoever told it."""
    content = snapshot(told_by=told_by, agreed_by=agreed_by)

    passes = [
        refusals(policy(text), content) == []
        for text in ("require_confirmed_identity = true", *(f"require_agreeing_endpoints = {n}" for n in (1, 2)))
    ]

    assert passes == [confirmed, one, two]


def test_an_identity_that_the_official_hub_contradicts_is_not_confirmed() -> None:
    """Two mirrors may agree on what the hub does not have; that another mirror lags behind is no contradiction."""
    asked = policy("require_confirmed_identity = true")
    third = EndpointUrl("https://third.example")

    found = [
        refusals(asked, replace(
            snapshot(), identity=Identity(told_by=MIRROR, agreed_by=(OTHER,), differed=(differed,))))
        for differed in (HUB, third)
    ]

    assert [len(texts) for texts in found] == [1, 0]
    assert f"differed: {HUB}" in found[0][0]


def test_what_is_refused_is_told_with_who_said_it() -> None:
    """The officer reads which policy wants what of which repository, and what there is."""
    text, = refusals(policy("require_agreeing_endpoints = 2"), snapshot(agreed_by=(OTHER,)))

    assert text == (
        f"{ETC} wants 2 more endpoints to agree on org/a, which was told by {MIRROR} (agreed: {OTHER})")


# --- Several policies


@pytest.mark.parametrize("etc, option, user, counts", [
    ("/etc/s", "/o", "/u/s", "/etc/s"),
    ("/etc/s", None, "/u/s", "/etc/s"),
    ("/etc/s", "/o", None, "/etc/s"),
    (None, "/o", "/u/s", "/o"),
    (None, None, "/u/s", "/u/s"),
    (None, None, None, None),
])
def test_the_machine_says_whose_signatures_count(
    etc: str | None, option: str | None, user: str | None, counts: str | None
) -> None:
    """If it names signers, no option and no user's policy names others; else the option goes before the user's."""
    etc_policy, user_policy = (
        policy(f'signers = "{name}"' if name else "", path) for name, path in ((etc, ETC), (user, USER)))

    found = combine(etc_policy, Path(option) if option else None, user_policy).keyring

    assert found.signers == (Path(counts) if counts else None)


def test_revoked_is_who_is_revoked_by_any() -> None:
    """The user's list comes on top of the machine's."""
    etc, user = (policy('signers = "s"\nrevoked = "r"', path) for path in (ETC, USER))

    assert combine(etc, None, user).keyring == Keyring(
        signers=ETC.parent / "s", revoked=(ETC.parent / "r", USER.parent / "r"))


TEXTS = {
    "nothing": "",
    "a signature": SIGNED,
    "alice for org": SIGNED + f'[[signer]]\nprincipal = "{ALICE}"\nrepos = ["org/*"]\n',
    "bob for all": SIGNED + f'[[signer]]\nprincipal = "{BOB}"\nrepos = ["*"]\n',
    "all for all": SIGNED + "".join(f'[[signer]]\nprincipal = "{who}"\nrepos = ["*"]\n' for who in (ALICE, BOB)),
    "a confirmed identity": "require_confirmed_identity = true",
    "two more endpoints": "require_agreeing_endpoints = 2",
    "no endpoints": "require_agreeing_endpoints = 0\nrequire_confirmed_identity = false\nrequire_signature = false",
}
BUNDLES = [
    (verdict, content)
    for verdict in (
        GOOD, Verdict(outcome=Outcome.GOOD, principals=(BOB,)),
        *(Verdict(outcome=outcome) for outcome in Outcome if outcome is not Outcome.GOOD))
    for content in (snapshot(), snapshot("other/a"), snapshot(agreed_by=(OTHER,)), snapshot(agreed_by=(OTHER, HUB)))
]


def passes(policies: Policies, verdict: Verdict, content: Snapshot) -> bool:
    """Say whether a bundle can be installed."""
    refused = [text for each in policies.all for text in each.refusals(verdict, (content,))]
    return policies.objection(verdict) is None and not refused


@pytest.mark.parametrize("etc, user", list(product(TEXTS, TEXTS)))
@pytest.mark.parametrize("option", [None, Path("/o")], ids=["no option", "with --signers"])
def test_no_policy_loosens_another(etc: str, user: str, option: Path | None) -> None:
    """What passes both together passes each of them alone; and what passes each, passes both."""
    machine, own = policy(TEXTS[etc]), policy(TEXTS[user], USER)

    for verdict, content in BUNDLES:
        together = passes(combine(machine, option, own), verdict, content)

        alone = [passes(Policies((each,)), verdict, content) for each in (machine, own)]
        assert together == all(alone)


# --- Files and bundles


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The machine's folder and the user's, with nothing in them."""
    etc, user = tmp_path / "etc", tmp_path / "user"
    etc.mkdir()
    user.mkdir()
    return etc, user


def test_no_policy_is_no_policy(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Folders that are not there, are empty, or are no folders."""
    (tmp_path / "file").touch()

    assert read_policies(*folders) == Policies()
    assert read_policies(tmp_path / "nowhere", tmp_path / "file") == Policies()


@pytest.mark.parametrize("name", ["etc", "user"])
def test_a_policy_that_cannot_be_read_is_not_overlooked(folders: tuple[Path, Path], tmp_path: Path, name: str) -> None:
    """A link to nowhere, a folder, a file without end: there is one, and it might have asked for much."""
    path = tmp_path / name / "policy.toml"

    path.symlink_to("nowhere")
    with pytest.raises(FileSystemError, match="policy.toml cannot be read"):
        read_policies(*folders)
    path.unlink()
    path.mkdir()
    with pytest.raises(FileSystemError, match="policy.toml cannot be read"):
        read_policies(*folders)
    path.rmdir()
    path.symlink_to("/dev/zero")
    with pytest.raises(PolicyFileError, match="policy.toml is larger"):
        read_policies(*folders)


def test_a_bundle_is_opened_if_all_is_as_the_policies_ask(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """And for each thing that is not, the error says which policy asks for it."""
    etc, user = folders
    alice, mallory = make_key(tmp_path, "alice"), make_key(tmp_path, "mallory")
    speech = make_bundle(tmp_path / "speech", repos=[Repo(id="org/a", files={"a.txt": b"a"})])
    own_signers = allow(tmp_path, f"{ALICE} {public(mallory)}")
    allow(etc, f"{ALICE} {public(alice)}")
    (etc / "policy.toml").write_text(SIGNED.replace("allowed", "allowed_signers"))
    (user / "policy.toml").write_text(f'require_signature = false\nsigners = "{own_signers}"\n')
    policies = read_policies(etc, user, signers=own_signers)

    unsigned = error_of(speech, policies)
    sign(speech, mallory)
    by_mallory = error_of(speech, policies)
    sign(speech, alice)
    approved = open_approved((speech,), policies)
    (user / "policy.toml").write_text("require_confirmed_identity = true\n")
    unconfirmed = error_of(speech, read_policies(etc, user))

    assert isinstance(unsigned, UnsignedError) and f"{etc}/policy.toml requires it" in str(unsigned)
    assert isinstance(by_mallory, UnknownSignerError) and f"{etc}/allowed_signers does not allow" in str(by_mallory)
    assert approved.verdict.principals == (ALICE,)
    assert isinstance(unconfirmed, PolicyRefusalError) and str(unconfirmed).startswith(f"{user}/policy.toml wants ")


def error_of(bundle: Path, policies: Policies) -> BundlerError:
    """Return the error with which a bundle is refused."""
    with pytest.raises(BundlerError) as caught:
        open_approved((bundle,), policies)
    return caught.value
