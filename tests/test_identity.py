"""Who is believed, who agrees, who lags: several hubs asked about the same revision."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bundler.demo.hub import InMemory
from bundler.demo.messages import Request, Response
from bundler.errors import DisagreementError, HubError, HubUnreachableError, RepoNotFoundError
from bundler.gateway.endpoint import Endpoint
from bundler.gateway.identity import Trust
from bundler.gateway.proxies import Proxies
from bundler.gateway.resolve import resolve_manifest
from bundler.lock import Lock
from bundler.manifest import OFFICIAL_ENDPOINT, EndpointUrl, parse_manifest
from bundler.progress import Event, Noted
from tests.bundle_command import bundle
from tests.faulty_hub import FaultyHubServer, Hang, Pause, Status
from tests.gateway_side import endpoint
from tests.manifests import write_manifest
from tests.proxy_server import Authority, ProxyServer

FILES = {"config.json": b"{}", "model.safetensors": b"weights"}
API = "/api/*"


@pytest.fixture
def mirror() -> Iterator[FaultyHubServer]:
    """A second hub."""
    with FaultyHubServer() as server:
        yield server


@pytest.fixture
def third() -> Iterator[FaultyHubServer]:
    """A third hub."""
    with FaultyHubServer() as server:
        yield server


@dataclass(frozen=True, slots=True, kw_only=True)
class Dated:
    """A fault: another date of the commit."""

    at: str | None

    def hits(self, request: Request, response: Response) -> bool:
        """Say that errors stay as they are."""
        return response.status == 200

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        """Return the answer with the date."""
        values = json.loads(b"".join(response.content.chunks(0, response.content.size))) | {"lastModified": self.at}
        return replace(response, content=InMemory(raw=json.dumps(values).encode()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What came of it."""

    lock: Lock
    notes: list[str]

    @property
    def told(self) -> str:
        """Who told the identity of the first repository, in words."""
        return str(self.lock.repos[0].identity)


def resolve(*endpoints: Endpoint, trust: Trust = Trust(), repos: int = 1) -> Resolved:
    """Resolve `org/a`, and further repositories of that kind."""
    notes: list[str] = []

    def note(event: Event) -> None:
        if isinstance(event, Noted):
            notes.append(event.text)

    names = ["org/a", *(f"org/{number}" for number in range(1, repos))]
    text = 'name = "m"\n' + "".join(f'[[repo]]\nid = "{name}"\n' for name in names)
    lock = resolve_manifest(parse_manifest(text.encode()), endpoints, trust=trust, on_event=note)
    return Resolved(lock=lock, notes=notes)


# lag


@pytest.mark.parametrize(("there", "here", "words"), [
    ("2026-01-04T00:00:00.000Z", "2026-01-01T00:00:00.000Z", "3 days behind"),
    ("2026-01-01T00:00:00Z", "2026-01-01T05:00:00Z", "5 hours ahead of"),
    ("2026-01-01T00:20:00+00:00", "2026-01-01T00:00:00", "20 minutes behind"),
    (None, "2026-01-01T00:00:00Z", ""),
    ("yesterday", "2026-01-01T00:00:00Z", ""),
])
def test_says_which_commits_differ_and_by_how_long(
    hub: FaultyHubServer, mirror: FaultyHubServer, there: str | None, here: str, words: str
) -> None:
    """A mirror that lags is named with its commit and, where both tell the time, its lag."""
    old = mirror.publish("org/a", FILES)
    new = hub.publish("org/a", {**FILES, "config.json": b"{ }"})
    hub.fail(Dated(at=there), path=API)
    mirror.fail(Dated(at=here), path=API)

    resolved = resolve(endpoint(hub), endpoint(mirror))

    (note,) = resolved.notes
    assert note.startswith(f"{mirror.endpoint} says that org/a at `main` is {old}")
    assert words in note and note.endswith(f"{hub.endpoint} says {new}")
    assert resolved.lock.repos[0].commit == new


# whose word counts


def test_all_are_asked_at_the_same_time(
    hub: FaultyHubServer, mirror: FaultyHubServer, third: FaultyHubServer
) -> None:
    """None answers before the others have been asked."""
    together = threading.Barrier(3, timeout=30)

    class Meeting(Status):
        def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
            together.wait()
            return response

    for each in (hub, mirror, third):
        each.publish("org/a", FILES)
        each.fail(Meeting(code=0), path=API, times=1)

    resolved = resolve(endpoint(hub), endpoint(mirror), endpoint(third))

    assert resolved.told == f"told by {hub.endpoint} (agreed: {mirror.endpoint}, agreed: {third.endpoint})"


def test_a_silent_hub_is_not_waited_for_without_end(hub: FaultyHubServer, mirror: FaultyHubServer) -> None:
    """Who could be believed first is passed by after some seconds once another has answered, and that is said."""
    for each in (hub, mirror):
        for name in ("org/a", "org/1", "org/2", "org/3"):
            each.publish(name, FILES)
    mirror.fail(Hang(), path=API)

    resolved = resolve(endpoint(mirror), endpoint(hub), trust=Trust(patience=0.3), repos=4)

    assert resolved.told == f"told by {hub.endpoint} alone"
    assert resolved.notes == [f"{mirror.endpoint} has not answered within 0.3 seconds"]


def test_an_endpoint_that_was_silent_twice_is_asked_no_more(hub: FaultyHubServer) -> None:
    """A dead mirror does not cost every repository of a long manifest its wait."""
    with FaultyHubServer() as gone:
        down = endpoint(gone)
    for name in ("org/a", *(f"org/{number}" for number in range(1, 30))):
        hub.publish(name, FILES)

    resolved = resolve(down, endpoint(hub), repos=30)

    assert {str(repo.identity) for repo in resolved.lock.repos} == {f"told by {hub.endpoint} alone"}
    assert all(down.url in note for note in resolved.notes)
    assert len(resolved.notes) == len(set(resolved.notes)) < 20


def test_an_endpoint_that_is_named_is_believed(hub: FaultyHubServer, mirror: FaultyHubServer) -> None:
    """`--identity` goes before the order."""
    hub.publish("org/a", FILES)
    wanted = mirror.publish("org/a", {**FILES, "config.json": b"{ }"})

    resolved = resolve(endpoint(hub), endpoint(mirror), trust=Trust(identity=EndpointUrl(mirror.endpoint)))

    assert resolved.lock.repos[0].commit == wanted
    assert resolved.told == f"told by {mirror.endpoint} (differed: {hub.endpoint})"


def test_without_the_endpoint_that_is_named_nothing_is_believed(hub: FaultyHubServer, mirror: FaultyHubServer) -> None:
    """Its failure is the error, whatever the others say, and however slow it is."""
    hub.publish("org/a", FILES)
    trust = Trust(identity=EndpointUrl(mirror.endpoint), patience=0.0)

    with pytest.raises(RepoNotFoundError, match=mirror.endpoint):
        resolve(endpoint(hub), endpoint(mirror), trust=trust)


def test_where_nobody_can_be_reached_all_are_named() -> None:
    """One error that names every endpoint."""
    with FaultyHubServer() as one, FaultyHubServer() as other:
        down = endpoint(one), endpoint(other)

    with pytest.raises(HubUnreachableError) as caught:
        resolve(*down)

    assert all(each.url in str(caught.value) for each in down)


# agreement


def test_as_many_as_are_demanded_have_to_agree(
    hub: FaultyHubServer, mirror: FaultyHubServer, third: FaultyHubServer
) -> None:
    """Two of three are two: enough for `--agree 2`, too few for `--agree 3`."""
    for each in (hub, mirror, third):
        each.publish("org/a", FILES)
    third.publish("org/a", {**FILES, "config.json": b"{ }"})
    endpoints = [endpoint(each) for each in (hub, third, mirror)]

    agreed = resolve(*endpoints, trust=Trust(agree=2))
    with pytest.raises(DisagreementError) as caught:
        resolve(*endpoints, trust=Trust(agree=3))

    assert agreed.told == f"told by {hub.endpoint} (agreed: {mirror.endpoint}, differed: {third.endpoint})"
    assert "2 of the 3 endpoints" in str(caught.value)
    assert f"differed: {third.endpoint}" in str(caught.value)


def test_the_command_ends_with_a_code_of_its_own(hub: FaultyHubServer, mirror: FaultyHubServer, tmp_path: Path) -> None:
    """`bundle lock --agree 2` writes no lock where a mirror lags."""
    for each in (hub, mirror):
        each.publish("org/a", FILES)
    hub.publish("org/a", {**FILES, "config.json": b"{ }"})
    manifest = write_manifest(tmp_path / "m.toml", "org/a", endpoints=[hub.endpoint, mirror.endpoint])

    refused = bundle("lock", manifest, "--agree", "2")
    named = bundle("lock", manifest, "--identity", mirror.endpoint, "--json")

    assert refused.returncode == DisagreementError.exit_code == 25
    assert mirror.endpoint in refused.stderr and "hint: " in refused.stderr
    told = json.loads(named.stdout)
    assert told["repos"][0]["told_by"] == mirror.endpoint and told["repos"][0]["differed"] == [hub.endpoint]
    assert [note for note in told["notes"] if note.startswith(f"{hub.endpoint} says that org/a at `main` is ")]


# the official hub


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """What vouches for a host that is not on this machine."""
    return Authority(tmp_path_factory.mktemp("authority") / "files")


def test_the_official_hub_is_believed_wherever_it_stands(
    hub: FaultyHubServer, mirror: FaultyHubServer, authority: Authority
) -> None:
    """The order of endpoints is about bytes; identity comes from https://huggingface.co, here by a proxy."""
    mirror.publish("org/a", FILES)
    new = hub.publish("org/a", {**FILES, "config.json": b"{ }"})
    with ProxyServer(authority, stands_for={"huggingface.co": hub.endpoint}) as proxy:
        official = Endpoint(
            url=EndpointUrl(OFFICIAL_ENDPOINT), ca=authority.ca, proxies=Proxies(https=proxy.url)
        )
        resolved = resolve(endpoint(mirror), official)

    assert resolved.lock.repos[0].commit == new
    assert resolved.told == f"told by {OFFICIAL_ENDPOINT} (differed: {mirror.endpoint})"


def test_the_command_asks_the_official_hub_though_the_manifest_does_not(
    hub: FaultyHubServer, mirror: FaultyHubServer, authority: Authority, tmp_path: Path
) -> None:
    """A manifest with a mirror alone is locked by the word of the official hub; HF_ENDPOINT asks nobody else."""
    for each in (hub, mirror):
        each.publish("org/a", FILES)
    manifest = write_manifest(tmp_path / "m.toml", "org/a", endpoints=[mirror.endpoint])
    with ProxyServer(authority, stands_for={"huggingface.co": hub.endpoint}) as proxy:
        variables = {"https_proxy": proxy.url, "REQUESTS_CA_BUNDLE": str(authority.ca)}
        locked = bundle("lock", manifest, variables=variables)
        alone = bundle("lock", manifest, variables={**variables, "HF_ENDPOINT": mirror.endpoint})

    assert f"told by {OFFICIAL_ENDPOINT} (agreed: {mirror.endpoint})" in locked.stdout, locked.stderr
    assert f"told by {mirror.endpoint} alone" in alone.stdout
    assert len(proxy.heads) == 1


def test_a_certificate_of_an_unknown_authority_is_not_trusted(hub: FaultyHubServer, authority: Authority) -> None:
    """Without its `ca`, a host that such a certificate stands for is not asked anything."""
    hub.publish("org/a", FILES)
    with ProxyServer(authority, stands_for={"huggingface.co": hub.endpoint}) as proxy:
        official = Endpoint(url=EndpointUrl(OFFICIAL_ENDPOINT), token="hf_secret", proxies=Proxies(https=proxy.url))

        with pytest.raises(HubError, match="SSLError"):
            resolve(official)

    assert not hub.requests


@pytest.mark.parametrize("spelling", [OFFICIAL_ENDPOINT, OFFICIAL_ENDPOINT.replace("https", "HTTPS")])
def test_an_own_authority_counts_however_the_scheme_is_written(
    hub: FaultyHubServer, authority: Authority, spelling: str
) -> None:
    """A URL's scheme knows no case."""
    commit = hub.publish("org/a", FILES)
    with ProxyServer(authority, stands_for={"huggingface.co": hub.endpoint}) as proxy:
        official = Endpoint(url=EndpointUrl(spelling), ca=authority.ca, proxies=Proxies(https=proxy.url))

        resolved = resolve(official)

    assert resolved.lock.repos[0].commit == commit


def test_openssl_own_variables_count(
    hub: FaultyHubServer, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`SSL_CERT_FILE` names a file, `SSL_CERT_DIR` folders, with colons between them."""
    commit = hub.publish("org/a", FILES)
    number = subprocess.check_output(["openssl", "x509", "-hash", "-noout", "-in", authority.ca], encoding="ascii")
    hashed = tmp_path / "hashed"
    hashed.mkdir()
    (hashed / f"{number.strip()}.0").symlink_to(authority.ca)
    with ProxyServer(authority, stands_for={"huggingface.co": hub.endpoint}) as proxy:
        official = Endpoint(url=EndpointUrl(OFFICIAL_ENDPOINT), proxies=Proxies(https=proxy.url))

        for name, value in (("SSL_CERT_FILE", authority.ca), ("SSL_CERT_DIR", f"{tmp_path}:{hashed}")):
            with monkeypatch.context() as patch:
                patch.setenv(name, str(value))
                resolved = resolve(official)

            assert resolved.lock.repos[0].commit == commit, name


def test_a_store_without_certificates_is_named(tmp_path: Path) -> None:
    """What `SSL_CERT_FILE` says is wrong, and not the hub."""
    empty = tmp_path / "empty.pem"
    empty.touch()
    manifest = write_manifest(tmp_path / "m.toml", "org/a", endpoints=["https://127.0.0.1:9"])

    refused = bundle("lock", manifest, variables={"SSL_CERT_FILE": str(empty)})

    assert refused.returncode == HubUnreachableError.exit_code == 24
    assert f"{empty} holds no certificate in PEM" in refused.stderr
