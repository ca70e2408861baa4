"""SHA256SUMS: one meaning, one spelling."""

from __future__ import annotations

from bundler.errors import FormatError
from bundler.format.sums import parse_sums, sums_text


def check(content: bytes) -> bool:
    """Feed the reader; return whether it was a list of digests."""
    try:
        digests = parse_sums(content)
    except FormatError:
        return False
    assert sums_text(digests) == content
    assert not any("/" in name or name.startswith((".", "-")) for name in digests)
    return True
