"""Make a bundle like those in tests/data, which every release must read: `python -m tools.make_v1_bundle FOLDER`.

It was run when the writer had changed, by the release that the bundle's `build-info.json` names. It is kept to say what
is in these bundles, not to make them again: what a release writes is no proof that it reads what an earlier one wrote.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bundler
from bundler.digest import BlobHasher, Commit, hash_file
from bundler.format.blob_file import BlobFile
from bundler.format.codec import LIBZSTD_VERSION
from bundler.format.index import Index, Snapshot
from bundler.format.writer import pack_blobs, seal_bundle
from bundler.lock import Identity, LockedFile
from bundler.manifest import EndpointUrl
from bundler.names import BundleName, RefName, RelPath, RepoId, RepoType

_ELEMENTS = 12_000
_LARGE = 600 << 10
_VOLUME_SIZE = 150_000


def main(folder: Path) -> None:
    """Write the bundle to `folder`, which must not exist."""
    folder.mkdir()
    with tempfile.TemporaryDirectory() as place:
        snapshots, blobs = _content(Path(place))
        packed = pack_blobs(blobs, folder, name=BundleName("v1"), workers=2, volume_size=_VOLUME_SIZE)
    index = Index(
        name=BundleName("v1"),
        written_with=(("bundler", bundler.__version__), ("libzstd", LIBZSTD_VERSION)),
        snapshots=snapshots,
        blobs=packed.blobs,
        parts=packed.parts,
        volumes=packed.volumes,
    )
    seal_bundle(folder, index, build_info={"built_with": {"bundler": bundler.__version__}})


def _content(place: Path) -> tuple[tuple[Snapshot, ...], list[BlobFile]]:
    model = {
        ".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
        "config.json": json.dumps({"model_type": "sample", "layers": list(range(300))}).encode(),
        "empty.txt": b"",
        "nested/folder/naïve name #1 100%+.txt": "Übung macht den Meister. ".encode() * 40,
        "model.safetensors": _safetensors(),
        "noise.bin": np.random.default_rng(9).bytes(40_000),
        "ones.bin": b"\1" * (1 << 20),
        "weights.bin": _normal(3, "<f4").tobytes() + b"odd",
    }
    data = {"README.md": b"# questions\n", "copy.json": model["config.json"]}
    seen: dict[str, BlobFile] = {}
    snapshots = (
        _snapshot(place, RepoId(RepoType.MODEL, "org/Sample-Model"), "1" * 40, ("main", "refs/pr/1"), model, seen),
        _snapshot(place, RepoId(RepoType.DATASET, "questions"), "2" * 40, (), data, seen),
    )
    return snapshots, list(seen.values())


def _snapshot(
    place: Path, repo: RepoId, commit: str, refs: tuple[str, ...], files: dict[str, bytes], seen: dict[str, BlobFile]
) -> Snapshot:
    locked = []
    for path in sorted(files):
        content = files[path]
        hasher = BlobHasher(len(content), git=True)
        hasher.update(content)
        lfs = path.endswith((".safetensors", ".bin"))
        etag = hasher.sha256 if lfs else hasher.git_oid
        assert etag is not None
        locked.append(LockedFile(path=RelPath(path), size=len(content), etag=etag, sha256=hasher.sha256))
        if hasher.sha256 not in seen:
            blob = place / hasher.sha256
            blob.write_bytes(content)
            size, proof = hash_file(blob)
            seen[hasher.sha256] = BlobFile(path=blob, sha256=proof.sha256, size=size)
    agreed_by = EndpointUrl("https://mirror.example/hf")
    return Snapshot(
        repo=repo,
        commit=Commit(commit),
        refs=tuple(map(RefName, refs)),
        identity=Identity(told_by=EndpointUrl("https://hub.example"), agreed_by=(agreed_by,)),
        files=tuple(locked),
    )


def _safetensors() -> bytes:
    """Return a file with a tensor of every width, a large one twice, and values that are odd."""
    bf16 = (_normal(1, "<f4").view("<u4") >> 16).astype("<u2")
    bf16[:6] = [0x7FC1, 0xFFFF, 0x7F80, 0xFF80, 0x0001, 0x8000]
    large = np.zeros(_LARGE, np.uint8).tobytes()
    tensors = {
        "a.bf16": ("BF16", bf16.tobytes()),
        "b.f16": ("F16", _normal(2, "<f2").tobytes()),
        "c.f32": ("F32", _normal(3, "<f4").tobytes()),
        "d.f64": ("F64", _normal(4, "<f8").tobytes()),
        "e.f8": ("F8_E4M3", (bf16 >> 5).astype(np.uint8).tobytes()),
        "f.ids": ("I64", np.arange(512, dtype="<i8").tobytes()),
        "g.large": ("BF16", large),
        "h.tied": ("BF16", large),
        "i.empty": ("F32", b""),
    }
    header, offset = {}, 0
    for name, (dtype, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": [len(content)], "data_offsets": [offset, offset + len(content)]}
        offset += len(content)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(content for _, content in tensors.values())


def _normal(seed: int, dtype: str) -> NDArray[Any]:
    return np.random.default_rng(seed).standard_normal(_ELEMENTS).astype(dtype)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
