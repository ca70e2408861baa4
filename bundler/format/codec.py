"""Raw bytes to the stored bytes of a part, and back. The only module that knows zstandard.

Nothing is believed of a file's name, and of its header only where elements start: samples are compressed in every way
that could win, and the best way is taken. So what does not shrink is stored as it is, at the speed of a copy, and no
input can grow. The result depends on nothing but the bytes, the hints, and the release of libzstd.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import zstandard

from bundler.errors import FormatError
from bundler.format.hint import Hint
from bundler.format.index import Codec
from bundler.format.planes import WIDTHS, Bytes, merge_planes, split_planes

LIBZSTD_VERSION = ".".join(str(number) for number in zstandard.ZSTD_VERSION)
"""The stored bytes depend on it: the same level differs between releases."""

_SKEW = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_FAST, window_log=17, hash_log=6, chain_log=6, search_log=1, min_match=7,
    target_length=0, write_content_size=1, write_checksum=0,
)
"""A match finder that finds nothing and so costs nothing, before zstd's Huffman coder: all that exponents need.

It is smaller than level 1 on them and three times as fast. Any target length but 0 would switch the coder off.
"""

_TEXT = zstandard.ZstdCompressionParameters.from_level(9, write_content_size=1, write_checksum=0)
"""For what repeats: text, vocabularies, tables. No checksum anywhere: SHA-256 covers these bytes already."""

_PROBE = zstandard.ZstdCompressionParameters.from_level(3, write_content_size=1, write_checksum=0)
"""Tells as well as `_TEXT` whether content repeats, five times as fast."""

_WORTH_IT = 0.99
"""A plane or a run that does not shrink below this share is stored as it is."""

_WORTH_IT_SOMEWHERE = 0.9
"""A plane is coded as well if a single sample of it shrinks below this share."""

_PLANES_WORTH_IT, _UNKNOWN_PLANES_WORTH_IT = 0.99, 0.95
"""Planes are taken only if they beat plain coding by this much, more so where no header says that there are numbers:
what is coded plainly can be undone with stock tools."""

_LEAST_UNKNOWN = 4 << 10
"""Bytes. In less than this, planes of unknown elements win by chance."""

_WINDOW = 1 << 20
"""Bytes without a hint are looked at in such pieces: a file may hold a vocabulary, then numbers of several widths."""

_SAMPLES, _SAMPLE_SIZE = 3, 48 << 10
_WINDOW_SAMPLE_SIZE = 16 << 10
_PLANE_SAMPLES, _PLANE_SAMPLE_SIZE = 32, 4 << 10
_MAX_WINDOW_SIZE = 1 << 27
_MAX_RUNS = 4096

_RUN_COUNT = struct.Struct("<H")
_RUN = struct.Struct("<IB")
_PLANE = struct.Struct("<BI")
_AS_IT_IS, _FRAME = 0, 1


Buffer = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Coded:
    """What a part will store."""

    codec: Codec

    streams: tuple[Buffer, ...]
    """The stored bytes, in pieces: for `RAW` the raw bytes; for `PLANES` some lie in the scratch of `encode`."""

    @property
    def size(self) -> int:
        """Stored bytes."""
        return sum(len(stream) for stream in self.streams)

    @property
    def stored(self) -> bytes:
        """The stored bytes in one piece, which is a copy."""
        return b"".join(self.streams)


class _Way(Enum):
    """How to code a run of bytes; the value is the width of its elements where these are taken apart."""

    COPY = 0
    SKEW = -1
    TEXT = -2
    PROBE = -3
    PLANES_2 = 2
    PLANES_4 = 4
    PLANES_8 = 8


_PLANES = {way.value: way for way in (_Way.PLANES_2, _Way.PLANES_4, _Way.PLANES_8)}


def encode(raw: memoryview, hints: Sequence[Hint] = (), *, scratch: memoryview | None = None) -> Coded:
    """Choose ways by probing, and code. `hints` add up to the length of `raw`, or are empty.

    `scratch` is memory to use, at least as large as `raw`; the result may lie in it, or be `raw`.
    """
    content = np.frombuffer(raw, np.uint8)
    runs = _choose(content, hints or [Hint(len(content), 0)])
    if len(runs) == 1 and runs[0][1] not in _PLANES.values():
        coded = _encode_plainly(raw, runs[0][1])
    else:
        room = np.frombuffer(scratch, np.uint8) if scratch is not None else np.empty(len(raw), np.uint8)
        coded = Coded(Codec.PLANES, _encode_runs(content, runs, room))
    return coded if coded.size < len(raw) else Coded(Codec.RAW, (raw,))


def _encode_plainly(raw: memoryview, way: _Way) -> Coded:
    if way is _Way.COPY:
        return Coded(Codec.RAW, (raw,))
    return Coded(Codec.ZSTD, (_tools().compress(raw, way),))


# Choosing


def _choose(content: Bytes, hints: Sequence[Hint]) -> list[tuple[int, _Way]]:
    """Return (length, way) of the runs that `content` is best coded as; neighbours of one way are one run."""
    runs: list[tuple[int, _Way]] = []
    start = 0
    for hint in _windows(hints):
        way = _best_way(content[start:start + hint.length], hint.width)
        start += hint.length
        if runs and (runs[-1][1] is way or len(runs) >= _MAX_RUNS - 1):
            runs[-1] = (runs[-1][0] + hint.length, runs[-1][1])
        else:
            runs.append((hint.length, way))
    return [run for each in runs for run in _whole_elements(*each)] or [(0, _Way.COPY)]


def _windows(hints: Sequence[Hint]) -> Iterator[Hint]:
    for hint in hints:
        if hint.width:
            yield hint
        else:
            for start in range(0, hint.length, _WINDOW):
                yield Hint(min(_WINDOW, hint.length - start), 0)


def _whole_elements(length: int, way: _Way) -> Iterator[tuple[int, _Way]]:
    """Cut off what is no whole element at the end of a run."""
    rest = length % way.value if way in _PLANES.values() else 0
    if length - rest:
        yield length - rest, way
    if rest:
        yield rest, _Way.COPY


def _best_way(content: Bytes, width: int) -> _Way:
    """Return the way that makes samples smallest; `width` is that of the elements, 0 if it is not known."""
    samples = _samples(content, 1, _WINDOW_SAMPLE_SIZE) if width == 0 else _samples(content, _SAMPLES, _SAMPLE_SIZE)
    best, size = _Way.COPY, _WORTH_IT * sum(len(sample) for sample in samples)
    for way, probe in ((_Way.SKEW, _Way.SKEW), (_Way.TEXT, _Way.PROBE)):
        coded = sum(len(_tools().compress(sample.data, probe)) for sample in samples)
        if coded < size:
            best, size = way, coded
    size *= _PLANES_WORTH_IT if width else _UNKNOWN_PLANES_WORTH_IT
    for candidate in _candidates(width, len(content)):
        coded = sum(_planes_size(sample, candidate) for sample in samples)
        if coded < size:
            best, size = _PLANES[candidate], coded
    return best


def _candidates(width: int, length: int) -> tuple[int, ...]:
    """Return the widths of elements to try."""
    if width == 0:
        return WIDTHS if length >= _LEAST_UNKNOWN else ()
    return (width,) if width in WIDTHS else ()


def _samples(content: Bytes, count: int, size: int) -> list[Bytes]:
    """Return `count` samples spread over `content`, each starting at a multiple of 8; all of it if it is short."""
    if len(content) <= count * size:
        return [content]
    last = len(content) - size
    starts = [last // 2] if count == 1 else [last * number // (count - 1) for number in range(count)]
    return [content[start // 8 * 8:start // 8 * 8 + size] for start in starts]


def _planes_size(sample: Bytes, width: int) -> int:
    whole = sample[:len(sample) // width * width]
    if not len(whole):
        return len(sample)
    planes = split_planes(np.ascontiguousarray(whole), width, np.empty(len(whole), np.uint8))
    return sum(min(len(_tools().compress(plane.data, _Way.SKEW)), len(plane)) for plane in planes)


# Coding


class _Tools(threading.local):
    """What a thread needs again and again: compressors with their tables."""

    def __init__(self) -> None:
        self._compressors = {
            _Way.SKEW: zstandard.ZstdCompressor(compression_params=_SKEW),
            _Way.TEXT: zstandard.ZstdCompressor(compression_params=_TEXT),
            _Way.PROBE: zstandard.ZstdCompressor(compression_params=_PROBE),
        }
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_SIZE)

    def compress(self, content: memoryview, way: _Way) -> bytes:
        """Return one frame."""
        return self._compressors[way].compress(content)

    def decompress(self, frame: memoryview, size: int) -> bytes:
        """Return exactly `size` bytes. Raises `FormatError` before memory for any other size is taken."""
        try:
            declared = zstandard.get_frame_parameters(frame)
            if declared.content_size != size:
                raise FormatError(f"has a zstd frame of {declared.content_size:,} bytes, where {size:,} belong")
            # libzstd does not look at its own limit where the content fits into the output.
            if declared.window_size > _MAX_WINDOW_SIZE:
                raise FormatError(f"has a zstd frame that wants a window of {declared.window_size:,} bytes")
            return self._decompressor.decompress(frame, max_output_size=size, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise FormatError(f"has a zstd frame that cannot be decoded: {error}") from error


_LOCAL = _Tools()


def _tools() -> _Tools:
    return _LOCAL


def _encode_runs(content: Bytes, runs: list[tuple[int, _Way]], room: Bytes) -> tuple[Buffer, ...]:
    """Code runs one after another, behind the table that says how (FORMAT.md, `planes`)."""
    table = [_RUN_COUNT.pack(len(runs))]
    streams: list[Buffer] = []
    start = 0
    for length, way in runs:
        run = content[start:start + length]
        if way in _PLANES.values():
            # The exponents are what planes are for: they need no second look.
            exponents, *others = split_planes(run, way.value, room[start:start + length])
            coded = [_encode_stream(exponents, _Way.SKEW), *(_encode_plane(plane) for plane in others)]
        else:
            room[start:start + length] = run
            coded = [_encode_stream(room[start:start + length], way)]
        table.append(_RUN.pack(length, len(coded)))
        table += [_PLANE.pack(method, len(stream)) for method, stream in coded]
        streams += [stream for _, stream in coded]
        start += length
    return (b"".join(table), *streams)


def _encode_plane(plane: Bytes) -> tuple[int, Buffer]:
    return _encode_stream(plane, _Way.SKEW if _shrinks(plane) else _Way.COPY)


def _shrinks(plane: Bytes) -> bool:
    """Say whether a plane is worth coding: as a whole, or for a stretch of it, such as rows that were never trained."""
    shares = [
        len(_tools().compress(sample.data, _Way.SKEW)) / len(sample)
        for sample in _samples(plane, _PLANE_SAMPLES, _PLANE_SAMPLE_SIZE)
    ]
    return min(shares) < _WORTH_IT_SOMEWHERE or sum(shares) < _WORTH_IT * len(shares)


def _encode_stream(content: Bytes, way: _Way) -> tuple[int, Buffer]:
    if way is not _Way.COPY:
        frame = _tools().compress(content.data, way)
        if len(frame) < len(content):
            return _FRAME, frame
    return _AS_IT_IS, content.data


# Decoding


def decode(codec: Codec, stored: memoryview, raw_size: int, *, scratch: memoryview | None = None) -> memoryview:
    """Return the `raw_size` raw bytes. Raises `FormatError` before memory for any other size is taken.

    The caller has checked the digest of `stored`, and the bounds on its length and on `raw_size`. `scratch` is memory
    to use, at least `raw_size`; the result may lie in it, or be `stored`.
    """
    if codec is Codec.PLANES:
        room = np.frombuffer(scratch, np.uint8)[:raw_size] if scratch is not None else np.empty(raw_size, np.uint8)
        return _decode_runs(stored, room)
    if codec is Codec.ZSTD:
        return memoryview(_tools().decompress(stored, raw_size))
    if len(stored) != raw_size:
        raise FormatError(f"has {len(stored):,} bytes, not the {raw_size:,} that the index says")
    return stored


@dataclass(frozen=True, slots=True)
class _Stream:
    """A plane, or a run that has no planes, as it is stored."""

    method: int
    stored: memoryview

    def decode(self, size: int) -> Bytes:
        """Return its `size` bytes."""
        if self.method == _FRAME:
            return np.frombuffer(_tools().decompress(self.stored, size), np.uint8)
        if len(self.stored) != size:
            raise FormatError(f"has a plane of {len(self.stored):,} bytes, where {size:,} belong")
        return np.frombuffer(self.stored, np.uint8)


def _decode_runs(stored: memoryview, raw: Bytes) -> memoryview:
    runs = _read_table(stored)
    if sum(length for length, _ in runs) != len(raw):
        raise FormatError(f"has runs that do not add up to the {len(raw):,} bytes that the index says")
    start = 0
    for length, streams in runs:
        width = len(streams)
        decoded = [stream.decode(length // width) for stream in streams]
        if width == 1:
            raw[start:start + length] = decoded[0]
        else:
            merge_planes(decoded, width, raw[start:start + length])
        start += length
    return raw.data


def _read_table(stored: memoryview) -> list[tuple[int, list[_Stream]]]:
    """Return (raw length, streams) of every run; the table must account for every stored byte."""
    try:
        (count,) = _RUN_COUNT.unpack_from(stored)
        position = _RUN_COUNT.size
        heads: list[tuple[int, list[tuple[int, int]]]] = []
        for _ in range(count):
            length, width = _RUN.unpack_from(stored, position)
            position += _RUN.size
            if width not in (1, *WIDTHS) or length % width or not length:
                raise FormatError(f"has a run of {length:,} bytes in {width} planes")
            heads.append((length, [_PLANE.unpack_from(stored, position + _PLANE.size * i) for i in range(width)]))
            position += _PLANE.size * width
    except struct.error as error:
        raise FormatError("has a table of runs that is cut off") from error
    runs = []
    for length, planes in heads:
        streams = []
        for method, size in planes:
            if method not in (_AS_IT_IS, _FRAME):
                raise FormatError(f"has a plane of an unknown kind, {method}")
            streams.append(_Stream(method, stored[position:position + size]))
            position += size
        runs.append((length, streams))
    if position != len(stored):
        raise FormatError("has a table of runs that does not account for its stored bytes")
    return runs
