"""Competitors that do the same work on the same data in turns, and what ours aim at."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from benchmarks.measure import Cost, measure

GB = 10**9
MB = 10**6


class Quantity(StrEnum):
    """A column of the table, or what an aim is about."""

    CPU = "CPU s"
    WALL = "wall s"
    CPU_PER_GB = "CPU s/GB"
    WALL_PER_GB = "wall s/GB"
    WALL_PER_CPU = "wall/CPU"
    SIZE = "size %"
    PEAK = "peak MB"
    FILES_PER_SECOND = "files/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """A bound that a competitor should keep."""

    quantity: Quantity
    bound: float

    beside: str = ""
    """The competitor whose figure the bound is a multiple of; none if empty."""

    at_least: bool = False
    """A lower bound, where it otherwise is an upper one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Competitor:
    """A way to do the work."""

    what: str
    command: Sequence[str]

    data: str
    """What is worked on, in words."""

    raw: int = 0
    """Bytes of it; 0 where figures per GB mean nothing."""

    files: int = 0
    """Number of files; 0 where a rate means nothing."""

    before: Callable[[], object] = bool
    """Puts things as they were. Not measured."""

    output: Path | None = None
    """What is written, where its size is of interest."""

    variables: Mapping[str, str] = field(default_factory=dict)
    """Of the environment."""

    aims: tuple[Aim, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A competitor's figures."""

    competitor: Competitor
    cost: Cost

    size: int | None
    """Bytes written, where that is of interest."""

    def figure(self, quantity: Quantity) -> float | None:
        """Return a figure, None where it means nothing."""
        raw, files = self.competitor.raw / GB, self.competitor.files
        match quantity:
            case Quantity.CPU:
                return self.cost.cpu
            case Quantity.WALL:
                return self.cost.wall
            case Quantity.CPU_PER_GB:
                return self.cost.cpu / raw if raw else None
            case Quantity.WALL_PER_GB:
                return self.cost.wall / raw if raw else None
            case Quantity.WALL_PER_CPU:
                return self.cost.wall / self.cost.cpu
            case Quantity.SIZE:
                return None if self.size is None else 100 * self.size / GB / raw
            case Quantity.PEAK:
                return self.cost.peak / MB
            case Quantity.FILES_PER_SECOND:
                return files / self.cost.wall if files else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the user wants."""

    folder: Path
    """For data that several contests share."""

    size: int
    """Bytes of the synthetic data."""

    sparse_size: int
    """Bytes of the file that is all hole."""

    runs: int


Contest = Callable[[Settings, Path], AbstractContextManager[Sequence[Competitor]]]
"""Prepares data and servers, in an empty folder of its own, and gives the competitors. Nothing is measured in it."""


def hold(name: str, contest: Contest, settings: Settings) -> list[Result]:
    """Let all competitors of a contest take turns, and return their medians."""
    folder = settings.folder / name
    clear(folder)
    folder.mkdir()
    with contest(settings, folder) as competitors:
        costs: dict[str, list[Cost]] = {each.what: [] for each in competitors}
        sizes: dict[str, int | None] = {}
        for turn in range(settings.runs):
            for each in competitors:
                each.before()
                # What others wrote must not be written out at this one's expense.
                os.sync()
                cost = measure(each.command, each.variables)
                costs[each.what].append(cost)
                sizes[each.what] = None if each.output is None else size_of(each.output)
                print(f"{name} {turn + 1}/{settings.runs}: {each.what}: {cost.wall:.2f} s", file=sys.stderr)
    clear(folder)
    return [Result(competitor=each, cost=Cost.median(costs[each.what]), size=sizes[each.what]) for each in competitors]


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())


def cleared(*paths: Path) -> Callable[[], None]:
    """Return what removes `paths`, for `before`."""
    return lambda: clear(*paths)


def clear(*paths: Path) -> None:
    """Remove files and folders, and see that something can be written in their place."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
