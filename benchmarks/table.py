"""Results as one table in Markdown that is readable as it is, with all that they depend on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from benchmarks.contest import Aim, Quantity, Result
from bundler.format.codec import LIBZSTD_VERSION
from bundler.pipeline import usable_cores

_COLUMNS = {
    Quantity.CPU: ".2f",
    Quantity.WALL: ".2f",
    Quantity.CPU_PER_GB: ".2f",
    Quantity.WALL_PER_GB: ".2f",
    Quantity.WALL_PER_CPU: ".2f",
    Quantity.SIZE: ".2f",
    Quantity.PEAK: ".0f",
}
_LEFT = (0, 1, 2, 3 + len(_COLUMNS))
"""Columns of words."""


def machine(now: datetime) -> str:
    """Say when and where: figures are of this machine, and of how busy it was."""
    load = f"load {os.getloadavg()[0]:.1f} at the start"
    versions = f"Python {platform.python_version()}, libzstd {LIBZSTD_VERSION}, numpy {np.__version__}"
    return f"{now:%Y-%m-%d %H:%M} UTC; {usable_cores()} cores, {_processor()}, {load}; {versions}, zstd {_zstd()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _zstd() -> str:
    program = shutil.which("zstd")
    if program is None:
        return "not installed"
    told = subprocess.run([program, "-V"], capture_output=True, encoding="utf-8", check=True).stdout
    return next((word.strip("v,") for word in told.split() if word.startswith("v")), "?")


def table(results: dict[str, list[Result]]) -> str:
    """Return the results by contest as a table."""
    head = ["--only", "data", "what", *_COLUMNS, "aim"]
    rows = [_row(name, result, group) for name, group in results.items() for result in group]
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows)]
    ruler = ["-" * width if number in _LEFT else "-" * (width - 1) + ":" for number, width in enumerate(widths)]
    return "\n".join(_line(cells, widths) for cells in [head, ruler, *rows])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.ljust(width) if number in _LEFT else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(cells, widths))
    ]
    return f"| {' | '.join(padded)} |"


def _row(name: str, result: Result, group: list[Result]) -> list[str]:
    figures = [(result.figure(quantity), spelling) for quantity, spelling in _COLUMNS.items()]
    cells = ["" if figure is None else format(figure, f",{spelling}") for figure, spelling in figures]
    by_name = {each.competitor.what: each for each in group}
    aims = "; ".join(_judged(aim, result, by_name) for aim in result.competitor.aims)
    # A bar would end the cell.
    what = result.competitor.what.replace("|", "\\|")
    return [name, result.competitor.data, what, *cells, aims]


def _judged(aim: Aim, result: Result, group: dict[str, Result]) -> str:
    figure = result.figure(aim.quantity)
    unit = group[aim.beside].figure(aim.quantity) if aim.beside else 1.0
    assert figure is not None and unit is not None  # an aim is set where there is a figure
    share = figure / unit
    met = share >= aim.bound if aim.at_least else share <= aim.bound
    told = f"{share:,.2f} x {aim.beside}".replace("|", "\\|") if aim.beside else f"{share:,.1f}"
    sign = ">=" if aim.at_least else "<="
    return f"{aim.quantity} {told} {sign} {aim.bound:g}: {'met' if met else 'MISSED'}"
