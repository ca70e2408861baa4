"""The real command line, run as a user runs it: a process of its own, what it printed, its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

Result = subprocess.CompletedProcess[str]


def bundle_command(*arguments: object) -> list[str]:
    """Return what to run for `bundle ARGUMENTS...`."""
    return [sys.executable, "-m", "bundler", *map(str, arguments)]


def bundle(
    *arguments: object, cwd: Path | None = None, variables: Mapping[str, str | None] | None = None,
    under: Sequence[str] = (), umask: int = 0o022, timeout: float = 240, encoding: str = "utf-8",
) -> Result:
    """Run `bundle ARGUMENTS...` and wait for its end, whatever it is.

    `variables` come on top of the tests' environment (None takes one away), `under` is a command that runs it,
    such as `without_network()`.
    """
    return subprocess.run(
        [*under, *bundle_command(*arguments)], cwd=cwd, env=environment(variables or {}), umask=umask,
        capture_output=True, encoding=encoding, timeout=timeout, check=False)


def succeed(*arguments: object, **how: Any) -> Result:
    """Run `bundle ARGUMENTS...` as `bundle` does, where nothing but success is of interest."""
    done = bundle(*arguments, **how)
    assert done.returncode == 0, done.stderr
    return done


def environment(variables: Mapping[str, str | None]) -> dict[str, str]:
    """Return the tests' environment with some variables set, or taken away where the value is None.

    Nobody listens at its proxy for https, so that nothing outside of this machine is asked.
    """
    merged = {**os.environ, "https_proxy": "http://127.0.0.1:9", **variables}
    return {name: value for name, value in merged.items() if value is not None}


@cache
def without_network() -> tuple[str, ...]:
    """Return the command that runs another one where there is no network at all; none where the system forbids it."""
    for command in (("unshare", "--net"), ("unshare", "--map-root-user", "--net")):
        try:
            subprocess.run([*command, "true"], capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return command
    return ()
