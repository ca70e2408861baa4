"""A volume and its parts, sealed by an enemy: whatever is in them is proven, or it is named.

An input is a byte for the number of parts (up to 3); for each part a byte for its codec, three for its raw size, two
for its stored size (all little-endian), and its stored bytes; then changes that the seal does not cover: three bytes
that say where in the volume, and one that is XORed there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from bundler.digest import Digest
from bundler.errors import BundlerError, FormatError
from bundler.format.codec import decode
from bundler.format.index import MAX_PART_SIZE, Codec
from bundler.format.reader import open_bundle
from bundler.format.verify import verify_bundle
from tests.bundles import read_blobs
from tests.sealing import HandPart, hand_made

_CODECS = tuple(Codec)
_MAX_PARTS = 3
_MAX_CHANGES = 4


@dataclass(frozen=True, slots=True)
class _Change:
    offset: int
    mask: int


def check(content: bytes) -> bool:
    """Verify and read the bundle; return whether it was proven."""
    stream = BytesIO(content)
    count = _number(stream, 1) % (_MAX_PARTS + 1)
    parts = [_part(stream) for _ in range(count)]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        bundle = hand_made(Path(place) / "fuzz", *parts)
        changed = _spoil(bundle / "fuzz-001.tar", tuple(_changes(stream)))
        try:
            report = verify_bundle((bundle,), workers=1)
        except BundlerError:
            return False
        assert report.problems or not changed
        return not report.problems and _reads(bundle)


def _part(stream: BytesIO) -> HandPart:
    codec, size = _CODECS[_number(stream, 1) % len(_CODECS)], _number(stream, 3)
    stored = stream.read(_number(stream, 2))
    try:
        raw = bytes(decode(codec, memoryview(stored), min(size, MAX_PART_SIZE)))
    except FormatError:
        raw = b""
    return HandPart(codec=codec, stored=stored, raw=raw, raw_size=size)


def _changes(stream: BytesIO) -> Iterator[_Change]:
    for _ in range(_MAX_CHANGES):
        offset, mask = _number(stream, 3), _number(stream, 1)
        if mask:
            yield _Change(offset, mask)


def _number(stream: BytesIO, size: int) -> int:
    return int.from_bytes(stream.read(size), "little")


def _spoil(volume: Path, changes: tuple[_Change, ...]) -> bool:
    """Change bytes of the volume; return whether it is another one now."""
    good = volume.read_bytes()
    spoiled = bytearray(good)
    for change in changes:
        spoiled[change.offset % len(spoiled)] ^= change.mask
    volume.write_bytes(spoiled)
    return spoiled != good


def _reads(bundle: Path) -> bool:
    """Read what was proven: no byte is another one."""
    opened = open_bundle((bundle,))
    for digest, content in read_blobs(opened).items():
        assert Digest.of(content) == digest
    return True
