"""`bundle lock`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.bars import Bars
from bundler.cli.options import (
    Checked, endpoint_option, endpoints_for, json_option, manifest_argument, require_gateway
)
from bundler.cli.render.lock import lock_json, lock_text
from bundler.manifest import EndpointUrl


@click.command()
@manifest_argument
@endpoint_option
@click.option("--identity", type=Checked("url", EndpointUrl), help="Believe this endpoint, whatever others say.")
@click.option(
    "--agree", type=click.IntRange(min=1), default=1, show_default=True,
    help="Fail unless so many endpoints say the same.",
)
@json_option
def lock(
    manifest: Path, endpoints: tuple[EndpointUrl, ...], identity: EndpointUrl | None, agree: int, as_json: bool
) -> None:
    """Pin what MANIFEST asks for: each revision to a commit, each file to size and digest.

    Asks the manifest's endpoints and the official hub, which is believed where it answers; says who differs.
    Writes NAME.lock.json beside the manifest. Review it, keep it in git: the same lock gives the same bundle.
    """
    require_gateway()
    from bundler.gateway.build import lock_manifest
    from bundler.gateway.identity import Trust

    asked = endpoints_for(manifest, instead=endpoints, identity=identity)
    with Bars() as bars:
        trust = Trust(identity=identity, agree=agree)
        path, locked = lock_manifest(manifest, asked.tellers, trust=trust, on_event=bars)
    click.echo(lock_json(path, locked, bars.notes) if as_json else lock_text(path, locked))
