"""Fetching by a real aria2c and over real sockets, from hubs that do what mirrors, proxies and lines do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from bundler.errors import AccessDeniedError, Aria2MissingError, FileSystemError, NoSourceError, WrongBytesError
from bundler.gateway.staging import Staging
from bundler.lock import Lock
from bundler.progress import Advanced, Event, Noted
from tests.faulty_hub import (
    Corrupt, Cut, Fault, FaultyHubServer, Gzipped, Headers, HtmlPage, NoRange, Slow, Status, WrongSize
)
from tests.gateway_side import (
    MIB, PATIENCE, First, endpoint, fetch_all, fill, left_in, lock_of, noise, small_disk
)

NAME = "model.safetensors"
SMALL = noise("small", 600_000)
"""Fetched by Python."""

LARGE = noise("large", 3 * MIB + 17)
"""Fetched by aria2c."""

CONTENTS = [pytest.param(SMALL, id="small"), pytest.param(LARGE, id="large")]
PASSING: list[tuple[str, Fault]] = [
    ("too many requests", Status(code=429, retry_after=1)), ("unavailable", Status(code=503)),
    ("broken", Status(code=500)), ("expired", Status(code=403)), ("login page", HtmlPage()),
    ("compressed", Gzipped()), ("longer", WrongSize(by=9)), ("shorter", WrongSize(by=-9)),
]
"""What may go wrong once."""

TOKEN = "hf_secret"


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    """An empty one."""
    return Staging(tmp_path / "staging")


@pytest.fixture
def mirror() -> Iterator[FaultyHubServer]:
    """A second hub."""
    with FaultyHubServer() as server:
        yield server


def publish(hub: FaultyHubServer, content: bytes) -> Lock:
    """Publish a repository of one file, and lock it."""
    hub.publish("org/a", {NAME: content})
    return lock_of("org/a", endpoints=(endpoint(hub),))


@pytest.mark.parametrize("content", [b"", b"x", *CONTENTS])
@pytest.mark.parametrize("name", [NAME, "config.json"], ids=["by SHA-256", "by git id"])
def test_stages_the_bytes_that_the_lock_names(
    hub: FaultyHubServer, staging: Staging, content: bytes, name: str
) -> None:
    """A file of any size, known by either kind of digest, ends up under its etag."""
    hub.publish("org/a", {name: content})
    lock = lock_of("org/a", endpoints=(endpoint(hub),))

    fetched = fetch_all(lock, staging, endpoint(hub))

    assert fetched.contents == [content]
    assert left_in(staging) == [lock.repos[0].files[0].etag]
    assert list(fetched.record.digests.values()) == [sha256(content).hexdigest()]
    assert fetched.record.by_source.get(hub.endpoint, 0) == len(content)


def test_gives_files_in_the_locks_order_whatever_arrives_first(hub: FaultyHubServer, staging: Staging) -> None:
    """What is packed does not depend on the line: the first file comes first even if it is the last to arrive."""
    contents = {f"{number}.bin": noise(number, 50_000) for number in range(9)} | {"9.bin": LARGE}
    hub.publish("org/a", contents)
    others_are_here = threading.Event()
    hub.fail(First(act=lambda: others_are_here.wait(PATIENCE)), path="0.bin", host="cdn")
    missing = sum(map(len, contents.values())) - len(contents["0.bin"])

    def count(event: Event) -> None:
        nonlocal missing
        missing -= event.count if isinstance(event, Advanced) else 0
        if missing <= 0:
            others_are_here.set()

    fetched = fetch_all(lock_of("org/a", endpoints=(endpoint(hub),)), staging, endpoint(hub), on_event=count)

    assert others_are_here.is_set()
    assert fetched.contents == list(contents.values())


@pytest.mark.parametrize("content", CONTENTS)
def test_fetches_a_blob_of_two_repositories_once(hub: FaultyHubServer, staging: Staging, content: bytes) -> None:
    """Bytes that several repositories share cross the line once."""
    hub.publish("org/a", {NAME: content})
    hub.publish("org/b", {"copy.safetensors": content})
    lock = lock_of("org/a", "org/b", endpoints=(endpoint(hub),))

    fetched = fetch_all(lock, staging, endpoint(hub))

    assert fetched.contents == [content]
    assert sum(seen.sent for seen in hub.asked(host="cdn")) < 2 * len(content)
    assert not hub.asked("copy.safetensors")


@pytest.mark.parametrize("content", CONTENTS)
def test_fetches_nothing_that_is_staged(hub: FaultyHubServer, staging: Staging, content: bytes) -> None:
    """The second run asks the hub for no byte of what the first one brought."""
    lock = publish(hub, content)
    fetch_all(lock, staging, endpoint(hub))
    asked = len(hub.asked(NAME))

    again = fetch_all(lock, staging, endpoint(hub))

    assert again.contents == [content]
    assert len(hub.asked(NAME)) == asked
    assert again.record.by_source == {"": len(content)}


@pytest.mark.parametrize("content", CONTENTS)
def test_takes_a_download_that_was_complete_when_the_run_was_killed(
    hub: FaultyHubServer, staging: Staging, content: bytes
) -> None:
    """Hashing a large file takes minutes: killed in them, the next run need not fetch it again."""
    lock = publish(hub, content)
    staging.partial.mkdir(parents=True)
    staging.blob(lock.repos[0].files[0].etag).parent.mkdir()
    (staging.partial / f"{lock.repos[0].files[0].etag}.part").write_bytes(content)

    fetched = fetch_all(lock, staging, endpoint(hub))

    assert fetched.contents == [content]
    assert not hub.asked(NAME)


@pytest.mark.parametrize("content", CONTENTS)
def test_fetches_again_what_has_its_size_and_other_bytes(
    hub: FaultyHubServer, staging: Staging, content: bytes
) -> None:
    """A download with holes looks complete by its size: it is hashed, and not built upon."""
    lock = publish(hub, content)
    staging.partial.mkdir(parents=True)
    (staging.partial / f"{lock.repos[0].files[0].etag}.part").write_bytes(content[:-500] + bytes(500))

    fetched = fetch_all(lock, staging, endpoint(hub))

    assert fetched.contents == [content]
    assert left_in(staging) == [lock.repos[0].files[0].etag]


@pytest.mark.parametrize("content", CONTENTS)
def test_fetches_again_what_came_wrong(hub: FaultyHubServer, staging: Staging, content: bytes) -> None:
    """One wrong byte is found, told of, and mended by another attempt."""
    lock = publish(hub, content)
    hub.fail(Corrupt(at=1000), host="cdn")
    notes = []

    def heal_when_told(event: Event) -> None:
        if isinstance(event, Noted):
            notes.append(event.text)
            hub.heal()

    fetched = fetch_all(lock, staging, endpoint(hub), on_event=heal_when_told)

    assert fetched.contents == [content]
    assert len(notes) == 1 and hub.endpoint in notes[0] and NAME in notes[0]
    assert left_in(staging) == [sha256(content).hexdigest()]


@pytest.mark.parametrize("content", CONTENTS)
def test_keeps_nothing_of_a_file_that_stays_wrong(hub: FaultyHubServer, staging: Staging, content: bytes) -> None:
    """A hub that serves other bytes than it listed is caught: file, expected and found are named, nothing is kept."""
    lock = publish(hub, content)
    hub.fail(Corrupt(at=1000), host="cdn")
    wrong = content[:1000] + bytes([content[1000] ^ 0xFF]) + content[1001:]

    with pytest.raises(WrongBytesError) as caught:
        fetch_all(lock, staging, endpoint(hub))

    assert NAME in str(caught.value) and "org/a" in str(caught.value)
    assert sha256(content).hexdigest() in str(caught.value)
    assert sha256(wrong).hexdigest() in str(caught.value)
    assert left_in(staging) == []


@pytest.mark.parametrize("content", CONTENTS)
def test_takes_from_a_second_hub_what_the_first_serves_wrong(
    hub: FaultyHubServer, mirror: FaultyHubServer, staging: Staging, content: bytes
) -> None:
    """A mirror with rotten bytes costs a detour, not the file."""
    lock = publish(hub, content)
    publish(mirror, content)
    mirror.fail(Corrupt(at=1000), host="cdn")

    fetched = fetch_all(lock, staging, endpoint(mirror), endpoint(hub))

    assert fetched.contents == [content]
    assert fetched.record.by_source == {hub.endpoint: len(content)}


@pytest.mark.parametrize("content", CONTENTS)
def test_asks_the_second_hub_for_what_the_first_refuses(
    hub: FaultyHubServer, mirror: FaultyHubServer, staging: Staging, content: bytes
) -> None:
    """A mirror that does not have a file, or does not give it, is passed by."""
    contents = {f"{status}.bin": content + name for status, name in ((403, b"a"), (404, b"b"), (500, b"c"))}
    for each in (hub, mirror):
        each.publish("org/a", contents)
    for name in contents:
        mirror.fail(Status(code=int(name[:3])), path=name)
    lock = lock_of("org/a", endpoints=(endpoint(hub),))

    fetched = fetch_all(lock, staging, endpoint(mirror), endpoint(hub))

    assert fetched.contents == list(contents.values())
    assert fetched.record.by_source == {hub.endpoint: sum(map(len, contents.values()))}


def test_takes_each_file_from_whoever_has_it(
    hub: FaultyHubServer, mirror: FaultyHubServer, staging: Staging
) -> None:
    """Neither hub has everything, both together do."""
    hub.publish("org/a", {"large.bin": LARGE, "small.bin": SMALL})
    mirror.publish("org/a", {"large.bin": LARGE, "small.bin": SMALL})
    hub.fail(Status(code=404), path="large.bin")
    mirror.fail(Status(code=404), path="small.bin")
    lock = lock_of("org/a", endpoints=(endpoint(hub),))

    fetched = fetch_all(lock, staging, endpoint(hub), endpoint(mirror))

    assert fetched.contents == [LARGE, SMALL]
    assert fetched.record.by_source == {hub.endpoint: len(SMALL), mirror.endpoint: len(LARGE)}


@pytest.mark.parametrize("content", CONTENTS)
def test_gets_over_bad_answers(hub: FaultyHubServer, staging: Staging, content: bytes) -> None:
    """An answer that is an error, or not the file, is no reason to give up the only source."""
    contents = {f"{number}.bin": content + name.encode() for number, (name, _) in enumerate(PASSING)}
    hub.publish("org/a", contents)
    for path, (_, fault) in zip(contents, PASSING):
        hub.fail(fault, path=path, host="cdn", times=1)
        hub.fail(Status(code=503), path=path, host="hub", times=1)
    lock = lock_of("org/a", endpoints=(endpoint(hub),))

    fetched = fetch_all(lock, staging, endpoint(hub), patience=PATIENCE)

    assert fetched.contents == list(contents.values())


def test_fetches_from_a_hub_that_refuses_to_be_asked_for_headers(hub: FaultyHubServer, staging: Staging) -> None:
    """A server that knows no HEAD is asked for the bytes at once."""
    lock = publish(hub, LARGE)
    hub.fail(Status(code=405), path=NAME, method="HEAD")

    fetched = fetch_all(lock, staging, endpoint(hub))

    assert fetched.contents == [LARGE]


def test_asks_a_signed_link_for_its_bytes_alone(hub: FaultyHubServer, staging: Staging) -> None:
    """A link may be signed for GET alone: nothing else is asked of the host that it leads to."""
    lock = publish(hub, LARGE)
    hub.fail(Status(code=403), host="cdn", method="HEAD")

    fetched = fetch_all(lock, staging, endpoint(hub))

    assert fetched.contents == [LARGE]
    assert not hub.asked(host="cdn", method="HEAD")


@pytest.mark.parametrize("content", CONTENTS)
def test_gives_up_a_source_that_never_gives_the_file(
    hub: FaultyHubServer, staging: Staging, content: bytes
) -> None:
    """A login page with status 200, or a file of another length, never stands for the file."""
    faults: tuple[Fault, ...] = (HtmlPage(), WrongSize(by=9), WrongSize(by=-9))
    contents = {f"{number}.bin": content + bytes([number]) for number in range(len(faults))}
    hub.publish("org/a", contents)
    for path, fault in zip(contents, faults):
        hub.fail(fault, path=path, host="cdn")
    lock = lock_of("org/a", endpoints=(endpoint(hub),))

    with pytest.raises(NoSourceError, match="0.bin") as caught:
        fetch_all(lock, staging, endpoint(hub))

    assert hub.endpoint in str(caught.value)
    assert "3 files failed" in caught.value.hint
    assert not list((staging.root / "blobs").iterdir())


@pytest.mark.parametrize("content", CONTENTS)
def test_goes_on_where_the_line_was_cut(hub: FaultyHubServer, staging: Staging, content: bytes) -> None:
    """A line that drops now and then costs little more than the bytes that it lost."""
    lock = publish(hub, content)
    hub.fail(Cut(after=len(content) // 3), path=NAME, host="cdn", times=2)

    fetched = fetch_all(lock, staging, endpoint(hub))

    assert fetched.contents == [content]
    assert sum(seen.sent for seen in hub.asked(host="cdn")) < 1.5 * len(content)


@pytest.mark.parametrize("content", CONTENTS)
def test_finishes_a_file_over_a_line_that_always_drops(
    hub: FaultyHubServer, staging: Staging, content: bytes
) -> None:
    """However often the line is cut: as long as every attempt brings some bytes, the file comes."""
    lock = publish(hub, content)
    hub.fail(Cut(after=len(content) // 3), path=NAME, host="cdn")

    fetched = fetch_all(lock, staging, endpoint(hub))

    assert fetched.contents == [content]


@pytest.mark.parametrize("control", [b"", bytes(79), noise("control", 79)], ids=["empty", "zeros", "nonsense"])
def test_starts_anew_where_a_full_disk_left_a_broken_control_file(
    hub: FaultyHubServer, staging: Staging, control: bytes
) -> None:
    """aria2c fails for good at a control file that was cut: it does not stand in the way of later runs."""
    lock = publish(hub, LARGE)
    staging.partial.mkdir(parents=True)
    part = staging.partial / f"{lock.repos[0].files[0].etag}.part"
    part.write_bytes(LARGE[:MIB])
    part.with_name(f"{part.name}.aria2").write_bytes(control)

    fetched = fetch_all(lock, staging, endpoint(hub))

    assert fetched.contents == [LARGE]


@pytest.mark.parametrize("content", CONTENTS)
def test_fetches_from_a_server_without_ranges(hub: FaultyHubServer, staging: Staging, content: bytes) -> None:
    """A server that always sends the whole file is slower, and good enough."""
    lock = publish(hub, content)
    hub.fail(NoRange(), host="cdn")

    fetched = fetch_all(lock, staging, endpoint(hub))

    assert fetched.contents == [content]


def test_asks_for_a_fresh_link_when_one_expires(hub: FaultyHubServer, staging: Staging) -> None:
    """A signed link that dies in the middle of a file is replaced by another one, and the bytes so far are kept."""
    content = noise("long", 6 * MIB)
    lock = publish(hub, content)
    hub.fail(Slow(rate=2 * MIB), host="cdn")
    hub.fail(Cut(after=MIB), host="cdn", times=4)
    expired = threading.Event()

    def expire_when_bytes_flow(event: Event) -> None:
        if isinstance(event, Advanced) and not expired.is_set():
            hub.expire_links()
            expired.set()

    fetched = fetch_all(lock, staging, endpoint(hub), on_event=expire_when_bytes_flow)

    assert fetched.contents == [content]
    assert 403 in {seen.status for seen in hub.asked(host="cdn")}
    assert sum(seen.sent for seen in hub.asked(host="cdn")) < 2 * len(content)


def test_follows_no_redirect_to_what_is_not_a_plain_url(
    hub: FaultyHubServer, staging: Staging, tmp_path: Path
) -> None:
    """Wherever a hub points to, neither a local file nor a password nor nonsense is asked for."""
    secret = tmp_path / "secret"
    secret.write_bytes(SMALL)
    targets = [
        "http://user:pass@127.0.0.1/x", secret.as_uri(), "ftp://127.0.0.1/x", "http://[", "http://127.0.0.1:99999/x",
        "data:,x", "//",
    ]
    # A few large ones are enough: all are asked for by the same code.
    contents = {f"a-{number}.bin": LARGE + bytes([number]) for number in range(2)}
    contents |= {f"b-{number}.bin": SMALL + bytes([number]) for number in range(len(targets))}
    hub.publish("org/a", contents)
    for number, target in enumerate(targets):
        hub.fail(Headers(change={"Location": target}), path=f"*-{number}.bin", host="hub")
    lock = lock_of("org/a", endpoints=(endpoint(hub),))

    with pytest.raises(NoSourceError, match="redirects to what is not a plain") as caught:
        fetch_all(lock, staging, endpoint(hub))

    assert f"{len(contents)} files failed" in caught.value.hint
    assert left_in(staging) == []


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("cdn", [True, False], ids=["from the CDN", "from the hub"])
@pytest.mark.parametrize("private", [True, False], ids=["private", "gated"])
def test_tells_the_token_to_the_hub_alone(staging: Staging, content: bytes, cdn: bool, private: bool) -> None:
    """What needs a token is fetched with it, and neither the CDN nor aria2c ever sees it."""
    with FaultyHubServer(cdn=cdn) as hub:
        hub.publish("org/a", {NAME: content, "config.json": b"{}"})
        hub.gate("org/a", TOKEN, private=private)
        lock = lock_of("org/a", endpoints=(endpoint(hub, token=TOKEN),))

        fetched = fetch_all(lock, staging, endpoint(hub, token=TOKEN))

        assert fetched.contents == [b"{}", content]
        assert not any(TOKEN in str(seen.headers) for seen in hub.asked(host="cdn"))
        by_aria2 = [seen for seen in hub.requests if seen.headers.get("user-agent", "").startswith("aria2")]
        assert not any(TOKEN in str(seen.headers) for seen in by_aria2)


def test_tells_no_other_endpoint_the_token(
    hub: FaultyHubServer, mirror: FaultyHubServer, staging: Staging
) -> None:
    """A mirror that is asked first learns nothing of the token of the hub that is asked after it."""
    for each in (hub, mirror):
        each.publish("org/a", {NAME: LARGE, "config.json": b"{}"})
        each.gate("org/a", TOKEN, private=True)
    endpoints = (endpoint(mirror), endpoint(hub, token=TOKEN))

    fetched = fetch_all(lock_of("org/a", endpoints=endpoints), staging, *endpoints)

    assert fetched.contents == [b"{}", LARGE]
    assert mirror.requests
    assert not any(TOKEN in str(seen.headers) for seen in mirror.requests)


@pytest.mark.parametrize("content", CONTENTS)
def test_says_what_a_file_without_a_token_needs(hub: FaultyHubServer, staging: Staging, content: bytes) -> None:
    """A gated repository lists its files to everybody; fetching one says that access was refused."""
    hub.publish("org/a", {NAME: content})
    hub.gate("org/a", TOKEN)
    lock = lock_of("org/a", endpoints=(endpoint(hub),))

    with pytest.raises(AccessDeniedError, match="401") as caught:
        fetch_all(lock, staging, endpoint(hub))

    assert NAME in str(caught.value)
    assert left_in(staging) == []


@pytest.mark.parametrize("content", CONTENTS)
def test_uses_no_password_of_the_users_netrc(
    hub: FaultyHubServer, staging: Staging, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`~/.netrc` names these hosts, and none of them is told what it holds."""
    machines = "".join(f"machine {host} login user password pass\n" for host in ("127.0.0.1", "127.0.0.2"))
    (tmp_path / ".netrc").write_text(machines)
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))

    fetched = fetch_all(publish(hub, content), staging, endpoint(hub))

    assert fetched.contents == [content]
    assert not any("authorization" in seen.headers for seen in hub.requests)


def test_a_file_that_fails_does_not_stop_the_others(hub: FaultyHubServer, staging: Staging) -> None:
    """Whatever can be fetched is staged before the error is told, so that the next run has only the rest to do."""
    contents = {f"{number}.bin": noise(number, 20_000 + number * MIB) for number in range(4)}
    hub.publish("org/a", contents)
    hub.fail(Status(code=404), path="0.bin")
    hub.fail(Corrupt(at=5), path="1.bin", host="cdn")
    lock = lock_of("org/a", endpoints=(endpoint(hub),))

    with pytest.raises(NoSourceError, match="0.bin") as caught:
        fetch_all(lock, staging, endpoint(hub))

    assert "2 files failed" in caught.value.hint
    assert left_in(staging) == sorted(sha256(contents[name]).hexdigest() for name in ("2.bin", "3.bin"))


def test_says_that_aria2c_does_not_start(hub: FaultyHubServer, staging: Staging) -> None:
    """A program that is not aria2c is an error with its name, before anybody is asked for a byte."""
    lock = publish(hub, LARGE)

    with pytest.raises(Aria2MissingError, match="/bin/false does not tell its version"):
        fetch_all(lock, staging, endpoint(hub), aria2c=Path("/bin/false"))

    assert not hub.asked(method="HEAD")


def test_needs_no_aria2c_for_small_files(hub: FaultyHubServer, staging: Staging) -> None:
    """Nor where all that is large is staged already."""
    small, large = publish(hub, b"small"), publish(hub, LARGE)
    fetch_all(large, staging, endpoint(hub))
    nowhere = Path("/nowhere/aria2c")

    for lock in (small, large):
        fetched = fetch_all(lock, staging, endpoint(hub), aria2c=nowhere)

        assert len(fetched.contents) == 1


@pytest.mark.parametrize("content", CONTENTS)
def test_says_that_the_disk_is_full(hub: FaultyHubServer, tmp_path: Path, content: bytes) -> None:
    """A file system that somebody else fills during the fetch ends it with a clear error, and no wrong blob."""
    lock = publish(hub, content)
    with small_disk(tmp_path / "disk", 8 * MIB) as disk:
        staging = Staging(disk / "staging")
        hub.fail(First(act=lambda: fill(disk)), path=NAME, host="cdn")

        with pytest.raises(FileSystemError) as caught:
            fetch_all(lock, staging, endpoint(hub))

        assert caught.value.exit_code == 62
        assert "free some space" in caught.value.hint
        assert not list((staging.root / "blobs").iterdir())
