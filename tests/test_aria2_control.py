"""Control files of aria2: what it wrote is taken, anything that it would choke on is not."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.gateway.aria2_control import is_sound

MIB = 1 << 20
WRITTEN = bytes.fromhex(
    "0001" "00000000" "00000000" "00100000" "0000000000800000" "0000000000000000" "00000001" "88"
    "00000002" "00000001" "00100000" "00000008" "ffffffff00000000" "00000005" "00100000" "00000008" "ffffffff80000000"
)
"""By aria2c 1.36.0, in the middle of a file of 8 MiB on two connections."""


def test_takes_what_aria2_wrote() -> None:
    """A control file of the real program, for the file that it is of, is good to resume from."""
    assert is_sound(WRITTEN, 8 * MIB)


@pytest.mark.parametrize("size", [0, 1, 7 * MIB, 8 * MIB - 1, 8 * MIB + 1, 1 << 60])
def test_refuses_the_control_file_of_a_file_of_another_size(size: int) -> None:
    """aria2 gives up at a control file that is of another length than the file."""
    assert not is_sound(WRITTEN, size)


@pytest.mark.parametrize("length", range(len(WRITTEN)))
def test_refuses_a_control_file_that_is_cut(length: int) -> None:
    """A full disk or a power failure may cut it anywhere."""
    assert not is_sound(WRITTEN[:length], 8 * MIB)


@pytest.mark.parametrize("length", range(34))
def test_refuses_a_control_file_that_ends_in_zeros(length: int) -> None:
    """A file system may keep the length of what it lost."""
    assert not is_sound(WRITTEN[:length] + bytes(len(WRITTEN) - length), 8 * MIB)


@pytest.mark.parametrize(
    ("offset", "value"), [(10, 0), (35, 9), (35, 2**32 - 1), (39, 8), (43, 0), (43, 2 * MIB), (47, 9)]
)
def test_refuses_pieces_that_cannot_be(offset: int, value: int) -> None:
    """More pieces in flight than there are, or of a wrong size, would make aria2 crash."""
    control = bytearray(WRITTEN)
    struct.pack_into("!I", control, offset, value)

    assert not is_sound(bytes(control), 8 * MIB)


@given(st.binary(max_size=200), st.integers(0, 1 << 62))
def test_never_fails(control: bytes, size: int) -> None:
    """Anything may stand on a disk."""
    assert is_sound(control, size) in (True, False)
