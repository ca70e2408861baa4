"""Where the tensors of a safetensors file start, from its header alone (format as of safetensors 0.6).

The header is anybody's: whatever in it is not exactly right gives no layout, and the file is cut plainly.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

LENGTH_SIZE = 8
"""The file starts with the header's length, 64 bits little-endian."""

MAX_HEADER_SIZE = 8 << 20
"""A larger header is not read: parsed it would take many times as much memory."""

_WIDTHS = {
    "BF16": 2, "F16": 2, "F32": 4, "F64": 8, "C64": 4,
    "I16": 2, "U16": 2, "I32": 4, "U32": 4, "I64": 8, "U64": 8,
    "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I8": 1, "U8": 1, "BOOL": 1,
}


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a file that is cut on its own."""

    offset: int
    length: int

    width: int
    """Bytes of an element; 0 if unknown."""


def header_size(start: bytes, size: int) -> int | None:
    """Return the length of the header of a file of `size` bytes from its first bytes; None if it cannot be one."""
    length = int.from_bytes(start[:LENGTH_SIZE], "little")
    plausible = len(start) > LENGTH_SIZE and start[LENGTH_SIZE:LENGTH_SIZE + 1] == b"{"
    return length if plausible and 2 <= length <= min(MAX_HEADER_SIZE, size - LENGTH_SIZE) else None


def tensor_spans(header: bytes, size: int) -> tuple[Span, ...] | None:
    """Return the spans that make up a file of `size` bytes: the header, then every tensor, and any gap between.

    None if the header is not valid, or its tensors overlap or lie outside of the file.
    """
    try:
        values = json.loads(header)
        tensors = sorted(_tensor(entry) for name, entry in values.items() if name != "__metadata__")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    start = LENGTH_SIZE + len(header)
    spans = [Span(0, start, 1)]
    for begin, end, width in tensors:
        at = spans[-1].offset + spans[-1].length
        if not at <= start + begin <= start + end <= size:
            return None
        if start + begin > at:
            spans.append(Span(at, start + begin - at, 0))
        if end > begin:
            spans.append(Span(start + begin, end - begin, width))
    at = spans[-1].offset + spans[-1].length
    return (*spans, Span(at, size - at, 0)) if at < size else tuple(spans)


def _tensor(entry: dict[str, object]) -> tuple[int, int, int]:
    offsets = entry["data_offsets"]
    if not isinstance(offsets, list) or [type(offset) for offset in offsets] != [int, int]:
        raise ValueError("offsets are not two whole numbers")
    return offsets[0], offsets[1], _WIDTHS.get(str(entry["dtype"]), 0)
