"""Raw bytes to stored bytes and back: nothing is lost, nothing grows, and no frame is believed."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import textwrap

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from bundler.errors import FormatError
from bundler.format.codec import decode, encode
from bundler.format.hint import Hint
from bundler.format.index import MAX_PART_SIZE, MAX_STORED_SIZE, Codec
from tests.bundles import noise

TEXT = b"".join(b"line %d of something that compresses well\n" % number for number in range(20_000))
WEIGHTS = struct.pack("<60000f", *map(random.Random(1).gauss, [0] * 60_000, [0.02] * 60_000))
RAW = b"hello world, " * 100
FRAME = zstandard.ZstdCompressor(level=3, write_content_size=True).compress(RAW)
BLOCKS = FRAME[7:]
"""What follows magic number, descriptor and a content size of two bytes."""


def test_the_frame_that_is_forged_here_starts_as_expected() -> None:
    """Descriptor: single segment, content size in two bytes (less 256)."""
    assert FRAME[:7] == b"\x28\xb5\x2f\xfd\x60" + struct.pack("<H", len(RAW) - 256)


def forged(content_size: int, *, window: int | None = None) -> bytes:
    """Return the frame with another content size in its header, and another window where one is given."""
    if window is None:
        return FRAME[:4] + b"\xa0" + struct.pack("<I", content_size) + BLOCKS
    return FRAME[:4] + bytes([0x80, (window.bit_length() - 11) << 3]) + struct.pack("<I", content_size) + BLOCKS


def coded_and_back(raw: bytes, hints: list[Hint] | None = None) -> bytes:
    """Return what comes back."""
    coded = encode(memoryview(raw), hints or ())
    return bytes(decode(coded.codec, memoryview(coded.stored), len(raw)))


# --- Nothing is lost


@given(st.binary(max_size=3000)
       | st.builds(lambda unit, times: unit * times, st.binary(max_size=50), st.integers(0, 300)))
def test_any_bytes_come_back(raw: bytes) -> None:
    """Whatever codec was chosen."""
    assert coded_and_back(raw) == raw


@given(st.lists(st.tuples(st.sampled_from([TEXT, WEIGHTS, noise("n", 300_000), bytes(300_000)]),
                          st.integers(0, 240_000), st.sampled_from([0, 1, 2, 4, 8])), min_size=1, max_size=4))
def test_any_mixture_comes_back(pieces: list[tuple[bytes, int, int]]) -> None:
    """Numbers, text, noise and zeros in a row, with hints that are right, wrong, or off by a byte."""
    raw = b"".join(content[:length] for content, length, _ in pieces)
    hints = [Hint(length, width) for _, length, width in pieces]

    assert coded_and_back(raw, hints) == raw
    assert coded_and_back(raw) == raw


@pytest.mark.parametrize("size", [MAX_PART_SIZE - 1, MAX_PART_SIZE])
@pytest.mark.parametrize("content", ["noise", "zeros", "text"])
def test_full_parts_come_back(size: int, content: str) -> None:
    """The largest parts there are, and one byte less."""
    unit = {"noise": noise("unit", 1 << 20), "zeros": bytes(1 << 20), "text": TEXT}[content]
    raw = (unit * (size // len(unit) + 1))[:size]

    assert coded_and_back(raw) == raw


# --- Nothing grows


@given(st.binary(max_size=5000))
def test_no_input_grows(raw: bytes) -> None:
    """What would grow is stored as it is."""
    coded = encode(memoryview(raw))

    assert len(coded.stored) <= len(raw)


def test_a_full_part_of_noise_does_not_grow() -> None:
    """Dense bytes are stored as they are, within what the index allows."""
    raw = noise("dense", MAX_PART_SIZE)

    coded = encode(memoryview(raw), [Hint(len(raw), 2)])

    assert len(coded.stored) <= len(raw) <= MAX_STORED_SIZE


@pytest.mark.parametrize(("raw", "width", "share"), [(TEXT, 0, 0.3), (bytes(1 << 20), 0, 0.01), (WEIGHTS, 4, 0.95)],
                         ids=["text", "zeros", "weights"])
def test_what_can_shrink_does(raw: bytes, width: int, share: float) -> None:
    """Text, zeros, and the exponents of numbers."""
    coded = encode(memoryview(raw), [Hint(len(raw), width)])

    assert len(coded.stored) < share * len(raw)


def test_the_same_bytes_are_stored_the_same() -> None:
    """Today and tomorrow, in a fresh process: the result depends on the bytes and on libzstd alone."""
    program = textwrap.dedent("""
        import hashlib, random, struct
        from bundler.format.codec import encode
        raw = struct.pack("<60000f", *map(random.Random(1).gauss, [0] * 60_000, [0.02] * 60_000))
        coded = encode(memoryview(raw))
        print(coded.codec.value, hashlib.sha256(coded.stored).hexdigest())
    """)

    first, second = (subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
                     for _ in range(2))

    assert first == second


# --- Nothing is believed


def refuse(codec: Codec, stored: bytes, raw_size: int) -> None:
    """Check that stored bytes are refused."""
    with pytest.raises(FormatError):
        decode(codec, memoryview(stored), raw_size)


def test_the_forgeries_start_from_a_good_frame() -> None:
    """With the true size in another header the frame is taken, so it is the lie that is refused."""
    assert bytes(decode(Codec.ZSTD, memoryview(FRAME), len(RAW))) == RAW
    assert bytes(decode(Codec.ZSTD, memoryview(forged(len(RAW))), len(RAW))) == RAW
    assert bytes(decode(Codec.ZSTD, memoryview(forged(len(RAW), window=1 << 20)), len(RAW))) == RAW


@pytest.mark.parametrize("said", [0, 1, len(RAW) - 1, len(RAW) + 1, MAX_PART_SIZE])
def test_a_frame_of_another_size_than_the_index_says_is_refused(said: int) -> None:
    """The index decides how much memory is taken; the frame has to agree before it is opened."""
    refuse(Codec.ZSTD, FRAME, said)


@pytest.mark.parametrize("said", [300, len(RAW) - 1, len(RAW) + 1, MAX_PART_SIZE])
def test_a_frame_that_lies_about_its_size_is_refused(said: int) -> None:
    """Index and header agree, and what is inside is more, or less."""
    refuse(Codec.ZSTD, forged(said), said)


@pytest.mark.parametrize("said", [1 << 30, (1 << 32) - 1])
def test_a_frame_that_claims_gigabytes_is_refused(said: int) -> None:
    """Whatever the header says, the index bounds what is decoded."""
    refuse(Codec.ZSTD, forged(said), len(RAW))


@pytest.mark.parametrize("window", [1 << 28, 1 << 30, 1 << 31])
def test_a_frame_with_a_giant_window_is_refused(window: int) -> None:
    """128 MiB at most, as stock tools have it: what only we could decode is no bundle."""
    refuse(Codec.ZSTD, forged(len(RAW), window=window), len(RAW))


@pytest.mark.parametrize("stored", [
    b"", b"x", FRAME[:-1], FRAME[:10], FRAME[:4], FRAME + b"x", FRAME + FRAME, FRAME + bytes(512),
    b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + FRAME, b"\x50\x2a\x4d\x18\xb0\x04\0\0" + bytes(1200), FRAME[4:], RAW,
    zstandard.ZstdCompressor(write_content_size=False).compress(RAW),
], ids=lambda stored: repr(stored[:8]))
def test_what_is_not_exactly_one_frame_is_refused(stored: bytes) -> None:
    """Cut, continued, preceded, without a size, or something else."""
    refuse(Codec.ZSTD, stored, len(RAW))


@given(st.integers(0, len(FRAME) - 1), st.integers(1, 255))
def test_a_spoiled_frame_never_gives_another_size(at: int, change: int) -> None:
    """A changed byte is refused, or at least decodes to as many bytes as the index says."""
    spoiled = bytearray(FRAME)
    spoiled[at] ^= change

    try:
        raw = decode(Codec.ZSTD, memoryview(bytes(spoiled)), len(RAW))
    except FormatError:
        return

    assert len(raw) == len(RAW)


@pytest.mark.parametrize("said", [0, 1, 9, 11, MAX_PART_SIZE])
def test_raw_bytes_of_another_size_are_refused(said: int) -> None:
    """Ten bytes are ten bytes."""
    refuse(Codec.RAW, b"0123456789", said)


_PLANES = encode(memoryview(WEIGHTS), [Hint(len(WEIGHTS), 4)])


def test_weights_are_stored_as_planes() -> None:
    """What is spoiled below is a table with four planes behind it."""
    assert _PLANES.codec is Codec.PLANES


@given(st.data())
def test_spoiled_planes_never_give_another_size(data: st.DataObject) -> None:
    """Changed, cut or continued stored bytes are refused, or decode to as many bytes as the index says."""
    spoiled = bytearray(_PLANES.stored)
    for _ in range(data.draw(st.integers(1, 3))):
        spoiled[data.draw(st.integers(0, 40) | st.integers(0, len(spoiled) - 1))] ^= data.draw(st.integers(1, 255))
    stored = bytes(spoiled)[:data.draw(st.just(len(spoiled)) | st.integers(0, len(spoiled)))]

    try:
        raw = decode(_PLANES.codec, memoryview(stored), len(WEIGHTS))
    except FormatError:
        return

    assert len(raw) == len(WEIGHTS)


@given(st.binary(max_size=100), st.integers(0, 1000))
def test_any_bytes_are_planes_or_refused(stored: bytes, said: int) -> None:
    """Nothing that stands in a volume is a bug."""
    try:
        raw = decode(Codec.PLANES, memoryview(stored), said)
    except FormatError:
        return

    assert len(raw) == said


def test_a_bomb_takes_no_memory() -> None:
    """A gigabyte of zeros in a frame that does not say so is refused in the memory of a part."""
    program = textwrap.dedent("""
        import struct, zstandard
        from bundler.errors import FormatError
        from bundler.format.codec import decode
        from bundler.format.index import MAX_PART_SIZE, Codec
        source = zstandard.ZstdCompressor(level=1, write_content_size=False).compressobj()
        bomb = b"".join(source.compress(bytes(1 << 20)) for _ in range(1024)) + source.flush()
        assert len(bomb) < 1 << 20
        lying = bomb[:4] + b"\\x80" + bomb[5:6] + struct.pack("<I", MAX_PART_SIZE) + bomb[6:]
        for frame in (bomb, lying):
            try:
                decode(Codec.ZSTD, memoryview(frame), MAX_PART_SIZE)
                print("decoded")
            except FormatError:
                print("refused")
        # Not ru_maxrss: that of the parent is inherited.
        print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
    """)

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)

    first, second, kilobytes = done.stdout.split()
    assert (first, second) == ("refused", "refused")
    assert int(kilobytes) < 300_000
