"""`bundle build` killed at very many moments: what stands there is a whole bundle, or none."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from bundler.format.sums import SUMS_NAME
from bundler.format.verify import verify_bundle
from tests.bundle_command import environment
from tests.faulty_hub import FaultyHubServer
from tests.gateway_side import MIB, Gateway, noise, small_disk

FILES = {
    "config.json": b'{"model_type": "none"}',
    **{f"model-{number}.safetensors": noise(number, MIB) for number in range(6)},
    **{f"data/{number}.json": b'{"n": %d}' % number for number in range(60)},
}

_FORKS = """
import contextlib, json, os, signal, sys, time
from bundler.cli.main import main

for line in sys.stdin:
    arguments, seconds = json.loads(line)
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                main(arguments, standalone_mode=False)
            status = 0
        finally:
            os._exit(status)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    print(json.dumps([os.waitstatus_to_exitcode(status), time.monotonic() - start]), flush=True)
"""
"""For each line runs `bundle` in a fork, which is killed after so many seconds; a fork starts in no time."""


class Forks:
    """A process that runs `bundle` in forks of itself. A context manager."""

    def __enter__(self) -> Forks:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env=environment({"OPENBLAS_NUM_THREADS": "1"}))
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def bundle(self, arguments: list[str], *, seconds: float | None = None) -> tuple[int, float]:
        """Run it, with an end after so many seconds, if any; return its exit code and how long it took."""
        pipes: tuple[IO[str] | None, IO[str] | None] = (self._process.stdin, self._process.stdout)
        stdin, stdout = pipes
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps([arguments, seconds]) + "\n")
        stdin.flush()
        code, took = json.loads(stdout.readline())
        return int(code), float(took)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_build_that_is_killed_leaves_a_whole_bundle_or_none(
    hub: FaultyHubServer, tmp_path: Path, kills: int
) -> None:
    """Killed at random moments from start to end; the next run completes, with the same bytes, and asks no hub."""
    moments = random.Random(2026)
    hub.publish("org/a", FILES)
    # In memory: what is killed here is a process, and a disk would only be slow.
    with small_disk(tmp_path / "disk", 256 << 20) as disk, Forks() as forks:
        gateway = Gateway(disk)
        manifest = gateway.manifest("org/a", hubs=(hub,))
        command = gateway.build_command(manifest)
        assert forks.bundle(command)[0] == 0
        first = verify_bundle((gateway.bundle,), workers=1)
        asked = len(hub.requests)
        command.append("--locked")
        shutil.rmtree(gateway.bundle)
        whole = forks.bundle(command)[1]
        for _ in range(kills):
            shutil.rmtree(gateway.bundle)
            moment = moments.uniform(0, 1.1 * whole)

            forks.bundle(command, seconds=moment)

            if (gateway.bundle / SUMS_NAME).exists():
                assert verify_bundle((gateway.bundle,), workers=1).problems == (), moment
            assert forks.bundle(command)[0] == 0, moment
            assert verify_bundle((gateway.bundle,), workers=1).bundle.identity == first.bundle.identity, moment
    assert len(hub.requests) == asked
