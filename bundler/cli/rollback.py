"""`bundle rollback`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.bars import Bars
from bundler.cli.options import REPO_AND_REF, cache_dir_option, json_option, workers_option
from bundler.cli.render.rollback import rollback_json, rollback_text
from bundler.names import RefName, RepoId
from bundler.target.rollback import rollback_ref


@click.command()
@click.argument("repo_and_ref", metavar="REPO[@REF]", type=REPO_AND_REF)
@cache_dir_option
@workers_option
@json_option
def rollback(repo_and_ref: tuple[RepoId, RefName], cache_dir: Path, workers: int, as_json: bool) -> None:
    """Put REF, main if not given, back to where it was before it last moved.

    REPO is org/name, datasets/org/name or spaces/org/name. The snapshot there is proven first, every byte. Run again,
    it undoes itself.
    """
    with Bars() as on_event:
        report = rollback_ref(cache_dir, *repo_and_ref, workers=workers, on_event=on_event)
    click.echo(rollback_json(report) if as_json else rollback_text(report))
