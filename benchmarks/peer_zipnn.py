"""zipnn over a file: `python -m benchmarks.peer_zipnn compress|decompress FROM TO DTYPE`.

In pieces, as one who has more weights than memory would; every piece stands behind its length.
"""

from __future__ import annotations

import struct
import sys
from typing import BinaryIO

from zipnn import ZipNN

_PIECE_SIZE = 64 << 20
_LENGTH = struct.Struct("<Q")


def main() -> None:
    """Do one of the two."""
    verb, source, target, dtype = sys.argv[1:]
    coder = ZipNN(input_format="byte", bytearray_dtype=dtype)
    with open(source, "rb") as reader, open(target, "wb") as writer:
        (_compress if verb == "compress" else _decompress)(coder, reader, writer)


def _compress(coder: ZipNN, reader: BinaryIO, writer: BinaryIO) -> None:
    while piece := reader.read(_PIECE_SIZE):
        coded = coder.compress(bytearray(piece))
        writer.write(_LENGTH.pack(len(coded)))
        writer.write(coded)


def _decompress(coder: ZipNN, reader: BinaryIO, writer: BinaryIO) -> None:
    while length := reader.read(_LENGTH.size):
        writer.write(coder.decompress(reader.read(_LENGTH.unpack(length)[0])))


if __name__ == "__main__":
    main()
