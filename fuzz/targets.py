"""What can be fuzzed, and the inputs that are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

TARGETS = ("codec", "index", "lock", "safetensors", "sums", "volume")
"""Modules of this folder."""

JSON_TARGETS = ("index", "lock", "safetensors")
"""Those whose input is a JSON document."""

CORPUS = Path(__file__).parent / "corpus"


def corpus(target: str) -> Iterator[Path]:
    """Yield the inputs that are kept for a target."""
    yield from sorted((CORPUS / target).iterdir())
