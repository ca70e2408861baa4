"""A hub on a slow line, in a process of its own so that its work is not counted as ours.

`python -m benchmarks.hub FOLDER shared|each|nginx|late NUMBER` serves the files of a folder until its standard input
ends.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.measure import ROOT
from benchmarks.nginx import nginx
from benchmarks.site import REPO
from bundler.manifest import EndpointUrl
from tests.faulty_hub import Fault, FaultyHubServer, Headers, Late, SharedLine, Slow


@contextmanager
def serving(folder: Path, line: str, number: int) -> Iterator[EndpointUrl]:
    """Serve a folder as `REPO` and give the endpoint.

    The line carries a number of bytes per second, "shared" by all connections or for "each" of them evenly, or as
    "nginx" limits each; or every answer is "late", by a number of milliseconds.
    """
    command = [sys.executable, "-m", "benchmarks.hub", str(folder), line, str(number)]
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
    folder, line, number = sys.argv[1:]
    faults: dict[str, Callable[[float], Fault]] = {
        "shared": lambda rate: SharedLine(rate=rate), "each": lambda rate: Slow(rate=rate),
        "late": lambda milliseconds: Late(seconds=milliseconds / 1000),
    }
    files = {path.name: path for path in Path(folder).iterdir()}
    with FaultyHubServer() as hub, ExitStack() as running:
        hub.publish(REPO, files)
        if line == "nginx":
            url = running.enter_context(nginx(Path(folder), int(number)))
            for name in files:
                hub.fail(Headers(change={"Location": f"{url}/{name}"}), path=name, host="hub")
        else:
            hub.fail(faults[line](float(number)))
        print(hub.endpoint, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
