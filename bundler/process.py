"""How a process is set up that runs one command and ends. To be called before the rest is imported."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import threading
import weakref
from types import FrameType

_AFTER_A_FINALIZER = 0.02
"""Seconds."""


def set_up_process() -> None:
    """Keep the interpreter, and libraries, from work that such a process has no use for; let no Ctrl-C get lost."""
    # numpy's algebra, which nothing here uses, would start a thread a core, and let them spin.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Nearly all that is made stays, and little of it in cycles: to look for these every 700 objects is wasted, and once
    # more at the end, when all goes with the process.
    gc.set_threshold(50_000)
    atexit.register(gc.freeze)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; a moment later where a finalizer runs, out of which Python lets no exception come.

    urllib3's pools have one, and whoever collects garbage runs it.
    """
    while frame is not None:
        if frame.f_code is weakref.finalize.__call__.__code__:
            again = threading.Timer(_AFTER_A_FINALIZER, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt
