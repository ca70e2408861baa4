"""`bundle inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.options import bundle_argument, json_option, policies, signers_option
from bundler.cli.render.inspect import inspect_json, inspect_text
from bundler.format.inspect import inspect_bundle


@click.command()
@bundle_argument
@click.option("--files", is_flag=True, help="List every file with size and SHA-256.")
@signers_option
@json_option
def inspect(folders: tuple[Path, ...], files: bool, signers: Path | None, as_json: bool) -> None:
    """Show what the bundle in DIR... holds, from where, how large, and what in it can run.

    Reads the index and its signature only. What it says is as true as the index: `bundle verify` proves the rest.
    """
    summary = inspect_bundle(folders, policies(signers))
    click.echo(inspect_json(summary) if as_json else inspect_text(summary, files=files))
