"""A repository at two commits, bundles of them, and caches that they were installed into."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bundler.target.install import install_bundle
from tests.bundles import Repo, make_bundle, noise
from tests.offline_reader import Digests, Question, ask_offline

OLD = Repo(id="org/name", files={
    "config.json": b'{"version": 1}', "model.safetensors": noise("old weights", 70_000), "sub/LICENSE": b"MIT\n"})
NEW = Repo(id="org/name", files={
    "config.json": b'{"version": 2}', "model.safetensors": noise("new weights", 60_000), "sub/LICENSE": b"MIT\n"})
A, B = OLD.snapshot.commit, NEW.snapshot.commit
FOLDER = "models--org--name"
MAIN = Question("org/name")
MONDAY = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)
TUESDAY = datetime(2026, 11, 3, 10, 0, tzinfo=UTC)


def bundle_of(tmp_path: Path, name: str, *repos: Repo) -> Path:
    """Return a bundle of that name, made when it is first asked for."""
    folder = tmp_path / "bundles" / name
    return folder if folder.exists() else make_bundle(folder, repos=repos)


def installed(tmp_path: Path, *repos: Repo) -> Path:
    """Return a cache where these were installed one after the other, on Monday, and the others on Tuesday."""
    for number, repo in enumerate(repos):
        bundle = bundle_of(tmp_path, f"bundle-{number}", repo)
        install_bundle((bundle,), tmp_path / "hub", workers=2, clock=lambda: TUESDAY if number else MONDAY)
    return tmp_path / "hub"


def receipts_in(cache_dir: Path, folder: str = FOLDER) -> list[dict[str, Any]]:
    """Return the receipts of a repository by their names."""
    return [json.loads(path.read_bytes()) for path in sorted((cache_dir / folder / ".bundler/receipts").iterdir())]


def moves_in(cache_dir: Path) -> list[tuple[str, str | None, str]]:
    """Return (ref, before, after) of all moves that receipts tell of, in their order."""
    writes = [each for receipt in receipts_in(cache_dir) for each in receipt["refs"]]
    return [(each["ref"], each["before"], each["after"]) for each in writes if each["before"] != each["after"]]


def read_main(cache_dir: Path) -> Digests:
    """Return what another process that is offline gets as `main`, and check that a scan finds no fault."""
    answers = ask_offline(cache_dir, [MAIN])
    assert answers.warnings == []
    return answers.snapshots[MAIN]


def digests(repo: Repo) -> dict[str, str | None]:
    """Return the digest of each file of a repository."""
    return {str(file.path): file.sha256 for file in repo.snapshot.files}


_KILLED_BEFORE = """
import os, signal, sys
_, event, path, *command = sys.argv

def watch(name, arguments):
    if name == event and any(path in str(argument) for argument in arguments[:2] if argument is not None):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
sys.argv = ["bundle", *command]
from bundler.cli import run
run()
"""


def killed_before(event: str, path: str, *command: object) -> int:
    """Run `bundle COMMAND...`, SIGKILLed before a step of Python's audit log that names `path`; return how it ended."""
    done = subprocess.run(
        [sys.executable, "-c", _KILLED_BEFORE, event, path, *map(str, command)], capture_output=True, check=False)
    return done.returncode
