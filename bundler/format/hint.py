"""What a cutter of blobs may tell the codec about their bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hint:
    """What is known of the next `length` raw bytes: elements of `width` bytes; 0 if nothing is known."""

    length: int
    width: int
