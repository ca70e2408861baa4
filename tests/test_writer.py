"""Blobs into a bundle and back: nothing is lost, stored twice, or grown, however the blobs are cut."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundler.digest import Digest
from bundler.errors import DamagedStagingError, FileSystemError
from bundler.format.blob_file import BlobFile
from bundler.format.index import MAX_PART_SIZE, Index, index_text, parse_index
from bundler.format.reader import open_bundle
from bundler.format.split import SHARED_BLOB, cut
from bundler.format.volume import DEFAULT_VOLUME_SIZE, MIN_VOLUME_SIZE
from bundler.format.writer import Packed, pack_blobs, seal_bundle
from bundler.names import BundleName
from tests.bundles import noise, read_blobs

NAME = BundleName("speech")
TEXT = b"".join(b"line %d of something that compresses well\n" % number for number in range(30_000))


def proven(folder: Path, contents: Sequence[bytes]) -> list[BlobFile]:
    """Write blobs to `folder`, as the gateway's staging has them."""
    folder.mkdir(exist_ok=True)
    blobs = []
    for content in contents:
        path = folder / Digest.of(content)
        path.write_bytes(content)
        blobs.append(BlobFile(path=path, sha256=Digest.of(content), size=len(content)))
    return blobs


def pack(
    folder: Path, contents: Sequence[bytes], *, volume_size: int = DEFAULT_VOLUME_SIZE, workers: int = 2
) -> Packed:
    """Pack blobs into `folder`."""
    folder.mkdir(exist_ok=True)
    blobs = proven(folder.with_name(folder.name + "-blobs"), contents)
    return pack_blobs(blobs, folder, name=NAME, workers=workers, volume_size=volume_size)


def sealed(folder: Path, packed: Packed) -> Digest:
    """Complete the bundle of what was packed, without snapshots, and return its identity."""
    index = Index(name=NAME, written_with=(), snapshots=(), blobs=packed.blobs, parts=packed.parts,
                  volumes=packed.volumes)
    return seal_bundle(folder, index, build_info={"when": "never"})


def unpacked(folder: Path) -> list[bytes]:
    """Return the blobs of a bundle, by the real reader."""
    return list(read_blobs(open_bundle((folder,))).values())


def members(folder: Path) -> list[tuple[str, str]]:
    """Return (name, SHA-256 of the content) of every member of every volume, as Python's tarfile sees them."""
    found = []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                stream = tar.extractfile(member)
                assert stream is not None
                found.append((member.name, hashlib.sha256(stream.read()).hexdigest()))
    return found


# --- Nothing is lost

KINDS = {"noise": noise("small", SHARED_BLOB + 5000), "text": TEXT, "zeros": bytes(SHARED_BLOB + 5000)}
CONTENTS = st.binary(max_size=300) | st.builds(
    lambda kind, size, start: KINDS[kind][start:start + size], st.sampled_from(sorted(KINDS)),
    st.integers(0, 2000) | st.integers(SHARED_BLOB - 2, SHARED_BLOB + 2), st.integers(0, 2000))


@settings(max_examples=40, deadline=None)
@given(contents=st.lists(CONTENTS, max_size=12, unique=True))
def test_any_blobs_come_back(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]) -> None:
    """Of any sizes, in any order; every member of the tars is what its name says."""
    folder = tmp_path_factory.mktemp("any") / "speech"

    packed = pack(folder, contents)
    sealed(folder, packed)

    assert unpacked(folder) == contents
    assert all(name == f"parts/{digest}" for name, digest in members(folder))
    assert [blob.size for blob in packed.blobs] == [len(content) for content in contents]


@pytest.mark.parametrize("size", [MAX_PART_SIZE - 1, MAX_PART_SIZE, MAX_PART_SIZE + 1, 2 * MAX_PART_SIZE + 7])
def test_blobs_around_the_size_of_a_part_come_back(tmp_path: Path, size: int) -> None:
    """No byte is lost where a part ends and the next one starts."""
    large = (noise("large", 1 << 20) + TEXT + bytes(3 << 20)) * 8
    contents = [b"before", large[:size], b"after"]

    sealed(tmp_path / "speech", pack(tmp_path / "speech", contents))

    assert unpacked(tmp_path / "speech") == contents


def test_an_empty_blob_takes_no_part(tmp_path: Path) -> None:
    """Nothing is stored for nothing, not even a volume."""
    packed = pack(tmp_path / "speech", [b""])
    sealed(tmp_path / "speech", packed)

    assert (packed.parts, packed.volumes) == ((), ())
    assert unpacked(tmp_path / "speech") == [b""]
    assert list((tmp_path / "speech").glob("*.tar")) == []


def test_a_bundle_of_nothing_is_a_bundle(tmp_path: Path) -> None:
    """No blobs at all."""
    sealed(tmp_path / "speech", pack(tmp_path / "speech", []))

    assert unpacked(tmp_path / "speech") == []


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(0, 3000) | st.integers(SHARED_BLOB - 2, SHARED_BLOB + 2)
                      | st.integers(0, 3 * MAX_PART_SIZE), max_size=12))
def test_pieces_cover_every_byte_once_and_in_order(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    """Whatever the sizes: no piece is empty or too large, none is missing, none overlaps."""
    folder = tmp_path_factory.mktemp("sparse")
    blobs = []
    for number, size in enumerate(sizes):
        with (folder / str(number)).open("wb") as stream:
            stream.truncate(size)
        blobs.append(BlobFile(path=folder / str(number), sha256=Digest.of(b"%d" % number), size=size))

    pieces = list(cut(blobs))

    assert all(0 < piece.size <= MAX_PART_SIZE for piece in pieces)
    at: dict[Digest, int] = {}
    order = []
    for each in (each for piece in pieces for each in piece.ranges):
        assert each.offset == at.get(each.blob.sha256, 0) and each.length > 0
        at[each.blob.sha256] = each.offset + each.length
        order.append(each.blob.sha256)
    assert at == {blob.sha256: blob.size for blob in blobs if blob.size}
    assert [*dict.fromkeys(order)] == [blob.sha256 for blob in blobs if blob.size]


# --- Nothing is stored twice


def test_equal_pieces_are_stored_once(tmp_path: Path) -> None:
    """Two blobs with the same first 16 MiB share them."""
    start = (TEXT * (MAX_PART_SIZE // len(TEXT) + 1))[:MAX_PART_SIZE]
    contents = [start + b"one", start + b"two"]

    packed = pack(tmp_path / "speech", contents)
    sealed(tmp_path / "speech", packed)

    assert packed.blobs[0].extents[0] == packed.blobs[1].extents[0]
    assert len(members(tmp_path / "speech")) == 3
    assert unpacked(tmp_path / "speech") == contents


def test_stored_bytes_are_shared_by_parts_that_decode_differently(tmp_path: Path) -> None:
    """A file that is, byte for byte, what another file's part is stored as: one member, two parts."""
    hexadecimal = noise("half full", SHARED_BLOB).hex().encode()
    alone = pack(tmp_path / "alone", [hexadecimal])
    part = alone.parts[0]
    volume = (tmp_path / "alone" / alone.volumes[0].name).read_bytes()
    stored = volume[part.offset:part.offset + part.size]
    assert len(alone.parts) == 1 and len(stored) < len(hexadecimal)

    packed = pack(tmp_path / "speech", [hexadecimal, stored])
    sealed(tmp_path / "speech", packed)

    first, second = packed.parts
    assert (first.sha256, first.volume, first.offset, first.size) == (
        second.sha256, second.volume, second.offset, second.size)
    assert (first.codec, first.raw_size) != (second.codec, second.raw_size)
    assert len(members(tmp_path / "speech")) == 1
    assert unpacked(tmp_path / "speech") == [hexadecimal, stored]


# --- Sizes


def test_no_volume_is_larger_than_asked_for(tmp_path: Path) -> None:
    """A stick's file system sets the limit; parts go to the next volume before it is passed."""
    contents = [noise(str(number), size) for number, size in enumerate((17 << 20, 5 << 20, 20 << 20, 100))]

    packed = pack(tmp_path / "speech", contents, volume_size=MIN_VOLUME_SIZE)
    sealed(tmp_path / "speech", packed)

    sizes = [path.stat().st_size for path in sorted((tmp_path / "speech").glob("*.tar"))]
    assert len(sizes) > 2
    assert max(sizes) <= MIN_VOLUME_SIZE
    assert sizes == [volume.size for volume in packed.volumes]
    assert unpacked(tmp_path / "speech") == contents


def test_dense_content_grows_by_less_than_a_thousandth(tmp_path: Path) -> None:
    """20 MiB of noise: headers and padding are all that is added."""
    content = noise("dense", 20 << 20)

    packed = pack(tmp_path / "speech", [content])

    assert sum(volume.size for volume in packed.volumes) <= 1.001 * len(content) + 4096


# --- The same bytes every time


@settings(max_examples=10, deadline=None)
@given(contents=st.lists(CONTENTS, max_size=12, unique=True), workers=st.integers(2, 9))
def test_workers_change_no_byte(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], workers: int) -> None:
    """One thread or many: the same volumes, the same index."""
    one, many = (tmp_path_factory.mktemp("workers") / "speech" for _ in range(2))

    identities = [sealed(one, pack(one, contents, workers=1)), sealed(many, pack(many, contents, workers=workers))]

    assert identities[0] == identities[1]
    assert {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in many.iterdir()}


def test_the_index_that_is_written_is_one_that_is_read(tmp_path: Path) -> None:
    """The writer keeps all rules that the reader applies."""
    contents = [TEXT, noise("n", 3 << 20), b"", b"small", noise("m", 1000)]

    packed = pack(tmp_path / "speech", contents)

    index = Index(name=NAME, written_with=(("x", "1"),), snapshots=(), blobs=packed.blobs, parts=packed.parts,
                  volumes=packed.volumes)
    assert parse_index(index_text(index)) == index


# --- Sealing


def test_a_sealed_bundle_passes_the_stock_check(tmp_path: Path) -> None:
    """`sha256sum -c SHA256SUMS`, and nothing in the folder that it does not list."""
    folder = tmp_path / "speech"

    identity = sealed(folder, pack(folder, [TEXT, b"small"]))

    checked = subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    listed = {line.partition(":")[0] for line in checked.stdout.splitlines()}
    assert listed == {path.name for path in folder.iterdir()} - {"SHA256SUMS"}
    assert listed == {"speech-001.tar", "README.txt", "restore.py", "build-info.json", "index.json"}
    assert hashlib.sha256((folder / "index.json").read_bytes()).hexdigest() == identity


def test_an_older_seal_is_replaced(tmp_path: Path) -> None:
    """What an interrupted run left under the names, whole or half, is written over."""
    folder = tmp_path / "speech"
    packed = pack(folder, [b"small"])
    for name in ("README.txt", "index.json", "SHA256SUMS", ".SHA256SUMS.tmp"):
        (folder / name).write_bytes(b"half of something that is longer than what comes" * 1000)

    sealed(folder, packed)

    assert unpacked(folder) == [b"small"]
    assert not (folder / ".SHA256SUMS.tmp").exists()


# --- What cannot be packed


def test_a_blob_that_shrank_is_not_packed(tmp_path: Path) -> None:
    """Its end is missing, and that is said."""
    blob = proven(tmp_path / "blobs", [b"0123456789"])[0]
    blob.path.write_bytes(b"01234")
    (tmp_path / "speech").mkdir()

    with pytest.raises(FileSystemError, match="ends 5 bytes too early"):
        pack_blobs([blob], tmp_path / "speech", name=NAME, workers=1)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_blob_that_changed_is_not_packed(tmp_path: Path, number: int) -> None:
    """What is packed is proven: large or small, first or last, a single bit is seen, and it is said where."""
    blobs = proven(tmp_path / "blobs", [b"small", noise("n", MAX_PART_SIZE + 5), b"small too"])
    content = blobs[number].path.read_bytes()
    blobs[number].path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (tmp_path / "speech").mkdir()

    with pytest.raises(DamagedStagingError, match=str(blobs[number].path)):
        pack_blobs(blobs, tmp_path / "speech", name=NAME, workers=2)


def test_a_fetch_that_fails_ends_the_packing(tmp_path: Path) -> None:
    """The error is the fetch's, and there is no bundle."""
    def blobs() -> Iterator[BlobFile]:
        yield from proven(tmp_path / "blobs", [noise("n", 2 << 20), b"small"])
        raise ZeroDivisionError

    (tmp_path / "speech").mkdir()
    with pytest.raises(ZeroDivisionError):
        pack_blobs(blobs(), tmp_path / "speech", name=NAME, workers=2)

    assert not (tmp_path / "speech" / "SHA256SUMS").exists()


def test_a_volume_is_a_stream(tmp_path: Path) -> None:
    """Read front to back without seeking, as from a tape, a pipe or a socket."""
    packed = pack(tmp_path / "speech", [TEXT, noise("n", 2 << 20), b"small"])
    volume = (tmp_path / "speech" / packed.volumes[0].name).read_bytes()

    with tarfile.open(fileobj=io.BytesIO(volume), mode="r|") as tar:
        names = [member.name for member in tar]

    assert names == [f"parts/{part.sha256}" for part in packed.parts]
