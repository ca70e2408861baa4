"""What a whole process costs, seen from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
_LAUNCHER = Path(__file__).with_name("launch.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a process used up, with all the processes that it started and waited for."""

    cpu: float
    """Seconds, of the user and the system together."""

    wall: float
    """Seconds."""

    peak: float
    """Bytes resident, of the largest of the processes. Never below that of the launcher, about 10 MB."""

    @classmethod
    def median(cls, costs: Iterable[Cost]) -> Cost:
        """Return the median of each figure on its own."""
        known = list(costs)
        return cls(
            cpu=median(cost.cpu for cost in known),
            wall=median(cost.wall for cost in known),
            peak=median(cost.peak for cost in known),
        )


class CommandFailedError(Exception):
    """A competitor did not do its work: there is nothing to measure."""


def measure(command: Sequence[str], variables: Mapping[str, str]) -> Cost:
    """Run a command to its end and return what it cost. Raises `CommandFailedError` with what it printed."""
    with TemporaryDirectory(prefix="cost-") as folder:
        cost_file = Path(folder, "cost.json")
        _run([sys.executable, "-I", "-S", str(_LAUNCHER), str(cost_file), *command], variables)
        return Cost(**json.loads(cost_file.read_text()))


def prepare(command: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
    """Run a command whose cost is of no interest."""
    _run(list(command), variables or {})


def _run(command: list[str], variables: Mapping[str, str]) -> None:
    done = subprocess.run(
        command, env=_environment() | dict(variables), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", check=False,
    )
    if done.returncode != 0:
        raise CommandFailedError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}")


def _environment() -> dict[str, str]:
    """Return variables under which the programs of this checkout run, and no setting of the user's counts."""
    theirs = ("HF_", "HUGGING", "PYTHON", "REQUESTS_CA", "CURL_CA")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    loopback = "127.0.0.1,127.0.0.2"
    return kept | {"PYTHONPATH": str(ROOT), "NO_PROXY": loopback, "no_proxy": loopback, "HF_HUB_DISABLE_XET": "1"}
