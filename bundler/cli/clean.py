"""`bundle clean`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.bars import Bars
from bundler.cli.options import environment, json_option, require_gateway, staging_option
from bundler.cli.render.clean import clean_json, clean_text


@click.command()
@staging_option
@click.option(
    "--keep", "manifests", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Keep what this manifest's lock needs; may be given several times.",
)
@json_option
def clean(staging: Path | None, manifests: tuple[Path, ...], as_json: bool) -> None:
    """Remove fetched bytes that wait in staging. Bundles are not touched."""
    require_gateway()
    from bundler.gateway.staging import Staging, clean_staging, default_staging

    place = Staging(staging or default_staging(environment(), Path.home()))
    with Bars() as on_event:
        freed = clean_staging(place, manifests, on_event=on_event)
    click.echo(clean_json(place.root, freed) if as_json else clean_text(place.root, freed))
