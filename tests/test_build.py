"""`bundle build` in processes that are killed, interrupted, left without space, and run again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from bundler.digest import parse_etag
from bundler.errors import BundleExistsError, FileSystemError, NotEnoughSpaceError
from bundler.lock import lock_path, read_lock
from tests.bundle_command import bundle
from tests.faulty_hub import FaultyHubServer, Hang, SharedLine, Slow, Status
from tests.gateway_side import (
    MIB, PATIENCE, First, Gateway, assert_right, fill, noise, processes, running, small_disk, wait_until
)

WEIGHTS: Mapping[str, bytes] = {
    "config.json": b'{"model_type": "none"}',
    "model-1.safetensors": noise(1, 4 * MIB + 1),
    **{f"model-{number}.safetensors": noise(number, MIB + 200_000) for number in range(2, 9)},
    "tokenizer.json": noise("tokens", 700_000),
    "vocab.txt": b"word\n" * 50_000,
}
"""Enough large files that the first are packed while the last are fetched."""

TOTAL = sum(map(len, WEIGHTS.values()))


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """A connected machine with nothing on it."""
    return Gateway(tmp_path)


@pytest.fixture
def manifest(hub: FaultyHubServer, gateway: Gateway) -> Path:
    """A manifest that asks for `WEIGHTS`."""
    hub.publish("org/a", WEIGHTS)
    return gateway.manifest("org/a", hubs=(hub,))


def sent(hub: FaultyHubServer) -> int:
    """Return how many bytes of files left the hub."""
    return sum(seen.sent for seen in hub.asked("/*/resolve/*") + hub.asked(host="cdn"))


def staged(gateway: Gateway) -> set[str]:
    """Return the etags of the blobs that are complete in staging."""
    blobs = gateway.staging.root / "blobs"
    return {path.name for path in blobs.iterdir()} if blobs.is_dir() else set()


def asked_for(hub: FaultyHubServer, since: int) -> set[str]:
    """Return the names of the files of which bytes were asked since a number of requests."""
    return {seen.path.rpartition("/")[2] for seen in hub.requests[since:] if not seen.path.startswith("/api/")}


def etags(gateway: Gateway, manifest: Path) -> dict[str, str]:
    """Return the path of each blob of the lock of one repository."""
    return {file.etag: file.path for file in read_lock(lock_path(manifest)).repos[0].files}


def test_killed_at_any_moment_it_goes_on(hub: FaultyHubServer, gateway: Gateway, manifest: Path) -> None:
    """Killed again and again while it fetches and packs: the last run completes, and nothing whole is fetched twice."""
    chance = random.Random(2026)
    hub.fail(SharedLine(rate=6 * MIB))
    again: Counter[str] = Counter()

    for _ in range(8):
        since, whole = len(hub.requests), staged(gateway)
        goal = sent(hub) + chance.randrange(TOTAL // 6)
        with running(*gateway.build_command(manifest)) as build:
            wait_until(lambda: sent(hub) >= goal or build.poll() is not None)
            build.kill()
        if whole:
            paths = etags(gateway, manifest)
            again.update(asked_for(hub, since) & {paths[etag] for etag in whole})
    hub.heal()
    since, whole = len(hub.requests), staged(gateway)
    built = gateway.build(manifest)

    assert_right(gateway, built)
    paths = etags(gateway, manifest)
    again.update(asked_for(hub, since) & {paths[etag] for etag in whole})
    assert not again


def test_killed_while_it_packs_it_packs_again(hub: FaultyHubServer, gateway: Gateway, manifest: Path) -> None:
    """With a file missing to the end and a volume half written, the kill leaves no bundle; the next run makes one."""
    hub.fail(Hang(after=100), path="vocab.txt")
    volume = gateway.bundle / "gift-001.tar"

    with running(*gateway.build_command(manifest)) as build:
        wait_until(lambda: len(staged(gateway)) == len(WEIGHTS) - 1 and volume.exists())
        build.kill()
    left = {path.name for path in gateway.bundle.iterdir()}
    hub.heal()
    since = len(hub.requests)
    built = gateway.build(manifest)

    assert left == {"gift-001.tar"}
    assert_right(gateway, built)
    assert asked_for(hub, since) == {"vocab.txt"}


def test_goes_on_after_aria2c_was_killed(hub: FaultyHubServer, gateway: Gateway, manifest: Path) -> None:
    """aria2c dies in the middle of a file, twice: nobody notices, and its bytes so far are used."""
    hub.fail(Slow(rate=MIB), host="cdn")
    victims: list[int] = []

    with running(*gateway.build_command(manifest, "--json")) as build:
        for goal in (1 * MIB, 3 * MIB):
            wait_until(lambda: sent(hub) > goal and set(processes("aria2c", gateway.place)) - set(victims))
            victims += set(processes("aria2c", gateway.place)) - set(victims)
            os.kill(victims[-1], signal.SIGKILL)
        out, err = build.communicate(timeout=PATIENCE)

    assert len(victims) == 2
    assert_right(gateway, subprocess.CompletedProcess([], build.returncode, out, err))
    assert sent(hub) < 1.5 * TOTAL


@pytest.mark.parametrize("path", ["model-1.safetensors", "tokenizer.json"], ids=["large", "small"])
def test_interrupted_it_leaves_nothing_running(
    hub: FaultyHubServer, gateway: Gateway, manifest: Path, path: str
) -> None:
    """Ctrl-C in the middle of a file ends it in exit code 130, with no aria2c left behind, and no bundle."""
    hub.fail(Slow(rate=100_000), path=path)

    with running(*gateway.build_command(manifest)) as build:
        wait_until(lambda: sum(seen.sent for seen in hub.asked(path, method="GET")) > 50_000)
        build.send_signal(signal.SIGINT)
        out, err = build.communicate(timeout=PATIENCE / 2)

    assert build.returncode == 130
    assert out == "" and "run the same command again" in err
    assert "Traceback" not in err
    assert processes("aria2c", gateway.place) == []
    assert not (gateway.bundle / "SHA256SUMS").exists()
    hub.heal()
    assert_right(gateway, gateway.build(manifest))


@pytest.mark.parametrize("path", ["model-1.safetensors", "tokenizer.json"], ids=["large", "small"])
def test_interrupted_it_does_not_wait_for_a_server_that_says_nothing(
    hub: FaultyHubServer, gateway: Gateway, manifest: Path, path: str
) -> None:
    """Ctrl-C ends a request that hangs long before the request's own time is out."""
    silence = threading.Event()
    hub.fail(First(act=silence.set), path=path)
    hub.fail(Hang(), path=path, host="cdn" if path == "model-1.safetensors" else None)

    with running(*gateway.build_command(manifest)) as build:
        wait_until(lambda: silence.is_set() or hub.asked(path))
        build.send_signal(signal.SIGINT)
        _, err = build.communicate(timeout=PATIENCE / 4)

    assert build.returncode == 130
    assert "Traceback" not in err


def test_killed_it_leaves_no_aria2c_for_long(hub: FaultyHubServer, gateway: Gateway, manifest: Path) -> None:
    """Even where nobody could clean up, aria2c follows the build that started it."""
    hub.fail(Slow(rate=100_000), host="cdn")

    with running(*gateway.build_command(manifest)) as build:
        wait_until(lambda: processes("aria2c", gateway.place))
        build.kill()

    wait_until(lambda: not processes("aria2c", gateway.place))


@pytest.mark.parametrize("place", ["staging", "out"])
def test_checks_space_before_the_first_byte(
    hub: FaultyHubServer, gateway: Gateway, manifest: Path, place: str
) -> None:
    """Too little room, in staging or for the bundle, is told before anything is fetched, with the numbers."""
    with small_disk(gateway.place / place, 6 * MIB):
        built = gateway.build(manifest)

        assert built.returncode == NotEnoughSpaceError.exit_code
        assert place in built.stderr and "bytes free" in built.stderr and "hint: free" in built.stderr
        assert sent(hub) == 0
        assert not (gateway.bundle / "SHA256SUMS").exists()


def test_counts_what_is_staged_as_space_that_is_not_needed(
    hub: FaultyHubServer, gateway: Gateway, manifest: Path
) -> None:
    """A file system that holds all files already has no room for them twice, and needs none."""
    with small_disk(gateway.staging.root, TOTAL + 2 * MIB):
        first = gateway.build(manifest)
        shutil.rmtree(gateway.bundle)
        asked = len(hub.requests)

        again = gateway.build(manifest)

        assert_right(gateway, first)
        assert_right(gateway, again)
        assert len(hub.requests) == asked


def test_too_little_space_costs_no_bundle_that_was_to_be_replaced(
    hub: FaultyHubServer, gateway: Gateway, manifest: Path
) -> None:
    """`--replace` without room for the new bundle leaves the old one as it was."""
    with small_disk(gateway.place / "out", TOTAL + 4 * MIB):
        assert_right(gateway, gateway.build(manifest))
        hub.publish("org/a", {**WEIGHTS, "more.bin": noise("more", 4 * MIB)})
        assert bundle("lock", manifest).returncode == 0

        refused = gateway.build(manifest, "--replace")

        assert refused.returncode == NotEnoughSpaceError.exit_code
        assert bundle("verify", gateway.bundle, "--allow-unsigned").returncode == 0


def test_a_bundle_is_replaced_where_there_is_room_for_one(
    hub: FaultyHubServer, gateway: Gateway, manifest: Path
) -> None:
    """The space of the bundle that is replaced counts as free."""
    with small_disk(gateway.place / "out", TOTAL + 4 * MIB):
        gateway.build(manifest)
        hub.publish("org/a", {**WEIGHTS, "config.json": b"{}"})
        assert bundle("lock", manifest).returncode == 0

        assert_right(gateway, gateway.build(manifest, "--replace"))


@pytest.mark.parametrize("path", ["model-1.safetensors", "tokenizer.json"], ids=["large", "small"])
def test_a_disk_that_fills_up_is_an_error_with_a_way_on(
    hub: FaultyHubServer, gateway: Gateway, manifest: Path, path: str
) -> None:
    """Somebody else takes the space during the fetch: no traceback; with space again, the next run goes on."""
    with small_disk(gateway.staging.root, TOTAL + 8 * MIB) as disk:
        hub.fail(First(act=lambda: fill(disk)), path=path)

        refused = gateway.build(manifest)
        hub.heal()
        (disk / "filler").unlink()
        built = gateway.build(manifest)

        assert refused.returncode == FileSystemError.exit_code
        assert "free some space" in refused.stderr and "Traceback" not in refused.stderr
        assert_right(gateway, built)


def test_a_disk_that_fills_up_below_the_bundle_is_an_error_with_a_way_on(
    hub: FaultyHubServer, gateway: Gateway, manifest: Path
) -> None:
    """The same, where the bundle is written."""
    with small_disk(gateway.place / "out", TOTAL + 8 * MIB) as disk:
        hub.fail(First(act=lambda: fill(disk)), path="model-1.safetensors")

        refused = gateway.build(manifest)
        hub.heal()
        (disk / "filler").unlink()
        built = gateway.build(manifest)

        assert refused.returncode == FileSystemError.exit_code
        assert "free some space" in refused.stderr and "Traceback" not in refused.stderr
        assert_right(gateway, built)


def test_two_builds_with_one_staging_take_turns(hub: FaultyHubServer, gateway: Gateway, manifest: Path) -> None:
    """The second one waits, says for which process, and finds everything fetched."""
    may_go_on = threading.Event()
    hub.fail(First(act=lambda: may_go_on.wait(PATIENCE)), path="vocab.txt")
    elsewhere = ["-o", gateway.place / "elsewhere", "--staging", gateway.staging.root, "--aria2-from", "1MiB"]

    with running(*gateway.build_command(manifest)) as first:
        wait_until(lambda: len(staged(gateway)) == len(WEIGHTS) - 1)
        with running("build", manifest, *elsewhere) as second:
            assert second.stderr is not None
            told = second.stderr.readline()
            may_go_on.set()
            first_out, first_err = first.communicate(timeout=2 * PATIENCE)
            out, err = second.communicate(timeout=2 * PATIENCE)

    assert f"waiting for process {first.pid}" in told
    assert_right(gateway, subprocess.CompletedProcess([], first.returncode, first_out, first_err))
    assert second.returncode == 0, err
    assert {len(hub.asked(path, method="GET")) for path in ("config.json", "tokenizer.json", "vocab.txt")} == {1}
    for path in gateway.bundle.iterdir():
        if path.name != "build-info.json" and path.name != "SHA256SUMS":
            assert (gateway.place / "elsewhere" / "gift" / path.name).read_bytes() == path.read_bytes()


def test_replaces_what_an_interrupted_build_left(gateway: Gateway, manifest: Path) -> None:
    """Volumes without SHA256SUMS are no bundle: they are written anew, and those of a longer one do not stay."""
    gateway.bundle.mkdir(parents=True)
    for name in ("gift-001.tar", "gift-002.tar", "gift-003.tar"):
        (gateway.bundle / name).write_bytes(b"half")
    (gateway.bundle / "index.json").write_bytes(b"{")

    built = gateway.build(manifest)

    assert_right(gateway, built)
    assert [path.name for path in sorted(gateway.bundle.glob("*.tar"))] == ["gift-001.tar"]


def test_says_that_nothing_is_to_be_done(hub: FaultyHubServer, gateway: Gateway, manifest: Path) -> None:
    """The same bundle, complete, is left as it is, and nobody is asked."""
    gateway.build(manifest)
    asked, times = len(hub.requests), {path: path.stat().st_mtime_ns for path in gateway.bundle.iterdir()}

    again = gateway.build(manifest)

    assert again.returncode == 0 and "nothing to do" in again.stdout
    assert len(hub.requests) == asked
    assert {path: path.stat().st_mtime_ns for path in gateway.bundle.iterdir()} == times


@pytest.mark.parametrize("lost", ["gift-001.tar", "restore.py", "README.txt", "build-info.json"])
def test_makes_up_for_a_file_that_was_lost(
    hub: FaultyHubServer, gateway: Gateway, manifest: Path, lost: str
) -> None:
    """A bundle of the same lock that is not complete is made again without being asked to, and is the same."""
    gateway.build(manifest)
    identity, asked = (gateway.bundle / "index.json").read_bytes(), len(hub.requests)
    (gateway.bundle / lost).unlink()

    again = gateway.build(manifest)

    assert_right(gateway, again)
    assert (gateway.bundle / "index.json").read_bytes() == identity
    assert len(hub.requests) == asked


def test_makes_up_for_a_volume_that_was_cut(gateway: Gateway, manifest: Path) -> None:
    """A volume that is too short is not taken for a complete one."""
    gateway.build(manifest)
    os.truncate(gateway.bundle / "gift-001.tar", 5000)

    again = gateway.build(manifest)

    assert_right(gateway, again)


def test_another_bundle_stays_until_it_may_be_replaced(
    hub: FaultyHubServer, gateway: Gateway, manifest: Path
) -> None:
    """What is complete is not overwritten by a bundle of another content, unless that is said."""
    gateway.build(manifest)
    before = {path.name: path.read_bytes() for path in gateway.bundle.iterdir()}
    hub.publish("org/a", {**WEIGHTS, "config.json": b"{}"})
    assert bundle("lock", manifest).returncode == 0

    refused = gateway.build(manifest)
    kept = {path.name: path.read_bytes() for path in gateway.bundle.iterdir()}
    replaced = gateway.build(manifest, "--replace")

    assert refused.returncode == BundleExistsError.exit_code
    assert "--replace" in refused.stderr
    assert kept == before
    assert_right(gateway, replaced)
    assert (gateway.bundle / "index.json").read_bytes() != before["index.json"]


@pytest.mark.parametrize("path", ["model-1.safetensors", "config.json"])
def test_what_was_damaged_in_staging_is_fetched_again(
    hub: FaultyHubServer, gateway: Gateway, manifest: Path, path: str
) -> None:
    """A disk may change what was proven when it came: packing sees it, and that file alone is fetched again."""
    assert_right(gateway, gateway.build(manifest))
    good = (gateway.bundle / "index.json").read_bytes()
    shutil.rmtree(gateway.bundle)
    (etag,) = (etag for etag, each in etags(gateway, manifest).items() if each == path)
    blob = gateway.staging.blob(parse_etag(etag))
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    since = len(hub.requests)

    built = gateway.build(manifest)

    assert_right(gateway, built)
    assert asked_for(hub, since) == {path}
    assert (gateway.bundle / "index.json").read_bytes() == good
    assert blob.read_bytes() == content


def test_a_file_that_fails_leaves_no_bundle(hub: FaultyHubServer, gateway: Gateway, manifest: Path) -> None:
    """Nothing that could be taken for a bundle stands there when a file could not be had; the rest is staged."""
    hub.fail(Status(code=404), path="config.json")

    refused = gateway.build(manifest)

    assert refused.returncode == 31
    assert "config.json" in refused.stderr and "404" in refused.stderr and "Traceback" not in refused.stderr
    assert not (gateway.bundle / "SHA256SUMS").exists()
    assert len(staged(gateway)) == len(WEIGHTS) - 1
