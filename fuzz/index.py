"""The index: anything is an index or refused, in one spelling; and what follows from one keeps within its volumes."""

from __future__ import annotations

import json

from bundler.errors import FormatError
from bundler.format.index import Index, index_text, parse_index
from fuzz.mutations import json_text


def check(content: bytes) -> bool:
    """Feed the reader, as it is and in canonical spelling; return whether either was an index."""
    spellings = {content, *_respelled(content)}
    indexes = [index for index in map(_parsed, spellings) if index is not None]
    for index in indexes:
        assert parse_index(index_text(index)) == index
        _assert_within(index)
    return bool(indexes)


def _respelled(content: bytes) -> list[bytes]:
    # Else hardly anything that the fuzzer changes would come past the rule of one spelling.
    try:
        return [json_text(json.loads(content))]
    except (ValueError, RecursionError):
        return []


def _parsed(text: bytes) -> Index | None:
    try:
        return parse_index(text)
    except FormatError:
        return None


def _assert_within(index: Index) -> None:
    """Nothing that a reader will do by this index leaves a volume, a part or a blob."""
    for part in index.parts:
        assert 512 <= part.offset < part.offset + part.size <= index.volumes[part.volume].size
    for blob in index.blobs:
        assert sum(extent.length for extent in blob.extents) == blob.size
        assert all(extent.offset + extent.length <= index.parts[extent.part].raw_size for extent in blob.extents)
    known = {blob.sha256: blob.size for blob in index.blobs}
    for snapshot in index.snapshots:
        assert all(file.sha256 is not None and known[file.sha256] == file.size for file in snapshot.files)
