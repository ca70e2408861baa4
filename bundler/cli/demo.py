"""`bundle demo`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.options import require_gateway


@click.command()
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path),
    help="Work in this new folder and leave everything there to look at.  [default: a temporary one]",
)
def demo(folder: Path | None) -> None:
    """Walk the whole journey on this machine, with no network and a model that comes with the program."""
    require_gateway()
    from bundler.demo.journey import run_demo

    run_demo(folder, say=click.echo)
