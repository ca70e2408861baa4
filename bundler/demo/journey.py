"""The whole journey on one machine: a hub on loopback, a gateway, a stick, and a server without a network.

Every step is the command that a person would type, run in a process of its own.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundler.demo.hub import Hub
from bundler.demo.server import HubServer
from bundler.errors import BundlerError, InstallError
from bundler.gateway.aria2c import find_aria2c

REPO_ID = "bundler/tiny-alice"
MODEL = Path(__file__).parent / "model"

_MANIFEST = """\
name = "alice"
endpoints = ["{endpoint}"]

[[repo]]
id = "{repo}"
"""

Say = Callable[[str], None]


def run_demo(folder: Path | None, *, say: Say) -> None:
    """Walk the journey in `folder`, which must be new, or in a temporary one. Raises what a step fails with."""
    aria2c = find_aria2c()
    with _workplace(folder) as place:
        say(f"Everything happens below {place}; aria2c is {aria2c}.")
        journey = _Journey(place, say)
        with HubServer(Hub()) as server:
            server.hub.publish(REPO_ID, {path.name: path for path in sorted(MODEL.iterdir())})
            journey.on_the_gateway(server.endpoint)
        journey.on_the_stick()
        journey.on_the_server()


@contextmanager
def _workplace(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        try:
            folder.mkdir(parents=True)
        except FileExistsError as error:
            raise InstallError(f"{folder} is there already", hint="name a new folder") from error
        yield folder.absolute()
    else:
        with tempfile.TemporaryDirectory(prefix="bundle-demo-") as temporary:
            yield Path(temporary)


@dataclass(frozen=True, slots=True)
class _Journey:
    """The steps, each run below `place`."""

    place: Path
    say: Say

    def on_the_gateway(self, endpoint: str) -> None:
        """Lock, build and verify."""
        self.say(f"\n1. The gateway. A small hub on {endpoint} serves {REPO_ID}. This manifest asks for it:")
        manifest = _MANIFEST.format(endpoint=endpoint, repo=REPO_ID)
        (self.place / "alice.toml").write_text(manifest, encoding="utf-8")
        self.say(_indented(manifest))
        self._bundle("lock", "alice.toml", "--identity", endpoint)
        self.say("\n   Fetch with aria2c (files from 64 KiB on), prove, pack:")
        self._bundle("build", "alice.toml", "-o", "gateway", "--staging", "staging", "--aria2-from", "64KiB")
        self.say("\n   Prove what was written. Nobody has signed it, which has to be said:")
        self._bundle("verify", "gateway/alice", "--allow-unsigned")

    def on_the_stick(self) -> None:
        """Carry the bundle, and nothing else."""
        self.say("\n2. The stick. The hub is gone; the bundle alone is carried over:")
        self.say("   $ cp -r gateway/alice stick/alice")
        shutil.copytree(self.place / "gateway" / "alice", self.place / "stick" / "alice")
        for path in sorted((self.place / "stick" / "alice").iterdir()):
            self.say(f"   {path.stat().st_size:>9,} {path.name}")

    def on_the_server(self) -> None:
        """Install, and use the model."""
        self.say("\n3. The server without a network. Prove everything again and unpack it into the cache:")
        self._bundle("install", "stick/alice", "--cache-dir", "server/hub")
        self.say("\n   Another process asks for the model by its repository id, and lets it tell a story:")
        offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": "server/hub"}
        self._run([sys.executable, "-m", "bundler.demo.speak", REPO_ID], ["python", *_SPEAK], offline)

    def _bundle(self, *arguments: str) -> None:
        self._run([sys.executable, "-m", "bundler", *arguments], ["bundle", *arguments], {})

    def _run(self, command: list[str], typed: list[str], variables: dict[str, str]) -> None:
        settings = [f"{name}={value}" for name, value in variables.items()]
        self.say(f"   $ {' '.join(settings + [shlex.quote(word) for word in typed])}")
        done = subprocess.run(
            command, cwd=self.place, env=self._environment() | variables,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )
        self.say(_indented(done.stdout))
        if done.returncode:
            raise StepFailedError(f"the step above ended with exit code {done.returncode}", done.returncode)

    def _environment(self) -> dict[str, str]:
        """Return the user's variables, without those that would lead the demo to the user's own cache or token."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        return kept | {"NO_PROXY": "*", "no_proxy": "*", "HF_HOME": str(self.place / "home")}


_SPEAK = ("-m", "bundler.demo.speak", REPO_ID)


class StepFailedError(BundlerError):
    """A step of the demo failed; it has said why."""

    exit_code = 1

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message, hint="`bundle demo --folder DIR` leaves everything there to look at")
        self.exit_code = exit_code  # type: ignore[misc]  # the step's own


def _indented(text: str) -> str:
    return "\n".join(f"   {line}" if line else "" for line in text.rstrip("\n").split("\n"))
