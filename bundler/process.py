"""How a process is set up that runs one command and ends. To be called before the rest is imported."""

from __future__ import annotations

import atexit
import gc
import os


def set_up_process() -> None:
    """Keep the interpreter, and libraries, from work that such a process has no use for."""
    # numpy's algebra, which nothing here uses, would start a thread a core, and let them spin.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Nearly all that is made stays, and little of it in cycles: to look for these every 700 objects is wasted, and once
    # more at the end, when all goes with the process.
    gc.set_threshold(50_000)
    atexit.register(gc.freeze)
