"""`bundle lock`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli import render
from bundler.cli.bars import Bars
from bundler.cli.options import endpoint_option, json_option, manifest_argument, require_gateway
from bundler.manifest import EndpointUrl, read_manifest


@click.command()
@manifest_argument
@endpoint_option
@json_option
def lock(manifest: Path, endpoints: tuple[EndpointUrl, ...], as_json: bool) -> None:
    """Pin what MANIFEST asks for: each revision to a commit, each file to size and digest.

    Writes NAME.lock.json beside the manifest. Review it, keep it in git: the same lock gives the same bundle.
    """
    require_gateway()
    from bundler.gateway.build import lock_manifest
    from bundler.gateway.endpoint import endpoints_of
    from bundler.gateway.hub import user_token

    asked = endpoints_of(endpoints or read_manifest(manifest).endpoints, token=user_token())
    with Bars() as on_event:
        path, locked = lock_manifest(manifest, asked, on_event=on_event)
    click.echo(render.lock_json(path, locked) if as_json else render.lock_text(path, locked))
