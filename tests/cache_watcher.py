"""A program on the server that reads a cache over and over while it is being changed."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from tests.bundle_command import environment
from tests.offline_reader import Digests, digests_below


@dataclass(frozen=True, slots=True)
class Sightings:
    """All that a reader came across."""

    reads: int
    states: list[Digests]
    """Each different content that the repository had, in the order in which they were first seen."""

    errors: list[str]


class Watcher:
    """The real huggingface_hub in another process, offline, which resolves `main` of a repository without a pause.

    It is a context manager; `watch` starts it on a cache, `sightings` ends that and tells.
    """

    def __init__(self, repo_id: str) -> None:
        self._repo_id = repo_id

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cache_watcher", self._repo_id], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env=environment({"HF_HUB_OFFLINE": "1"}), cwd=Path(__file__).parent.parent)
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def watch(self, cache_dir: Path) -> None:
        """Let it read there; returns when it has done so for the first time."""
        self._say(str(cache_dir))
        assert self._hear() == "watching"

    def sightings(self) -> Sightings:
        """Return what it has seen since `watch`, the state of now included."""
        self._say("enough")
        return Sightings(**json.loads(self._hear()))

    def _say(self, line: str) -> None:
        _stream(self._process.stdin).write(f"{line}\n")
        _stream(self._process.stdin).flush()

    def _hear(self) -> str:
        return _stream(self._process.stdout).readline().strip()


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _read_until_told(repo_id: str, cache_dir: Path) -> Sightings:
    from huggingface_hub import snapshot_download

    reads = 0
    states: list[Digests] = []
    errors: list[str] = []
    told = False
    while True:
        try:
            state = digests_below(Path(snapshot_download(repo_id, cache_dir=cache_dir)))
            if state not in states:
                states.append(state)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
        reads += 1
        if reads == 1:
            print("watching", flush=True)
        if told:
            return Sightings(reads, states, errors[:5])
        # One read more, so that the last state is always among those seen.
        told = bool(select.select([sys.stdin], [], [], 0)[0])


def _main() -> None:
    while line := sys.stdin.readline().strip():
        seen = _read_until_told(sys.argv[1], Path(line))
        sys.stdin.readline()
        print(json.dumps({"reads": seen.reads, "states": seen.states, "errors": seen.errors}), flush=True)


if __name__ == "__main__":
    _main()
