"""`bundle status`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.bars import Bars
from bundler.cli.options import REPO, cache_dir_option, json_option, policies, signers_option, workers_option
from bundler.cli.render.status import status_json, status_text
from bundler.names import RepoId
from bundler.target.repair import repair_cache
from bundler.target.status import cache_status


@click.command()
@click.argument("repos", metavar="[REPO]...", nargs=-1, type=REPO)
@cache_dir_option
@click.option(
    "--repair", "bundles", metavar="DIR", multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Mend what is damaged or missing from the bundle in DIR; several folders make one bundle.",
)
@signers_option
@workers_option
@json_option
def status(
    repos: tuple[RepoId, ...],
    cache_dir: Path,
    bundles: tuple[Path, ...],
    signers: Path | None,
    workers: int,
    as_json: bool,
) -> None:
    """Prove again all that was installed, or REPO... alone: every file, link and ref against the receipts.

    Snapshots that other programs put there are listed, not checked.
    """
    with Bars() as on_event:
        report = cache_status(cache_dir, repos, workers=workers, on_event=on_event)
        if bundles:
            trusted = policies(signers)
            report = repair_cache(report, bundles, policies=trusted, workers=workers, on_event=on_event)
    click.echo(status_json(report) if as_json else status_text(report))
    if failure := report.failure():
        raise failure
