"""`bundle sign`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.options import KEY, KEY_HELP, bundle_argument, json_option
from bundler.cli.render.sign import sign_json, sign_text
from bundler.format.sign import sign_bundle


@click.command()
@bundle_argument
@click.option("--key", type=KEY, required=True, help=KEY_HELP)
@json_option
def sign(folders: tuple[Path, ...], key: Path, as_json: bool) -> None:
    """Vouch for the bundle in DIR...: sign its SHA256SUMS, and with it all the rest, in place of an older signature.

    It does not read the volumes: `bundle verify` them before.
    """
    report = sign_bundle(folders, key)
    click.echo(sign_json(report) if as_json else sign_text(report))
