"""Floating-point numbers taken apart into byte planes, and put together again.

Weights hardly repeat, but their exponents are few: in the plane of exponents alone, an entropy coder saves what there
is to save. Here is only the rearrangement, to the bit as FORMAT.md has it; `codec` decides and compresses.

An element of `width` bytes (2, 4 or 8, little-endian) gives `width` planes, the most significant byte's first. Before
that, the upper 16 bits of the element are rotated left by one: the sign moves from above the exponent to below it, so
that for BF16 and F32 the first plane is the exponent, whole.

numpy works in blocks that stay in the cache, on scratch that is made once; casting on assignment keeps the low byte.
That is 3 to 4 GB/s a core, five times what slicing bytes with a stride gives.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
_Halves = NDArray[np.uint16]

WIDTHS = (2, 4, 8)
_BLOCK = 128 << 10
"""Elements at a time."""


def split_planes(raw: Bytes, width: int, out: Bytes) -> list[Bytes]:
    """Write the planes of `raw` to `out`, which is as long, and return them, views of `out`.

    The length is a multiple of `width`.
    """
    halves = _halves(raw, width)
    planes = _planes(out, len(raw) // width, width)
    scratch = np.empty((2, _BLOCK), np.uint16)
    for start in range(0, len(planes[0]), _BLOCK):
        here = slice(start, start + _BLOCK)
        _split_rotated(halves[0][here], planes[0][here], planes[1][here], scratch)
        for position, half in enumerate(halves[1:], start=1):
            _split_plain(half[here], planes[2 * position][here], planes[2 * position + 1][here], scratch)
    return planes


def merge_planes(planes: list[Bytes], width: int, raw: Bytes) -> None:
    """Undo `split_planes`: write the elements to `raw`."""
    halves = _halves(raw, width)
    scratch = np.empty((2, _BLOCK), np.uint16)
    for start in range(0, len(planes[0]), _BLOCK):
        here = slice(start, start + _BLOCK)
        _merge_rotated(planes[0][here], planes[1][here], halves[0][here], scratch)
        for position, half in enumerate(halves[1:], start=1):
            _merge_plain(planes[2 * position][here], planes[2 * position + 1][here], half[here], scratch)


def _halves(raw: Bytes, width: int) -> list[_Halves]:
    """Return the 16-bit halves of all elements, the most significant first."""
    whole = raw.view("<u2")
    step = width // 2
    return [whole[position::step] for position in reversed(range(step))]


def _planes(out: Bytes, count: int, width: int) -> list[Bytes]:
    return [out[position * count:(position + 1) * count] for position in range(width)]


def _split_rotated(half: _Halves, high: Bytes, low: Bytes, scratch: _Halves) -> None:
    one = scratch[0, :len(half)]
    np.right_shift(half, 7, out=one)
    high[:] = one
    # From here on in bytes, which are twice as many at a time as 16-bit numbers.
    sign = one.view(np.uint8)[:len(half)]
    np.less(half.view(np.int16), 0, out=sign.view(np.bool_))
    low[:] = half
    np.add(low, low, out=low)
    np.bitwise_or(low, sign, out=low)


def _split_plain(half: _Halves, high: Bytes, low: Bytes, scratch: _Halves) -> None:
    one = scratch[0, :len(half)]
    np.right_shift(half, 8, out=one)
    high[:] = one
    low[:] = half


def _merge_rotated(high: Bytes, low: Bytes, half: _Halves, scratch: _Halves) -> None:
    one, two = scratch[0, :len(half)], scratch[1, :len(half)]
    one[:] = high
    np.left_shift(one, 7, out=one)
    two[:] = low
    np.left_shift(two, 15, out=half)
    np.bitwise_or(half, one, out=half)
    np.right_shift(two, 1, out=two)
    np.bitwise_or(half, two, out=half)


def _merge_plain(high: Bytes, low: Bytes, half: _Halves, scratch: _Halves) -> None:
    one, two = scratch[0, :len(half)], scratch[1, :len(half)]
    one[:] = high
    np.left_shift(one, 8, out=one)
    two[:] = low
    np.bitwise_or(one, two, out=half)
