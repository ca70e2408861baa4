"""Bundles that lie, sealed as if they were right: for what a signer might have signed, or an enemy built.

    hand_made(tmp_path / "bomb", HandPart(codec="zstd", stored=frame, raw=b"", raw_size=10))
    reseal(bundle, put("0" * 64, "blobs", 0, "sha256"))
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from bundler.digest import Digest
from bundler.format.volume import END_SIZE, HEADER_SIZE, member_header, padded
from tests.documents import Change, Document

COMMIT = "c" * 40


@dataclass(frozen=True, kw_only=True)
class HandPart:
    """A part whose entry in the index need not be true."""

    codec: str
    stored: bytes

    raw: bytes
    """What the index is made to expect, by its digest."""

    raw_size: int | None = None
    """Said in the index; that of `raw` if None."""

    volume: int = 0
    """Number of the volume that it stands in."""


def hand_made(folder: Path, *parts: HandPart) -> Path:
    """Write a bundle in which each part is a file, `file-0.bin` and so on, and return the folder."""
    folder.mkdir()
    volumes = [b""] * (1 + max((part.volume for part in parts), default=0))
    entries, blobs, files = [], [], []
    for number, part in enumerate(parts):
        raw_size = len(part.raw) if part.raw_size is None else part.raw_size
        blob, digest = sha256(part.raw), Digest.of(part.stored)
        entries.append({"codec": part.codec, "sha256": digest, "size": len(part.stored), "raw_size": raw_size,
                        "volume": part.volume, "offset": len(volumes[part.volume]) + HEADER_SIZE})
        extents = [{"part": number, "offset": 0, "length": raw_size}] if raw_size else []
        blobs.append({"sha256": blob, "size": raw_size, "extents": extents})
        files.append({"path": f"file-{number}.bin", "size": raw_size, "sha256": blob, "etag": blob})
        padding = bytes(padded(len(part.stored)) - len(part.stored))
        volumes[part.volume] += member_header(digest, len(part.stored)) + part.stored + padding
    listed = []
    for number, content in enumerate(volumes):
        name, content = f"{folder.name}-{number + 1:03d}.tar", content + bytes(END_SIZE)
        (folder / name).write_bytes(content)
        listed.append({"name": name, "size": len(content), "sha256": "0" * 64, "role": "parts"})
    write_index(folder, {
        "format_version": "1.0", "requires": [], "name": folder.name, "written_with": {}, "blobs": blobs,
        "parts": entries, "volumes": listed,
        "snapshots": [{"id": "org/a", "type": "model", "commit": COMMIT, "refs": ["main"], "files": files,
                       "told_by": "https://hub.example", "agreed_by": [], "differed": []}],
    })
    reseal(folder)
    return folder


def reseal(bundle: Path, *changes: Change) -> None:
    """Change the index, and make it and SHA256SUMS agree with all files, the volumes too, as they are now."""
    values: Document = json.loads((bundle / "index.json").read_bytes())
    for change in changes:
        change(values)
    for volume in values["volumes"]:
        if (bundle / volume["name"]).is_file():
            volume["sha256"] = sha256((bundle / volume["name"]).read_bytes())
    write_index(bundle, values)
    files = sorted(path for path in bundle.iterdir() if not path.name.startswith("SHA256SUMS"))
    sums = "".join(f"{sha256(path.read_bytes())}  {path.name}\n" for path in files)
    (bundle / "SHA256SUMS").write_text(sums)


def write_index(bundle: Path, values: Document) -> None:
    """Write an index in its one spelling; SHA256SUMS stays as it is."""
    text = json.dumps(values, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    (bundle / "index.json").write_text(text, encoding="utf-8")


def sha256(content: bytes) -> str:
    """Return the SHA-256."""
    return hashlib.sha256(content).hexdigest()
