"""Volumes: tars that any tool reads, and that none has to."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.digest import Digest
from bundler.format.index import MAX_STORED_SIZE
from bundler.format.volume import (
    END_SIZE, HEADER_SIZE, MIN_VOLUME_SIZE, VolumeStream, member_header, member_name, padded
)
from tests.bundles import noise


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 65_536])
def test_a_header_is_what_tar_writes(tmp_path: Path, size: int) -> None:
    """Byte for byte the header of GNU tar for a file of nobody's, of no time."""
    content = noise("content", size)
    path = tmp_path / member_name(Digest.of(content))
    path.parent.mkdir()
    path.write_bytes(content)

    written = subprocess.run(
        ["tar", "-c", "--format=ustar", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "--mode=644",
         f"parts/{path.name}"],
        cwd=tmp_path, capture_output=True, check=True,
    ).stdout

    ours = member_header(Digest.of(content), size)
    assert ours == _without_devices(written[:HEADER_SIZE])
    assert written[HEADER_SIZE:HEADER_SIZE + padded(size)] == content + bytes(padded(size) - size)


def _without_devices(header: bytes) -> bytes:
    """Blank the device numbers, which mean nothing for a file: some releases of tar write zeros, some nothing."""
    blank = bytearray(header)
    blank[329:345] = bytes(16)
    blank[148:156] = b" " * 8
    blank[148:156] = b"%06o\0 " % sum(blank)
    return bytes(blank)


@given(st.integers(0, MAX_STORED_SIZE), st.binary())
def test_a_header_says_what_it_says_to_any_reader(size: int, seed: bytes) -> None:
    """Python's tarfile, strict about checksums, sees name, size and kind."""
    digest = Digest.of(seed)

    member = tarfile.TarInfo.frombuf(member_header(digest, size), "ascii", "strict")

    assert (member.name, member.size, member.mode) == (f"parts/{digest}", size, 0o644)
    assert member.isreg()
    assert (member.uid, member.gid, member.mtime, member.uname, member.gname) == (0, 0, 0, "", "")


@given(st.integers(0, 1 << 40))
def test_members_take_up_whole_blocks(size: int) -> None:
    """No more than needed."""
    assert padded(size) % 512 == 0
    assert 0 <= padded(size) - size < 512


@given(contents=st.lists(st.binary(max_size=2000), max_size=8, unique=True))
def test_a_volume_is_a_tar(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]) -> None:
    """The members are what was put in, each where its offset says, and the digest is that of the file."""
    path = tmp_path_factory.mktemp("volume") / "speech-001.tar"
    stream = VolumeStream(path)

    offsets = [stream.append(Digest.of(content), len(content), [content[:7], content[7:]]) for content in contents]
    written = stream.finish()

    whole = path.read_bytes()
    assert (written.size, written.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert [whole[offset:offset + len(content)] for offset, content in zip(offsets, contents)] == contents
    assert whole[-END_SIZE:] == bytes(END_SIZE)
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        read = {member.name: _content(tar, member) for member in tar}
    assert read == {member_name(Digest.of(content)): content for content in contents}


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(member)
    assert stream is not None
    return stream.read()


def test_there_is_room_up_to_the_limit(tmp_path: Path) -> None:
    """A part fits if header, padding and the end of the tar fit as well."""
    stream = VolumeStream(tmp_path / "v")
    stream.append(Digest.of(b"x"), 1, [b"x"])
    so_far = HEADER_SIZE + 512

    assert stream.room_for(512, so_far + HEADER_SIZE + 512 + END_SIZE)
    assert not stream.room_for(513, so_far + HEADER_SIZE + 512 + END_SIZE)
    assert not stream.room_for(512, so_far + HEADER_SIZE + 512 + END_SIZE - 1)
    stream.abandon()


def test_the_largest_part_fits_the_smallest_volume() -> None:
    """So no part is ever without a place."""
    assert HEADER_SIZE + padded(MAX_STORED_SIZE) + END_SIZE <= MIN_VOLUME_SIZE
