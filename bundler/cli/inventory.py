"""`bundle inventory`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.bars import Bars
from bundler.cli.options import cache_dir_option, json_option, workers_option
from bundler.cli.render.inventory import inventory_summary
from bundler.target.inventory import inventory_text, write_inventory


@click.command()
@cache_dir_option
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("inventory.json"),
    show_default=True, help="The file to write.",
)
@workers_option
@json_option
def inventory(cache_dir: Path, output: Path, workers: int, as_json: bool) -> None:
    """Write down what this server holds, proven: repositories, commits, refs, and every blob's SHA-256 and size.

    Carry the file back to the gateway. With --json it is printed as well.
    """
    with Bars() as on_event:
        held = write_inventory(cache_dir, output, workers=workers, on_event=on_event)
    click.echo(inventory_text(held).decode() if as_json else inventory_summary(held, output))
