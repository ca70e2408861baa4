"""Three bad sources at once, links that die, and an aria2c that is killed: the bundle is right nevertheless."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bundler.demo.messages import Request, Response
from tests.bundle_command import succeed
from tests.cache_layout import wrong_blobs
from tests.faulty_hub import (
    Alter, Cut, Fault, FaultyHubServer, HtmlPage, Pause, Slow, Status, WrongSize, altered
)
from tests.gateway_side import MIB, PATIENCE, Gateway, assert_right, noise, processes, running, wait_until

FILES = {
    "config.json": noise("config", 3000),
    **{f"model-{number}.safetensors": noise(number, 2 * MIB + 100_000 * number) for number in range(3)},
    **{f"part-{number}.bin": noise(("part", number), 100_000) for number in range(6)},
    "tokenizer.json": noise("tokens", 400_000),
}
SEEDS = range(10)


@dataclass(frozen=True, slots=True)
class OneWrongByte:
    """The first byte of an answer's body is another one, whatever range was asked for."""

    def hits(self, request: Request, response: Response) -> bool:
        """Say that it makes a difference to all bodies."""
        return response.status == 200 and request.method == "GET"

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        """Flip it."""
        alter: Alter = _flip_first
        return altered(response, alter)


def _flip_first(chunks: Iterator[bytes], start: int) -> Iterator[bytes]:
    first = next(chunks, b"")
    yield bytes([first[0] ^ 0xFF]) + first[1:] if first else b""
    yield from chunks


class Refusal:
    """A connection that is closed without a word."""

    def hits(self, request: Request, response: Response) -> bool:
        """Say that it always makes a difference."""
        return True

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        """Close it."""
        raise ConnectionAbortedError


@dataclass(slots=True)
class Chaos:
    """A third of all requests fails in one way or another, one answer in twenty has a wrong byte."""

    chance: random.Random
    struck: int = 0
    spoiled: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hits(self, request: Request, response: Response) -> bool:
        """Say that it may make a difference to anything."""
        return True

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        """Throw the dice."""
        fault = self._fault()
        if fault is not None and fault.hits(request, response):
            return fault.spoil(request, response, pause)
        # Slow enough that links die in the middle of a file, and that there is time to kill somebody.
        slow = Slow(rate=250_000)
        return slow.spoil(request, response, pause) if slow.hits(request, response) else response

    def _fault(self) -> Fault | None:
        with self.lock:
            thrown = self.chance.random()
            if thrown < 1 / 3:
                self.struck += 1
                faults: list[Fault] = [
                    Status(code=403), Status(code=404), Status(code=429, retry_after=1), Status(code=500),
                    Status(code=503), HtmlPage(), WrongSize(by=self.chance.choice([-7, 7])), Refusal(),
                    Cut(after=self.chance.randrange(200_000)),
                ]
                return self.chance.choice(faults)
            if thrown < 1 / 3 + 1 / 20:
                self.spoiled += 1
                return OneWrongByte()
            return None


@pytest.fixture
def hubs() -> Iterator[tuple[FaultyHubServer, ...]]:
    """Three of them, with the same files."""
    with ExitStack() as running_hubs:
        started = tuple(running_hubs.enter_context(FaultyHubServer()) for _ in range(3))
        for hub in started:
            hub.publish("org/a", FILES)
        yield started


def given(hubs: tuple[FaultyHubServer, ...]) -> int:
    """Return how many bytes of large files left the hubs."""
    return sum(seen.sent for hub in hubs for seen in hub.asked("model-*", host="cdn"))


def fresh(gateway: Gateway, known: set[int]) -> set[int]:
    """Return the ids of the build's aria2c that are not known yet."""
    return set(processes("aria2c", gateway.place)) - known


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_ends_with_the_right_bytes(hubs: tuple[FaultyHubServer, ...], tmp_path: Path, seed: int) -> None:
    """No byte of a bundle depends on how bad the line was."""
    gateway, chaos = Gateway(tmp_path), Chaos(random.Random(seed))
    manifest = gateway.manifest("org/a", hubs=hubs)
    succeed("lock", manifest)
    for hub in hubs:
        hub.cdn.lifetime = 5
        hub.fail(chaos, path="*.*")
    victims: set[int] = set()

    with running(*gateway.build_command(manifest, "--connections", "2", "--patience", "2m", "--json")) as build:
        for goal in (1 * MIB, 4 * MIB):
            wait_until(lambda: build.poll() is not None or given(hubs) > goal and fresh(gateway, victims))
            for victim in fresh(gateway, victims):
                os.kill(victim, signal.SIGKILL)
                victims.add(victim)
        out, err = build.communicate(timeout=4 * PATIENCE)

    assert len(victims) == 2, err
    assert_right(gateway, subprocess.CompletedProcess([], build.returncode, out, err))
    assert chaos.struck and chaos.spoiled
    cache = tmp_path / "cache"
    succeed("install", gateway.bundle, "--cache-dir", cache)
    (snapshot,) = (cache / "models--org--a" / "snapshots").iterdir()
    assert {path.name: path.read_bytes() for path in snapshot.iterdir()} == FILES
    assert wrong_blobs(cache) == []
