"""The commands: each parses, calls one function, renders. Here is the way in, and the one place that turns errors
into exit codes.
"""

from __future__ import annotations

import gc
import os
import sys
from io import TextIOWrapper

import click

from bundler.errors import INTERRUPTED_EXIT_CODE, BundlerError


def run() -> None:
    """Run the command line; an expected error ends in its exit code, a bug in its traceback."""
    # numpy's algebra, which nothing here uses, would start a thread a core, and let them spin.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Nearly all that is made stays, and little of it in cycles: to look for these every 700 objects is wasted.
    gc.set_threshold(50_000)
    from bundler.cli.main import main
    from bundler.cli.render.words import printable

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A name that the terminal's encoding does not have must not end a command.
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(main(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BundlerError as error:
        click.echo(printable(f"error: {error}"), err=True)
        if error.hint:
            click.echo(printable(f"hint: {error.hint}"), err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; run the same command again, and it goes on", err=True)
        sys.exit(INTERRUPTED_EXIT_CODE)
