"""Stored bytes of a part: they decode to exactly what was declared or are refused; and any bytes come back.

An input is a byte for what to do, three for the raw size (little-endian), and the stored bytes.
"""

from __future__ import annotations

from bundler.errors import FormatError
from bundler.format.codec import decode, encode
from bundler.format.hint import Hint
from bundler.format.index import MAX_PART_SIZE, Codec
from bundler.format.restore import decode_planes

HEAD = 4
CODECS = tuple(Codec)
_WIDTHS = (0, 1, 2, 4, 8)
_SMALL = 1 << 16
"""Bytes. Up to here an answer is looked at more closely."""


def check(content: bytes) -> bool:
    """Decode, or code and decode; return whether that was possible."""
    if len(content) < HEAD:
        return False
    what, size, rest = content[0], int.from_bytes(content[1:HEAD], "little"), content[HEAD:]
    if what >= 0x80:
        _assert_comes_back(rest, (what, size & 0xff))
        return True
    return _decodes(CODECS[what % len(CODECS)], rest, min(size, MAX_PART_SIZE))


def _decodes(codec: Codec, stored: bytes, size: int) -> bool:
    try:
        raw = decode(codec, memoryview(stored), size)
    except FormatError:
        return False
    assert len(raw) == size
    if size <= _SMALL:
        # What stood in the scratch before must not show.
        assert decode(codec, memoryview(stored), size, scratch=memoryview(bytearray(b"\xa5" * size))) == raw
        # The script that lies in every bundle shares no code with ours.
        assert codec is not Codec.PLANES or decode_planes(stored, size) == raw
    return True


def _assert_comes_back(raw: bytes, choice: tuple[int, int]) -> None:
    width, cut = _WIDTHS[choice[0] % len(_WIDTHS)], len(raw) * choice[1] // 0xff
    coded = encode(memoryview(raw), [Hint(cut, width), Hint(len(raw) - cut, 0)])
    assert coded.size <= len(raw) and len(coded.stored) == coded.size
    assert decode(coded.codec, memoryview(coded.stored), len(raw)) == raw
