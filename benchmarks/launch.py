"""Run a command and write what it cost to a file: `python launch.py FILE COMMAND...`.

A program of its own, and small: Linux counts the memory of whoever starts a process towards the process's peak.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    """Run the command to its end; its exit code is ours."""
    cost_file, *command = sys.argv[1:]
    start = time.monotonic()
    process = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(process, 0)
    wall = time.monotonic() - start
    cost = {
        "cpu": usage.ru_utime + usage.ru_stime,
        "wall": wall,
        "peak": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    with open(cost_file, "w", encoding="ascii") as stream:
        json.dump(cost, stream)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
