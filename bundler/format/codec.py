"""Raw bytes to the stored bytes of a part, and back. The only module that knows zstandard."""

from __future__ import annotations

from dataclasses import dataclass

import zstandard

from bundler.errors import FormatError
from bundler.format.index import Codec

LIBZSTD_VERSION = ".".join(str(number) for number in zstandard.ZSTD_VERSION)
"""The stored bytes depend on it: the same level differs between releases."""

_LEVEL = 3
_SAMPLE_SIZE = 64 << 10
_SAMPLES = 3
_WORTH_IT = 0.98
"""Stored raw unless the samples shrink below this share: what saves nothing should cost nothing to read."""


@dataclass(frozen=True, slots=True)
class Coded:
    """What a part will store."""

    codec: Codec
    stored: bytes | memoryview


def encode(raw: memoryview) -> Coded:
    """Choose a codec by probing samples and apply it. The result depends on nothing but `raw` and the library."""
    compressor = _compressor()
    if not _shrinks(raw, compressor):
        return Coded(Codec.RAW, raw)
    stored = compressor.compress(raw)
    return Coded(Codec.ZSTD, stored) if len(stored) < len(raw) else Coded(Codec.RAW, raw)


def _compressor() -> zstandard.ZstdCompressor:
    # No checksum: SHA-256 already covers these bytes, and xxhash costs 0.3 CPU-s/GB.
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False, write_content_size=True, threads=0)


def _shrinks(raw: memoryview, compressor: zstandard.ZstdCompressor) -> bool:
    if len(raw) <= _SAMPLES * _SAMPLE_SIZE:
        return True
    step = (len(raw) - _SAMPLE_SIZE) // (_SAMPLES - 1)
    sampled = sum(
        len(compressor.compress(raw[start:start + _SAMPLE_SIZE])) for start in range(0, step * _SAMPLES, step)
    )
    return sampled < _WORTH_IT * _SAMPLES * _SAMPLE_SIZE


def decode(codec: Codec, stored: bytes | memoryview, raw_size: int) -> bytes | memoryview:
    """Return the `raw_size` raw bytes. Raises `FormatError` before memory for any other size is taken.

    The caller has checked the digest of `stored` and the bound on `raw_size`.
    """
    raw = stored if codec is Codec.RAW else _decompress(stored, raw_size)
    if len(raw) != raw_size:
        raise FormatError(f"decodes to {len(raw):,} bytes, not the {raw_size:,} that the index says")
    return raw


def _decompress(stored: bytes | memoryview, raw_size: int) -> bytes:
    try:
        declared = zstandard.get_frame_parameters(stored).content_size
        if declared != raw_size:
            raise FormatError(f"declares {declared:,} raw bytes, the index {raw_size:,}")
        decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        return decompressor.decompress(stored, max_output_size=raw_size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError(f"is not a zstd frame: {error}") from error
