"""Gated and private repositories: refused at once with the way out, and asked from whoever is given a token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bundler.errors import AccessDeniedError
from bundler.gateway.carriers import network_sources
from bundler.gateway.endpoint import Endpoint, Endpoints
from bundler.gateway.gate import check_access
from bundler.gateway.sources import wanted_blobs
from bundler.gateway.web import Web
from bundler.lock import Lock, lock_text, parse_lock
from bundler.manifest import OFFICIAL_ENDPOINT, EndpointUrl, parse_manifest
from tests.bundle_command import bundle
from tests.faulty_hub import FaultyHubServer, Status
from tests.gateway_side import Gateway, endpoint, lock_of

TOKEN = "hf_secret"
FILES = {"config.json": b"{}", "model.safetensors": b"weights"}
MANIFEST = parse_manifest(b'name = "m"\n[[repo]]\nid = "org/gated"\n[[repo]]\nid = "org/open"')


@pytest.fixture
def mirror() -> Iterator[FaultyHubServer]:
    """A second hub."""
    with FaultyHubServer() as server:
        yield server


def publish(*hubs: FaultyHubServer, private: bool = False) -> None:
    """Publish a repository behind a gate, and one in the open."""
    for each in hubs:
        for name in ("org/gated", "org/open"):
            each.publish(name, {**FILES, "name.txt": name.encode()})
        each.gate("org/gated", TOKEN, private=private)


def check(lock: Lock, *endpoints: Endpoint) -> None:
    """Check access to all of a lock."""
    with Web(connections=1) as web:
        check_access(lock.repos, endpoints, web)


@pytest.mark.parametrize("private", [False, True], ids=["gated", "private"])
def test_the_lock_knows_what_is_not_open(hub: FaultyHubServer, private: bool) -> None:
    """It is written down, so that a build by that lock knows it before it asks for a file."""
    publish(hub, private=private)

    lock = lock_of("org/gated", "org/open", endpoints=(endpoint(hub, token=TOKEN),))

    assert [repo.restricted for repo in lock.repos] == [True, False]
    assert parse_lock(lock_text(lock)) == lock
    assert lock_text(lock).count(b'"restricted": true') == 1


def test_one_question_for_each_repository_behind_a_gate(hub: FaultyHubServer) -> None:
    """A request for headers, none for bytes, none for what is open."""
    publish(hub)
    lock = lock_of("org/gated", "org/open", endpoints=(endpoint(hub),))
    before = len(hub.requests)

    check(lock, endpoint(hub, token=TOKEN))

    assert [(seen.method, seen.path.split("/")[2]) for seen in hub.requests[before:]] == [("HEAD", "gated")]


@pytest.mark.parametrize(("token", "words"), [
    (None, ("wants to know who asks", "accept its terms", "hf auth login", "HF_TOKEN")),
    ("hf_other", ("answers 403 to the token of", "accept the terms")),
])
def test_the_error_says_what_to_do(hub: FaultyHubServer, token: str | None, words: tuple[str, ...]) -> None:
    """Without a token: get one. With one: accept the terms as that user. It is never quoted."""
    publish(hub)
    lock = lock_of("org/gated", endpoints=(endpoint(hub),))

    with pytest.raises(AccessDeniedError) as caught:
        check(lock, endpoint(hub, token=token))

    told = f"{caught.value} {caught.value.hint}"
    assert f"{hub.endpoint}/org/gated" in told and all(word in told for word in words)
    assert token is None or token not in told


def test_one_who_opens_is_enough(hub: FaultyHubServer, mirror: FaultyHubServer) -> None:
    """A mirror that denies does not matter where the hub gives; whoever has a token is asked first."""
    publish(hub, mirror)
    lock = lock_of("org/gated", endpoints=(endpoint(hub),))
    asked = len(mirror.requests)

    check(lock, endpoint(mirror), endpoint(hub, token=TOKEN))

    assert len(mirror.requests) == asked


@pytest.mark.parametrize("status", [404, 429, 500])
def test_other_trouble_is_no_denial(hub: FaultyHubServer, status: int) -> None:
    """A hub with a bad minute does not stop a build that may last a weekend."""
    publish(hub)
    lock = lock_of("org/gated", endpoints=(endpoint(hub),))
    hub.fail(Status(code=status))

    check(lock, endpoint(hub, token=TOKEN))


def test_a_build_by_a_lock_is_refused_before_anything_is_fetched(hub: FaultyHubServer, tmp_path: Path) -> None:
    """The open repository comes first in the lock, and still not a byte of it crosses the line."""
    publish(hub)
    gateway = Gateway(tmp_path)
    manifest = gateway.manifest("org/open", "org/gated", hubs=(hub,))
    lock = lock_of("org/open", "org/gated", endpoints=(endpoint(hub),))
    (tmp_path / "gift.lock.json").write_bytes(lock_text(lock))

    refused = gateway.build(manifest, "--locked")

    assert refused.returncode == AccessDeniedError.exit_code == 23
    assert "org/gated" in refused.stderr and "hint: accept its terms" in refused.stderr
    assert not hub.asked("/org/open/*") and not hub.asked(host="cdn")


# from whom


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    gated: list[str]
    open: list[str]


def asked(lock: Lock, endpoints: Endpoints) -> _Asked:
    """Return the names of the sources that would be asked for what is gated, and for what is open."""
    with Web(connections=1) as web:
        sources = network_sources(MANIFEST, lock, endpoints, web)
        gated, open_ = (
            [source.name for source in sources if source.address(wanted)]
            for name in ("org/gated", "org/open")
            for wanted in [next(each for each in wanted_blobs(lock) if each.repo.name == name)]
        )
    return _Asked(gated=gated, open=open_)


@pytest.fixture
def lock(hub: FaultyHubServer) -> Lock:
    """Both repositories."""
    for name in ("org/gated", "org/open"):
        hub.publish(name, {"name.txt": name.encode()})
    hub.gate("org/gated", TOKEN)
    return lock_of("org/gated", "org/open", endpoints=(endpoint(hub),))


MIRROR = Endpoint(url=EndpointUrl("http://mirror"))
CORPORATE = Endpoint(url=EndpointUrl("http://corporate"), token="t")
OFFICIAL = Endpoint(url=EndpointUrl(OFFICIAL_ENDPOINT), token=TOKEN)
ANONYMOUS = Endpoint(url=EndpointUrl(OFFICIAL_ENDPOINT))


@pytest.mark.parametrize(("sources", "more", "gated", "open_"), [
    ([MIRROR, OFFICIAL], [], [OFFICIAL], [MIRROR, OFFICIAL]),
    ([MIRROR], [OFFICIAL], [OFFICIAL], [MIRROR]),
    ([MIRROR], [ANONYMOUS], [MIRROR], [MIRROR]),
    ([MIRROR, CORPORATE], [], [CORPORATE], [MIRROR, CORPORATE]),
    ([MIRROR, CORPORATE], [OFFICIAL], [CORPORATE, OFFICIAL], [MIRROR, CORPORATE]),
    ([MIRROR, ANONYMOUS], [], [MIRROR, ANONYMOUS], [MIRROR, ANONYMOUS]),
], ids=range(6))
def test_what_is_gated_is_asked_from_whoever_has_a_token(
    lock: Lock, sources: list[Endpoint], more: list[Endpoint], gated: list[Endpoint], open_: list[Endpoint]
) -> None:
    """The official hub directly, though the manifest names mirrors alone; a mirror only where nobody has a token."""
    found = asked(lock, Endpoints(sources=tuple(sources), tellers=(*sources, *more)))

    assert found.gated == [each.url for each in gated]
    assert found.open == [each.url for each in open_]


def test_a_hub_whose_token_is_not_accepted_is_named(hub: FaultyHubServer, tmp_path: Path) -> None:
    """`bundle lock` with an expired token says where the token was found, and never the token."""
    publish(hub)
    hub.fail(Status(code=401), path="/api/*")
    (tmp_path / "m.toml").write_text(
        f'name = "m"\nendpoints = [{{ url = "{hub.endpoint}", token = "env:CORP" }}]\n[[repo]]\nid = "org/open"\n')

    refused = bundle("lock", tmp_path / "m.toml", variables={"CORP": TOKEN, "HF_ENDPOINT": None})

    assert refused.returncode == AccessDeniedError.exit_code
    assert "does not accept the token of $CORP" in refused.stderr
    assert TOKEN not in refused.stdout + refused.stderr
