"""The header of a safetensors file: whatever it says, the file is cut into pieces that make it up."""

from __future__ import annotations

from bundler.format.safetensors import LENGTH_SIZE, header_size, tensor_spans


def check(content: bytes) -> bool:
    """Take the input for a header, in files of several sizes; return whether one of them was cut by it."""
    header_size(content, len(content))
    return any([_is_cut(content, len(content) + LENGTH_SIZE + data) for data in (0, 1, 64, 1 << 16, 1 << 40)])


def _is_cut(header: bytes, size: int) -> bool:
    start = len(header).to_bytes(LENGTH_SIZE, "little") + header[:1]
    length = header_size(start, size)
    spans = tensor_spans(header, size) if length is not None else None
    if spans is None:
        return False
    assert length == len(header)
    ends = [span.offset + span.length for span in spans]
    assert [span.offset for span in spans] == [0, *ends[:-1]] and ends[-1] == size
    assert all(span.length > 0 and span.width in (0, 1, 2, 4, 8) for span in spans)
    return True
