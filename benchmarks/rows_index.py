"""Contests that read nothing but an index, or nothing at all."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import peers
from benchmarks.contest import Aim, Competitor, Quantity, Settings
from benchmarks.site import bundler_command
from bundler.digest import Commit, Digest
from bundler.format.index import (
    INDEX_NAME, Blob, Codec, Extent, Index, Part, Snapshot, Volume, index_text, volume_name
)
from bundler.format.sums import SUMS_NAME, sums_text
from bundler.format.volume import DEFAULT_VOLUME_SIZE, END_SIZE, HEADER_SIZE, padded
from bundler.lock import Identity, LockedFile
from bundler.manifest import EndpointUrl
from bundler.names import BundleName, RefName, RelPath, RepoId, RepoType

_NAME = BundleName("giant")
_SHARDS, _PARTS_OF_A_SHARD = 200, 350
_PART_SIZE = 14_285_714
"""Raw bytes: 70,000 of them are 1 TB."""

_STORED_SIZE = 9_520_000


@contextmanager
def startup(settings: Settings, folder: Path) -> Iterator[Sequence[Competitor]]:
    """Start, and do nothing: what is in every other figure."""
    competitors = [
        Competitor(what="bundler --version", command=bundler_command("--version"), data="nothing"),
        Competitor(what="python -c pass", command=[sys.executable, "-c", "pass"], data="nothing"),
    ]
    if peers.has("zipnn"):
        command = [sys.executable, "-c", "import zipnn"]
        competitors.append(Competitor(what="import zipnn", command=command, data="nothing"))
    yield competitors


@contextmanager
def inspect(settings: Settings, folder: Path) -> Iterator[Sequence[Competitor]]:
    """Open and inspect a bundle of 1 TB, of which only the index is there."""
    _write_giant(folder)
    aims = (Aim(quantity=Quantity.WALL, bound=2), Aim(quantity=Quantity.PEAK, bound=300))
    size = (folder / INDEX_NAME).stat().st_size / 10**6
    yield [
        Competitor(
            what="bundler inspect", command=bundler_command("inspect", folder), aims=aims,
            data=f"index of 1 TB, {_SHARDS * _PARTS_OF_A_SHARD:,} parts, {size:,.0f} MB",
        )
    ]


def _write_giant(folder: Path) -> None:
    parts, volumes = _lay_out(_SHARDS * _PARTS_OF_A_SHARD)
    blobs = tuple(_blob(number) for number in range(_SHARDS))
    index = Index(
        name=_NAME, written_with=(("bundler", "0"),), snapshots=(_snapshot(blobs),), blobs=blobs, parts=parts,
        volumes=volumes,
    )
    text = index_text(index)
    digests = {INDEX_NAME: Digest.of(text)} | {volume.name: volume.sha256 for volume in volumes}
    (folder / INDEX_NAME).write_bytes(text)
    (folder / SUMS_NAME).write_bytes(sums_text(digests))


def _lay_out(count: int) -> tuple[tuple[Part, ...], tuple[Volume, ...]]:
    step = HEADER_SIZE + padded(_STORED_SIZE)
    per_volume = (DEFAULT_VOLUME_SIZE - END_SIZE) // step
    parts = tuple(
        Part(
            codec=Codec.PLANES, sha256=_digest("stored", number), size=_STORED_SIZE, raw_size=_PART_SIZE,
            volume=number // per_volume, offset=number % per_volume * step + HEADER_SIZE,
        )
        for number in range(count)
    )
    volumes = tuple(
        Volume(
            name=volume_name(_NAME, start // per_volume), sha256=_digest("volume", start),
            size=min(per_volume, count - start) * step + END_SIZE,
        )
        for start in range(0, count, per_volume)
    )
    return parts, volumes


def _blob(number: int) -> Blob:
    first = number * _PARTS_OF_A_SHARD
    extents = tuple(Extent(part, 0, _PART_SIZE) for part in range(first, first + _PARTS_OF_A_SHARD))
    return Blob(sha256=_digest("blob", number), size=_PARTS_OF_A_SHARD * _PART_SIZE, extents=extents)


def _snapshot(blobs: Sequence[Blob]) -> Snapshot:
    files = tuple(
        LockedFile(
            path=RelPath(f"model-{number:05d}-of-{len(blobs):05d}.safetensors"), size=blob.size, etag=blob.sha256,
            sha256=blob.sha256,
        )
        for number, blob in enumerate(blobs, start=1)
    )
    return Snapshot(
        repo=RepoId(RepoType.MODEL, "bench/giant"), commit=Commit(40 * "1"), refs=(RefName("main"),),
        identity=Identity(told_by=EndpointUrl("http://127.0.0.1:9")), files=files,
    )


def _digest(what: str, number: int) -> Digest:
    return Digest(hashlib.sha256(f"{what} {number}".encode()).hexdigest())
