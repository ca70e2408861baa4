"""Work on many pieces at once: in order, bounded, and without losing an error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.pipeline import MAX_IN_FLIGHT, ordered_map, usable_cores


@given(st.lists(st.integers()), st.integers(1, 20))
def test_results_come_in_the_order_of_the_pieces(pieces: list[int], workers: int) -> None:
    """Whatever the number of workers, none is lost and none comes twice."""
    assert list(ordered_map(lambda piece: piece * 2, pieces, workers=workers)) == [piece * 2 for piece in pieces]


def test_results_come_in_order_though_work_ends_in_another() -> None:
    """The first piece is made to wait for the second, and is given first all the same."""
    second_is_done = threading.Event()

    def work(piece: int) -> int:
        if piece == 0:
            assert second_is_done.wait(timeout=60)
        elif piece == 1:
            second_is_done.set()
        return piece

    assert list(ordered_map(work, range(4), workers=2)) == [0, 1, 2, 3]


@pytest.mark.parametrize("workers", [1, 2, 100])
def test_no_more_is_in_flight_than_memory_was_planned_for(workers: int) -> None:
    """Pieces are drawn as results are taken, whatever the number of workers."""
    drawn, taken, most = 0, 0, 0

    def pieces() -> Iterator[int]:
        nonlocal drawn, most
        for piece in range(100):
            drawn += 1
            most = max(most, drawn - taken)
            yield piece

    for _ in ordered_map(lambda piece: piece, pieces(), workers=workers):
        taken += 1

    assert taken == 100
    assert most <= MAX_IN_FLIGHT + 1


def test_an_error_of_the_work_comes_in_its_place() -> None:
    """What was done before it is given first; what comes after is dropped."""
    def work(piece: int) -> int:
        if piece == 5:
            raise ZeroDivisionError
        return piece

    taken = []
    with pytest.raises(ZeroDivisionError):
        for result in ordered_map(work, range(100), workers=3):
            taken.append(result)

    assert taken == [0, 1, 2, 3, 4]


def test_an_error_of_the_pieces_is_raised() -> None:
    """Where pieces cannot be drawn, nobody is told that all is done."""
    def pieces() -> Iterator[int]:
        yield from range(3)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(ordered_map(lambda piece: piece, pieces(), workers=2))


def test_a_reader_who_leaves_stops_the_work() -> None:
    """After closing, no thread of the pool is left and no further piece was drawn."""
    drawn: list[int] = []
    before = set(threading.enumerate())

    def pieces() -> Iterator[int]:
        for piece in range(1000):
            drawn.append(piece)
            yield piece

    with closing(ordered_map(lambda piece: piece, pieces(), workers=2)) as results:
        assert next(results) == 0

    assert len(drawn) <= MAX_IN_FLIGHT + 1
    assert set(threading.enumerate()) <= before


def test_there_is_always_a_core() -> None:
    """The default number of workers is usable."""
    assert usable_cores() >= 1
