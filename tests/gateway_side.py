"""The connected side as tests need it: manifests, locks, staging, and `bundle` in a process of its own."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bundler.demo.messages import Request, Response
from bundler.gateway.endpoint import Endpoint
from bundler.gateway.fetch import FetchOptions, FetchRecord, fetching
from bundler.gateway.local import Store
from bundler.gateway.resolve import resolve_manifest
from bundler.gateway.sources import HubSource, wanted_blobs
from bundler.gateway.staging import Staging
from bundler.lock import Lock
from bundler.manifest import EndpointUrl, read_manifest
from bundler.progress import OnEvent, ignore
from tests.bundle_command import Result, bundle, bundle_command, environment
from tests.faulty_hub import FaultyHubServer, Pause
from tests.manifests import write_manifest

MIB = 1 << 20
PATIENCE = 60.0
"""Seconds after which what a test waits for is taken to be broken."""

Repo = str | Mapping[str, object]
"""A `[[repo]]`: its id, or its fields."""


def noise(seed: object, size: int) -> bytes:
    """Return bytes that do not compress, the same ones for the same seed."""
    return random.Random(str(seed)).randbytes(size)


def endpoint(hub: FaultyHubServer, *, token: str | None = None) -> Endpoint:
    """Return the hub as a place to ask; with a token, which it alone may be told."""
    return Endpoint(url=EndpointUrl(hub.endpoint), token=token)


def lock_of(*repos: Repo, endpoints: tuple[Endpoint, ...], keep: Lock | None = None) -> Lock:
    """Lock a manifest that asks for `repos`; the pins of `keep` hold."""
    with TemporaryDirectory() as folder:
        path = write_manifest(Path(folder, "gift.toml"), *repos, endpoints=[each.url for each in endpoints])
        return resolve_manifest(read_manifest(path), endpoints, keep=keep)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What a fetch gave."""

    contents: list[bytes]
    """Of the proven blobs, in the order in which they were given."""

    record: FetchRecord


def fetch_all(
    lock: Lock, staging: Staging, *endpoints: Endpoint, aria2c: Path | None = None, patience: float = 4,
    stall_seconds: float = 10, rate_limit: int | None = None, stores: tuple[Store, ...] = (),
    on_event: OnEvent = ignore,
) -> Fetched:
    """Fetch all of a lock, files of 1 MiB and more by aria2c, and read what was proven."""
    record = FetchRecord()
    options = FetchOptions(
        aria2c=aria2c, jobs=2, connections=4, aria2_from=MIB,
        patience=patience, stall_seconds=stall_seconds, rate_limit=rate_limit, sure=True)
    sources = tuple(HubSource(each) for each in endpoints)
    with (
        staging.exclusively(lambda text: None),
        fetching(
            wanted_blobs(lock), sources, staging, options, record=record, stores=stores, on_event=on_event
        ) as proven,
    ):
        contents = [blob.path.read_bytes() for blob in proven]
    return Fetched(contents=contents, record=record)


def left_in(staging: Staging) -> list[str]:
    """Return the names of all files in staging but its lock."""
    return sorted(path.name for path in staging.root.rglob("*") if path.is_file() and path.name != "lock")


@dataclass(frozen=True, slots=True)
class Gateway:
    """A folder with manifests, a staging folder, and bundles below `out`."""

    place: Path

    @property
    def staging(self) -> Staging:
        """Where its fetched bytes wait."""
        return Staging(self.place / "staging")

    @property
    def bundle(self) -> Path:
        """Where the bundle `gift` is built."""
        return self.place / "out" / "gift"

    def manifest(self, *repos: Repo, hubs: tuple[FaultyHubServer, ...]) -> Path:
        """Write gift.toml."""
        return write_manifest(self.place / "gift.toml", *repos, endpoints=[hub.endpoint for hub in hubs])

    def build_command(self, manifest: Path, *more: str) -> list[str]:
        """Return the command that builds into `out`; files of 1 MiB and more go through aria2c."""
        places = ["-o", str(self.place / "out"), "--staging", str(self.staging.root)]
        return ["build", str(manifest), *places, "--aria2-from", "1MiB", "--connections", "4", "--workers", "2", *more]

    def build(self, manifest: Path, *more: str) -> Result:
        """Run `bundle build` to its end."""
        return bundle(*self.build_command(manifest, *more))


def assert_right(gateway: Gateway, built: Result) -> None:
    """Look at the bundle as somebody does who trusts neither it nor the build."""
    assert built.returncode == 0, built.stderr
    assert "Traceback" not in built.stderr
    verified = bundle("verify", gateway.bundle, "--allow-unsigned")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    sums = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=gateway.bundle, capture_output=True)
    assert sums.returncode == 0, sums.stdout


def processes(name: str, folder: Path) -> list[int]:
    """Return the ids of the processes of a name whose command line names a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if Path(os.fsdecode(words[0])).name == name and any(os.fsencode(folder) in word for word in words):
            found.append(int(entry.name))
    return found


@contextmanager
def running(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start `bundle ARGUMENTS...`; it does not outlive the body."""
    command = bundle_command(*arguments)
    with subprocess.Popen(
        command, env=environment({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for something that happens in another thread or process."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


@contextmanager
def small_disk(mount_point: Path, size: int, *, names: int = 0) -> Iterator[Path]:
    """Mount a file system of `size` bytes for so many names, any number if 0. Whoever may not mount skips the test."""
    mount_point.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes={names}", "tmpfs", str(mount_point)]
    if os.geteuid() != 0 or subprocess.run(command, stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip("may not mount a file system")
    try:
        yield mount_point
    finally:
        subprocess.run(["umount", "--lazy", mount_point], check=True)


def fill(folder: Path) -> None:
    """Leave no byte free on a (small) file system."""
    with (folder / "filler").open("wb", buffering=0) as stream:
        try:
            while stream.write(bytes(4096)):
                pass
        except OSError:
            pass


@dataclass(frozen=True, slots=True, kw_only=True)
class First:
    """A fault for `FaultyHubServer.fail`: something else happens before the true answer is given."""

    act: Callable[[], object]

    def hits(self, request: Request, response: Response) -> bool:
        """Say that it makes a difference to all answers with a body."""
        return response.status in (200, 206) and request.method == "GET"

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        """Act, and answer truly."""
        self.act()
        return response
