"""What a bundle is made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundler.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobFile:
    """A blob to pack, in a file of its own. Its bytes are proven as they are packed."""

    path: Path
    sha256: Digest
    size: int
