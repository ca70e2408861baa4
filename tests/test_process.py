"""What is set up before a command runs."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

INTERRUPTED = """
import os, signal, time, weakref
from bundler.process import set_up_process
class Thing:
    pass
set_up_process()
thing = Thing()
{when}
time.sleep(60)
"""


@pytest.mark.parametrize("when", [
    "os.kill(os.getpid(), signal.SIGINT)",
    "weakref.finalize(thing, os.kill, os.getpid(), signal.SIGINT); del thing",
], ids=["at any time", "in a finalizer"])
def test_an_interrupt_is_never_lost(when: str) -> None:
    """Python drops what is raised in a finalizer: Ctrl-C would have done nothing."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED.format(when=when)], timeout=30, capture_output=True)

    assert done.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in done.stderr and b"ignored" not in done.stderr
