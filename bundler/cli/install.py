"""`bundle install`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli import render
from bundler.cli.bars import Bars
from bundler.cli.options import FOLDER, REF, bundle_argument, environment, json_option, workers_option
from bundler.names import RefName
from bundler.target.hubcache import default_cache_dir
from bundler.target.install import install_bundle


@click.command()
@bundle_argument
@click.option(
    "--cache-dir", type=FOLDER, help="The cache's hub folder.  [default: where huggingface_hub would look]"
)
@click.option("--revision-as", type=REF, metavar="REF", help="Let REF, such as main, name what is installed as well.")
@workers_option
@json_option
def install(
    folders: tuple[Path, ...], cache_dir: Path | None, revision_as: RefName | None, workers: int, as_json: bool
) -> None:
    """Prove the bundle in DIR... and unpack it into the Hugging Face cache.

    Several folders make one bundle. Readers of the cache see what was there before, or all of what is new. Killed at
    any time and run again, it goes on.
    """
    place = cache_dir or default_cache_dir(environment(), Path.home())
    with Bars() as on_event:
        report = install_bundle(folders, place, revision_as=revision_as, workers=workers, on_event=on_event)
    variables = render.variables(report, Path.home())
    click.echo(render.install_json(report, variables) if as_json else render.install_text(report, variables))
