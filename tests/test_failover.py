"""Two sources, one of them sick: every file comes from the other, by real aria2c and over real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from bundler.errors import NoSourceError
from bundler.gateway.endpoint import Endpoint
from bundler.gateway.proxies import Proxies
from bundler.gateway.staging import Staging
from bundler.lock import Lock
from bundler.manifest import EndpointUrl
from bundler.progress import Event, Noted
from tests.faulty_hub import (
    Corrupt, Cut, Fault, FaultyHubServer, Hang, Headers, HtmlPage, Slow, Status, WrongSize
)
from tests.gateway_side import MIB, PATIENCE, First, endpoint, fetch_all, left_in, lock_of, noise
from tests.proxy_server import Authority, ProxyServer

SMALL = noise("small", 600_000)
LARGE = noise("large", 3 * MIB + 17)
FILES = {"config.json": SMALL, "large.bin": LARGE, "small.bin": SMALL[::-1]}
"""One file that the hub serves itself, a large and a small one that it redirects to."""

TOTAL = sum(map(len, FILES.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sickness:
    """What a source does with everything that it is asked for."""

    fault: Fault
    host: Literal["hub", "cdn"] | None = None
    """Which half of it does; both if None."""


SICK = {
    "not found": Sickness(fault=Status(code=404)),
    "gone": Sickness(fault=Status(code=410)),
    "forbidden": Sickness(fault=Status(code=403), host="hub"),
    "dead links": Sickness(fault=Status(code=403)),
    "wants a login": Sickness(fault=Status(code=401)),
    "busy for a minute": Sickness(fault=Status(code=429, retry_after=60)),
    "busy": Sickness(fault=Status(code=429)),
    "unavailable": Sickness(fault=Status(code=503)),
    "broken": Sickness(fault=Status(code=500)),
    "cut": Sickness(fault=Cut(after=1000)),
    "hangs at once": Sickness(fault=Hang()),
    "hangs in the middle": Sickness(fault=Hang(after=50_000)),
    "slow": Sickness(fault=Slow(rate=20_000)),
    "longer": Sickness(fault=WrongSize(by=9)),
    "shorter": Sickness(fault=WrongSize(by=-9)),
    "one wrong byte": Sickness(fault=Corrupt(at=1000)),
    "a page for people": Sickness(fault=HtmlPage()),
    "nonsense for a link": Sickness(fault=Headers(change={"Location": "http://["}), host="hub"),
}

QUIET = ("not found", "gone", "forbidden", "dead links", "wants a login", "busy", "unavailable")
"""What a source may do to one file, or for a moment, without being called sick."""


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    """An empty one."""
    return Staging(tmp_path / "staging")


@pytest.fixture
def sick() -> Iterator[FaultyHubServer]:
    """A hub that is asked first."""
    with FaultyHubServer() as server:
        yield server


def lock_both(*hubs: FaultyHubServer, files: dict[str, bytes] = FILES) -> Lock:
    """Publish the same files everywhere, and lock them."""
    for each in hubs:
        each.publish("org/a", files)
    return lock_of("org/a", endpoints=(endpoint(hubs[0]),))


@pytest.mark.parametrize("name", SICK)
def test_a_sick_source_costs_a_detour(
    hub: FaultyHubServer, sick: FaultyHubServer, staging: Staging, name: str
) -> None:
    """Whatever the first source does, the right bytes come, and it is told where they came from, and who is sick."""
    lock = lock_both(hub, sick)
    sick.fail(SICK[name].fault, path="*.*", host=SICK[name].host)
    notes: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Noted):
            notes.append(event.text)

    fetched = fetch_all(
        lock, staging, endpoint(sick), endpoint(hub), patience=PATIENCE, stall_seconds=2, on_event=listen
    )

    assert any(note.startswith(f"{sick.endpoint}: ") for note in notes) or name in QUIET
    assert fetched.contents == [FILES[path] for path in sorted(FILES)]
    assert sum(fetched.record.by_source.values()) == TOTAL
    assert fetched.record.by_source[hub.endpoint] >= 2 * len(SMALL)
    assert left_in(staging) == sorted(file.etag for file in lock.repos[0].files)


def test_a_source_that_cannot_be_reached_costs_a_detour(hub: FaultyHubServer, staging: Staging) -> None:
    """Nobody listens at the first address: the other one gives everything."""
    lock = lock_both(hub)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = Endpoint(url=EndpointUrl("http://127.0.0.1:%d" % closed.getsockname()[1]))

        fetched = fetch_all(lock, staging, nobody, endpoint(hub), patience=PATIENCE)

    assert fetched.record.by_source == {hub.endpoint: TOTAL}


def test_a_busy_source_is_left_alone_for_as_long_as_it_says(
    hub: FaultyHubServer, sick: FaultyHubServer, staging: Staging
) -> None:
    """After its 429 not every one of many files asks again; one line tells of it."""
    files = {f"{number:03d}.txt": noise(number, 1000) for number in range(200)}
    lock = lock_both(hub, sick, files=files)
    sick.fail(Status(code=429, retry_after=300), path="*.txt")
    notes: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Noted):
            notes.append(event.text)

    fetched = fetch_all(lock, staging, endpoint(sick), endpoint(hub), on_event=listen)

    assert fetched.record.by_source == {hub.endpoint: 200 * 1000}
    assert len(sick.asked("*.txt")) < 40
    assert len(notes) == 1 and sick.endpoint in notes[0] and "left alone for 300 seconds" in notes[0]


def test_a_source_of_wrong_bytes_is_asked_last(
    hub: FaultyHubServer, sick: FaultyHubServer, staging: Staging
) -> None:
    """After a few wrong files it is not worth the line."""
    files = {f"{number:03d}.txt": noise(number, 1000) for number in range(200)}
    lock = lock_both(hub, sick, files=files)
    sick.fail(Corrupt(at=500), path="*.txt")

    fetched = fetch_all(lock, staging, endpoint(sick), endpoint(hub))

    assert fetched.record.by_source == {hub.endpoint: 200 * 1000}
    assert len(sick.asked("*.txt")) < 100


def test_other_files_do_not_wait_for_one_that_does(
    hub: FaultyHubServer, sick: FaultyHubServer, staging: Staging
) -> None:
    """One source has the last file alone, the other one is busy until that came: those that wait hold up no thread."""
    many = {f"{number:03d}.txt": noise(number, 1000) for number in range(80)}
    files = {**many, "last.txt": SMALL}
    lock = lock_both(sick, hub, files=files)
    sick.fail(Status(code=429, retry_after=1), path="*.txt")
    hub.fail(Status(code=404), path="???.txt")
    hub.fail(First(act=sick.heal), path="last.txt")

    fetched = fetch_all(lock, staging, endpoint(sick), endpoint(hub), patience=PATIENCE)

    assert fetched.contents == list(files.values())
    assert fetched.record.by_source == {sick.endpoint: 80 * 1000, hub.endpoint: len(SMALL)}


def test_waits_for_a_line_that_comes_back(hub: FaultyHubServer, staging: Staging) -> None:
    """Everything fails for a while, then nothing does: the fetch ends well, and nobody had to start it again."""
    lock = lock_both(hub)
    hub.fail(Status(code=503), path="*.*")
    threading.Timer(4, hub.heal).start()

    fetched = fetch_all(lock, staging, endpoint(hub), patience=PATIENCE)

    assert fetched.contents == [FILES[path] for path in sorted(FILES)]


def test_gives_up_when_nothing_comes_for_too_long(hub: FaultyHubServer, staging: Staging) -> None:
    """Patience has an end; the error names what the source said, and the way on."""
    lock = lock_both(hub)
    hub.fail(Status(code=503), path="*.*")

    with pytest.raises(NoSourceError, match="503") as caught:
        fetch_all(lock, staging, endpoint(hub), patience=2)

    assert "3 files failed" in caught.value.hint and "again" in caught.value.hint


def test_what_nobody_has_is_known_soon(hub: FaultyHubServer, sick: FaultyHubServer, staging: Staging) -> None:
    """A file that is nowhere needs no patience."""
    lock = lock_both(hub, sick)
    for each in (hub, sick):
        each.fail(Status(code=404), path="small.bin")

    with pytest.raises(NoSourceError, match="small.bin") as caught:
        fetch_all(lock, staging, endpoint(hub), endpoint(sick), patience=10_000)

    assert hub.endpoint in str(caught.value) and sick.endpoint in str(caught.value)
    assert len(left_in(staging)) == 2


def test_renews_links_before_they_die(hub: FaultyHubServer, staging: Staging) -> None:
    """A slow large file outlives many links that live five seconds, and keeps all of its bytes."""
    content = noise("long", 8 * MIB)
    lock = lock_both(hub, files={"long.bin": content})
    hub.cdn.lifetime = 5
    hub.fail(Slow(rate=256 << 10), host="cdn")

    fetched = fetch_all(lock, staging, endpoint(hub), patience=PATIENCE)

    assert fetched.contents == [content]
    assert len(hub.asked("long.bin", host="hub", method="HEAD")) >= 3
    assert sum(seen.sent for seen in hub.asked(host="cdn")) < 1.5 * len(content)


def test_large_files_go_through_a_proxy_that_opens_tls(
    hub: FaultyHubServer, staging: Staging, tmp_path: Path
) -> None:
    """aria2c uses the endpoint's proxy, and trusts the authority that the endpoint names, as the HTTP pool does."""
    authority = Authority(tmp_path / "authority")
    with FaultyHubServer(cdn=False) as inner, ProxyServer(
        authority, stands_for={"hub.example": inner.endpoint}
    ) as proxy:
        lock = lock_both(inner)
        outside = Endpoint(
            url=EndpointUrl("https://hub.example"), ca=authority.ca, proxies=Proxies(https=proxy.url)
        )

        fetched = fetch_all(lock, staging, outside, patience=PATIENCE)

        assert fetched.contents == [FILES[path] for path in sorted(FILES)]
        by_aria2 = {seen.path for seen in inner.requests if seen.headers.get("user-agent", "").startswith("aria2")}
        assert {path.rpartition("/")[2] for path in by_aria2} == {"large.bin"}
        assert all(head.startswith("CONNECT hub.example:443 ") for head in proxy.heads)


@pytest.mark.parametrize("name", ["small.bin", "large.bin"])
def test_uses_no_more_of_the_line_than_it_may(hub: FaultyHubServer, staging: Staging, name: str) -> None:
    """A limit holds for the HTTP pool and for aria2c: so many bytes take at least so long."""
    files = {f"{number}-{name}": FILES[name] + bytes([number]) for number in range(2)}
    size, rate = sum(map(len, files.values())), sum(map(len, files.values())) // 4
    lock = lock_both(hub, files=files)
    started = time.monotonic()

    fetched = fetch_all(lock, staging, endpoint(hub), rate_limit=rate, patience=PATIENCE)

    assert fetched.contents == list(files.values())
    # A little less than size / rate: the first bytes of each connection are in the buffers at once.
    assert time.monotonic() - started > 0.6 * size / rate
