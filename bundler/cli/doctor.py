"""`bundle doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.options import (
    FOLDER, aria2c_option, endpoint_option, endpoints_for, environment, json_option, optional_manifest_argument,
    require_gateway, staging_option
)
from bundler.cli.render.doctor import doctor_json, doctor_text
from bundler.manifest import EndpointUrl, read_manifest


@click.command()
@optional_manifest_argument
@click.option("-o", "--output", type=FOLDER, default=Path(), help="Where the bundle would be written.  [default: here]")
@endpoint_option
@staging_option
@aria2c_option
@json_option
def doctor(
    manifest: Path | None,
    output: Path,
    endpoints: tuple[EndpointUrl, ...],
    staging: Path | None,
    aria2c: Path | None,
    as_json: bool,
) -> None:
    """Say whether a build of MANIFEST could start here, and what stands in its way.

    Which aria2c, which endpoints answer and how fast, what each would be told, which proxy, how much room, which time.
    Asks every endpoint for the first repository; fetches, writes and changes nothing. Tokens are not shown.
    """
    require_gateway()
    from bundler.gateway.doctor import Site, examine
    from bundler.gateway.staging import Staging, default_staging

    place = Staging(staging or default_staging(environment(), Path.home()))
    site = Site(manifest=manifest, output=output, staging=place, aria2c=aria2c)
    wanted = read_manifest(manifest) if manifest else None
    diagnosis = examine(site, wanted, endpoints_for(manifest, instead=endpoints))
    click.echo(doctor_json(diagnosis) if as_json else doctor_text(diagnosis))
    if failure := diagnosis.failure():
        raise failure
