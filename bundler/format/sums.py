"""SHA256SUMS: the commit point of a bundle, and what a signature covers. Strict: one meaning, one spelling."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bundler.digest import Digest
from bundler.errors import FormatError

SUMS_NAME = "SHA256SUMS"
SIGNATURE_NAME = "SHA256SUMS.sig"
MAX_SUMS_SIZE = 16 << 20

_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9_][A-Za-z0-9._-]{0,99})\Z")


def sums_text(digests: Mapping[str, Digest]) -> bytes:
    """Spell the file: what `sha256sum` prints, sorted by name."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()


def parse_sums(text: bytes) -> dict[str, Digest]:
    """Read the file. Raises `FormatError` for anything that `sums_text` would not write."""
    digests: dict[str, Digest] = {}
    try:
        lines = text.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise FormatError(f"{SUMS_NAME} is not plain ASCII") from error
    for number, line in enumerate(lines[:-1], start=1):
        match = _LINE.match(line)
        if match is None:
            raise FormatError(f"{SUMS_NAME}: line {number} is not a digest and a plain file name")
        digests[match[2]] = Digest(match[1])
    if sums_text(digests) != text:
        raise FormatError(f"{SUMS_NAME} is not sorted, names a file twice, or is cut")
    return digests
