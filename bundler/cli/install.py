"""`bundle install`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.access import PUBLIC, Access
from bundler.cli.bars import Bars
from bundler.cli.options import (
    GROUP, MODE, REF, bundle_argument, cache_dir_option, json_option, policies, signers_option, workers_option
)
from bundler.cli.render.install import install_json, install_text, variables
from bundler.names import RefName
from bundler.target.install import InstallOptions, install_bundle


@click.command()
@bundle_argument
@cache_dir_option
@click.option("--revision-as", type=REF, metavar="REF", help="Let REF, such as main, name what is installed as well.")
@click.option("--allow-older", is_flag=True, help="Let a ref go back to a commit that it has left.")
@click.option("--keep-going", is_flag=True, help="Install what is whole, though the rest is damaged or missing.")
@click.option(
    "--no-symlinks", is_flag=True,
    help="Make snapshots of files instead of links.  [default: only where the file system has no links]",
)
@click.option(
    "--mode", type=MODE, default=f"{PUBLIC.folder_mode:o}", show_default=True,
    help="Permissions of new folders, such as 2775 for a group's cache; files get the same without x.",
)
@click.option("--group", type=GROUP, help="The group that new files and folders belong to.")
@signers_option
@workers_option
@json_option
def install(
    folders: tuple[Path, ...],
    cache_dir: Path,
    revision_as: RefName | None,
    allow_older: bool,
    keep_going: bool,
    no_symlinks: bool,
    mode: int,
    group: int | None,
    signers: Path | None,
    workers: int,
    as_json: bool,
) -> None:
    """Prove the bundle in DIR... and unpack it into the Hugging Face cache.

    Several folders make one bundle; they may also come one after another, the first of them with index.json and
    SHA256SUMS. Readers of the cache see what was there before, or all of what is new. Killed at any time and run
    again, it goes on.
    """
    options = InstallOptions(
        revision_as=revision_as,
        allow_older=allow_older,
        keep_going=keep_going,
        symlinks=not no_symlinks,
        access=Access.of_folders(mode, group=group),
    )
    with Bars() as on_event:
        report = install_bundle(
            folders, cache_dir, options, policies=policies(signers), workers=workers, on_event=on_event
        )
    exports = variables(report, Path.home())
    click.echo(install_json(report, exports) if as_json else install_text(report, exports))
    if failure := report.failure():
        raise failure
