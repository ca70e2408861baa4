"""aria2's control files (`NAME.aria2`), which say which pieces of a partial file are there.

aria2 fails for good at one that a full disk or a power failure has cut short, and some make it crash: they have to be
found out before. The layout is that of `doc/manual-src/en/technical-notes.rst` of aria2, version 1 of the format.
"""

from __future__ import annotations

import struct

_HEAD = struct.Struct("!H4sI")
"""Version, extensions, length of the torrent's hash, which is zero here."""

_SIZES = struct.Struct("!IQQI")
"""Length of a piece, of the file, of what was uploaded, of the bitfield."""

_COUNT = struct.Struct("!I")
_IN_FLIGHT = struct.Struct("!III")
"""Number of a piece, its length, the length of the bitfield of its blocks."""

_BLOCK_SIZE = 16 << 10


def is_sound(control: bytes, size: int) -> bool:
    """Say whether aria2 could resume a file of `size` bytes from a control file. What it says need not be true."""
    try:
        version, extensions, hash_length = _HEAD.unpack_from(control)
        piece_length, total, _, length = _SIZES.unpack_from(control, _HEAD.size)
        if (version, extensions, hash_length, total) != (1, bytes(4), 0, size) or not piece_length:
            return False
        pieces = -(-size // piece_length)
        if length != -(-pieces // 8):
            return False
        offset = _HEAD.size + _SIZES.size + length
        (count,) = _COUNT.unpack_from(control, offset)
        offset += _COUNT.size
        for _ in range(min(count, pieces)):
            number, piece_size, length = _IN_FLIGHT.unpack_from(control, offset)
            if number >= pieces or not 0 < piece_size <= piece_length or length != _bitfield_length(piece_size):
                return False
            offset += _IN_FLIGHT.size + length
    except struct.error:  # it ends too early
        return False
    return bool(count <= pieces and offset == len(control))


def _bitfield_length(piece_size: int) -> int:
    blocks = -(-piece_size // _BLOCK_SIZE)
    return -(-blocks // 8)
