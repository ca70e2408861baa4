"""The commands: each parses, calls one function, renders. Here is the way in, and the one place that turns errors
into exit codes.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper

import click

from bundler.errors import INTERRUPTED_EXIT_CODE, BundlerError
from bundler.process import set_up_process


def run() -> None:
    """Run the command line; an expected error ends in its exit code, a bug in its traceback."""
    set_up_process()
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
