"""Contests over very many small files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import peers
from benchmarks.contest import MB, Aim, Competitor, Quantity, Settings, cleared
from benchmarks.rows_model import MEMORY, OURS
from benchmarks.site import stage

_BUILD, _INSTALL = f"{OURS} build", f"{OURS} install"
_FILE_SIZE = 10_000
_FILES_PER_BYTE = 20_000 / 10**9
_RATE = Aim(quantity=Quantity.FILES_PER_SECOND, bound=1000, at_least=True)


@contextmanager
def files(settings: Settings, folder: Path) -> Iterator[Sequence[Competitor]]:
    """Build and install small files, all of them, and a quarter of them to see how the cost grows."""
    many = max(4, int(settings.size * _FILES_PER_BYTE))
    all_of_them = _Files(folder / "all", many)
    quarter = _Files(folder / "quarter", many // 4)
    yield [
        all_of_them.build(quarter), *all_of_them.tar_to(), quarter.build(),
        all_of_them.install(quarter), *all_of_them.tar_from(), quarter.install(),
    ]


class _Files:
    """So many files, staged."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._count = count
        self._paths = _make(folder / "files", count)
        self._site = stage(folder / "site", self._paths)

    def build(self, less: _Files | None = None) -> Competitor:
        """Return ours; beside fewer files, the rate must not fall much."""
        site = self._site
        return self._competitor(_BUILD, site.build(), site.out, size=True, aims=self._aims(_BUILD, less))

    def install(self, less: _Files | None = None) -> Competitor:
        """Return ours, which unpacks what `build` left."""
        site = self._site
        return self._competitor(_INSTALL, site.install(), site.cache, aims=self._aims(_INSTALL, less))

    def tar_to(self) -> Iterator[Competitor]:
        """Yield the peer that packs, if it is installed."""
        if peers.has_tar():
            archive = self._folder / "files.tar.zst"
            yield self._competitor(peers.TAR_TO, peers.tar_to(self._folder / "files", archive), archive, size=True)

    def tar_from(self) -> Iterator[Competitor]:
        """Yield the peer that unpacks."""
        if peers.has_tar():
            archive, target = self._folder / "files.tar.zst", self._folder / "tar"
            yield self._competitor(peers.TAR_FROM, peers.tar_from(archive, target), target)

    def _aims(self, what: str, less: _Files | None) -> tuple[Aim, ...]:
        if less is None:
            return ()
        linear = Aim(quantity=Quantity.FILES_PER_SECOND, bound=0.8, beside=less._name(what), at_least=True)
        return (_RATE, linear, MEMORY)

    def _name(self, what: str) -> str:
        return f"{what}, {self._count:,} files"

    def _competitor(
        self, what: str, command: list[str], output: Path, *, size: bool = False, aims: tuple[Aim, ...] = ()
    ) -> Competitor:
        raw = sum(path.stat().st_size for path in self._paths.values())
        return Competitor(
            what=self._name(what), command=command, data=f"{self._count:,} files, {raw / MB:,.0f} MB", raw=raw,
            files=self._count, before=cleared(output), output=output if size else None, aims=aims,
        )


def _make(folder: Path, count: int) -> dict[str, Path]:
    """Write files of about `_FILE_SIZE` bytes: text, and every fourth one of bytes that do not compress."""
    paths = {}
    for number in range(count):
        path = folder / f"{number // 1000:03d}" / (f"{number:06d}.png" if number % 4 == 0 else f"{number:06d}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_content(number))
        paths[path.relative_to(folder).as_posix()] = path
    return paths


def _content(number: int) -> bytes:
    noise = hashlib.shake_128(str(number).encode()).digest(_FILE_SIZE)
    if number % 4 == 0:
        return noise
    numbers = [int.from_bytes(noise[start:start + 2], "little") for start in range(0, _FILE_SIZE // 3, 2)]
    return json.dumps({"id": number, "tokens": numbers}).encode()
