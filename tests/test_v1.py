"""Bundles of format 1 that were written once, and must open for ever."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from bundler.digest import Digest
from bundler.format.codec import decode
from bundler.format.index import Codec
from bundler.format.reader import open_bundle
from bundler.format.verify import verify_bundle
from bundler.names import RepoId, RepoType
from bundler.target.hubcache import RepoFolder
from bundler.target.install import install_bundle

BUNDLES = {
    "v1": "f3391aa3e919a2963731a55d6b63e2799aa635914af72a40078162297c25dac1",
    "v1-without-raw-digests": "488ab11a643fe2ec4edea1f832261e196bfddd3670ebe3a74db0ce004b0c6c74",
}
"""Folders in `data`, and the identities of the bundles in them. The first has a field that later ones do not have."""


@pytest.fixture(params=BUNDLES)
def v1(request: pytest.FixtureRequest) -> Path:
    """Each of them."""
    return Path(__file__).parent / "data" / str(request.param)


FILES = {
    ".gitattributes": "ee05350c7fda0af4da116020dd7b976d731de3beed4f5e717d5bcc95ead24550",
    "README.md": "ae88e0e17d3b0d0a40be6179ecf277bc7623bbfff49f89c8f8851de469b8aad1",
    "config.json": "7ee120765a7045bb2a7a8ae10710ef1eec7ba2eb6b3a33fdd41d6d015c689975",
    "copy.json": "7ee120765a7045bb2a7a8ae10710ef1eec7ba2eb6b3a33fdd41d6d015c689975",
    "empty.txt": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "model.safetensors": "5265671a947a503f94f2a94687e4145f838323ee45e31004d790f83a25f9161b",
    "nested/folder/naïve name #1 100%+.txt": "332c1c558d4328172b1ef71f56b116ada1e307c16200cad21305fb1c140f5d49",
    "noise.bin": "8eb56768586405e612b582de6c037d23a8bcd9110931064628b34107fe3165a0",
    "ones.bin": "ee78cd29d3a534713b36e6ff6fa3668c8a8f851a542d5eb2401c25ca4e057d02",
    "weights.bin": "c7d0a16628ee8767e52a4bd4dcbf95d7f1ac0d4d53a2ebe9edac10d94273f1a6",
}

VECTORS = [
    ("803fc0bf0000ff7f", "0100 0800000002 0004000000 0004000000 7f7f00ff 008100fe"),
    ("0000803f563412c1", "0100 0800000004 0002000000 0002000000 0002000000 0002000000 7f82 0025 0034 0056"),
    ("182d4454fb2109c007", "0200 0800000008" + "0001000000" * 8 + "0100000001 0001000000 801321fb54442d18 07"),
]
"""Raw and stored bytes of the codec `planes`, as FORMAT.md has them."""


def test_it_verifies(v1: Path) -> None:
    """Every byte of it is still the one that was written, and is understood."""
    report = verify_bundle((v1,), workers=2)

    assert report.problems == ()
    assert report.proven == len(report.bundle.index.blobs)
    assert report.bundle.identity == BUNDLES[v1.name]


def test_it_holds_a_part_of_every_codec(v1: Path) -> None:
    """So that no codec can change without being noticed."""
    assert {part.codec for part in open_bundle((v1,)).index.parts} == set(Codec)


def test_it_installs(v1: Path, tmp_path: Path) -> None:
    """The files that come out are the ones that went in, though these are nowhere else."""
    install_bundle((v1,), tmp_path, workers=2)

    model = RepoFolder.of(tmp_path, RepoId(RepoType.MODEL, "org/Sample-Model")).path
    data = RepoFolder.of(tmp_path, RepoId(RepoType.DATASET, "questions")).path
    found = _digests(model / "snapshots" / ("1" * 40)) | _digests(data / "snapshots" / ("2" * 40))
    assert found == FILES


def test_its_own_script_restores_it(v1: Path, tmp_path: Path) -> None:
    """The `restore.py` that was written with it still does."""
    subprocess.run([sys.executable, "-I", v1 / "restore.py", tmp_path / "out"], check=True, capture_output=True)

    assert _digests(tmp_path / "out/org/Sample-Model") | _digests(tmp_path / "out/datasets/questions") == FILES


def test_vectors_of_the_format_decode_as_written() -> None:
    """FORMAT.md's examples are true."""
    for raw, stored in VECTORS:
        expected = bytes.fromhex(raw)
        assert bytes(decode(Codec.PLANES, memoryview(bytes.fromhex(stored)), len(expected))) == expected


def _digests(folder: Path) -> dict[str, Digest]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): Digest(hashlib.sha256(path.read_bytes()).hexdigest()) for path in files}
