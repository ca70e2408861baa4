"""`bundle verify`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.bars import Bars
from bundler.cli.options import bundle_argument, json_option, policies, signers_option, workers_option
from bundler.cli.render.verify import verify_json, verify_text
from bundler.format.verify import verify_bundle


@click.command()
@bundle_argument
@click.option("--allow-unsigned", is_flag=True, help="Do not fail because nobody vouches for the bundle.")
@signers_option
@workers_option
@json_option
def verify(
    folders: tuple[Path, ...], allow_unsigned: bool, signers: Path | None, workers: int, as_json: bool
) -> None:
    """Read every byte of the bundle in DIR... and name every problem. Installs nothing, changes nothing.

    Several folders make one bundle.
    """
    with Bars() as on_event:
        report = verify_bundle(folders, policies(signers), workers=workers, on_event=on_event)
    click.echo(verify_json(report) if as_json else verify_text(report))
    if failure := report.failure(unsigned_is_fine=allow_unsigned):
        raise failure
