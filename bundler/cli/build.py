"""`bundle build`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from bundler.cli.bars import Bars
from bundler.cli.options import (
    FOLDER, KEY, KEY_HELP, Duration, Size, aria2c_option, endpoint_option, endpoints_for, environment,
    from_cache_option, from_dir_option, json_option, manifest_argument, require_gateway, staging_option, workers_option
)
from bundler.cli.render.build import build_json, build_text
from bundler.format.volume import DEFAULT_VOLUME_SIZE, MIN_VOLUME_SIZE
from bundler.manifest import EndpointUrl


@click.command()
@manifest_argument
@click.option("-o", "--output", type=FOLDER, required=True, help="The bundle is written to OUTPUT/NAME.")
@endpoint_option
@click.option("--locked", is_flag=True, help="Refuse to go on if the lock is missing or does not fit the manifest.")
@click.option("--replace", is_flag=True, help="Write over another complete bundle.")
@click.option(
    "--volume-size", type=Size(), default=DEFAULT_VOLUME_SIZE, show_default="3900MiB, which fits FAT32",
    help="No volume is larger.",
)
@click.option("--sign", "key", type=KEY, metavar="KEY", help=f"Sign the bundle. {KEY_HELP}")
@from_cache_option
@from_dir_option
@staging_option
@click.option("--jobs", type=click.IntRange(1, 64), default=4, show_default=True, help="Large files at once.")
@click.option(
    "--connections", type=click.IntRange(1, 16), default=16, show_default=True, help="Connections for each of them."
)
@click.option(
    "--limit-rate", type=Size(), metavar="SIZE",
    help="Bytes per second, of all downloads together.  [default: all that there is]",
)
@click.option(
    "--patience", type=Duration(), default=6 * 3600.0, show_default="6h",
    help="Without a single new byte for so long, what could not be fetched is given up.",
)
@click.option(
    "--aria2-from", type=Size(), default=8 << 20, show_default="8MiB", help="From which size on files are large."
)
@aria2c_option
@workers_option
@json_option
def build(
    manifest: Path,
    output: Path,
    endpoints: tuple[EndpointUrl, ...],
    locked: bool,
    replace: bool,
    volume_size: int,
    key: Path | None,
    caches: tuple[Path, ...],
    folders: tuple[Path, ...],
    staging: Path | None,
    jobs: int,
    connections: int,
    limit_rate: int | None,
    patience: float,
    aria2_from: int,
    aria2c: Path | None,
    workers: int,
    as_json: bool,
) -> None:
    """Fetch what MANIFEST asks for, prove every byte, and pack it into OUTPUT/NAME.

    Killed at any time and run again, it goes on: what was fetched is kept and not fetched again.
    """
    require_gateway()
    from bundler.gateway.build import BuildOptions, build_bundle
    from bundler.gateway.fetch import FetchOptions
    from bundler.gateway.local import CacheStore, FolderStore
    from bundler.gateway.staging import Staging, default_staging

    if volume_size < MIN_VOLUME_SIZE:
        raise click.BadParameter(f"at least {MIN_VOLUME_SIZE:,} bytes: any part must fit", param_hint="--volume-size")
    now = _now()
    options = BuildOptions(
        endpoints=endpoints_for(manifest, instead=endpoints),
        staging=Staging(staging or default_staging(environment(), Path.home())),
        stores=(*map(CacheStore, caches), *map(FolderStore, folders)),
        fetch=FetchOptions(
            aria2c=aria2c, jobs=jobs, connections=connections, aria2_from=aria2_from,
            rate_limit=limit_rate or None, patience=patience,
        ),
        workers=workers,
        volume_size=volume_size,
        locked=locked,
        replace=replace,
        key=key,
    )
    with Bars() as on_event:
        report = build_bundle(manifest, output, options, now=now, on_event=on_event)
    click.echo(build_json(report) if as_json else build_text(report))


def _now() -> datetime:
    # https://reproducible-builds.org/specs/source-date-epoch/
    epoch = environment().get("SOURCE_DATE_EPOCH", "")
    if not epoch:
        return datetime.now(UTC)
    try:
        return datetime.fromtimestamp(int(epoch), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise click.UsageError(f"SOURCE_DATE_EPOCH is not a number of seconds: {epoch[:40]!r}") from error
