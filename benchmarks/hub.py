"""A hub on a slow line, in a process of its own so that its work is not counted as ours.

`python -m benchmarks.hub FOLDER shared|each RATE` serves the files of a folder until its standard input ends.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import ROOT
from benchmarks.site import REPO
from bundler.manifest import EndpointUrl
from tests.faulty_hub import FaultyHubServer, SharedLine, Slow


@contextmanager
def serving(folder: Path, line: str, rate: int) -> Iterator[EndpointUrl]:
    """Serve a folder as `REPO` and give the endpoint.

    The line carries `rate` bytes per second: "shared" by all connections, or "each" of them.
    """
    command = [sys.executable, "-m", "benchmarks.hub", str(folder), line, str(rate)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="ascii"
    ) as process:
        assert process.stdin is not None and process.stdout is not None  # both are pipes
        try:
            yield EndpointUrl(process.stdout.readline().strip())
        finally:
            process.stdin.close()


def main() -> None:
    """Serve."""
    folder, line, rate = sys.argv[1:]
    with FaultyHubServer() as hub:
        hub.publish(REPO, {path.name: path for path in Path(folder).iterdir()})
        hub.fail(SharedLine(rate=float(rate)) if line == "shared" else Slow(rate=float(rate)))
        print(hub.endpoint, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
