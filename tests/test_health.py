"""The rules of failing over: which source is asked next, and when. Times are numbers, nothing waits."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.gateway.health import (
    DISTRUSTED_AFTER, MAX_REST, RULES, Health, Standing, Trial, is_too_slow, next_turn, pause_after
)
from bundler.gateway.trouble import Trouble, trouble_of_status

WELL = Standing()
FINAL = [trouble for trouble, rule in RULES.items() if rule.strikes is not None]
PASSING = [trouble for trouble, rule in RULES.items() if rule.strikes is None]
KB = 1000


def resting(until: float) -> Standing:
    """Return a source that rests."""
    return Standing(health=Health(rests_until=until))


def at_rate(rate: float, *, measured_at: float = 0.0) -> Standing:
    """Return a source of a known speed."""
    return Standing(health=Health().measured(rate, measured_at))


def test_asks_the_first_in_the_list() -> None:
    """The manifest's order counts as long as all are well."""
    turn = next_turn([WELL, WELL, WELL], now=10)

    assert turn is not None and (turn.source, turn.at) == (0, 10)


def test_asks_another_while_one_rests() -> None:
    """The sick one is left alone, and is the first again when its rest is over."""
    standings = [resting(until=100), WELL]

    before, after = next_turn(standings, now=99), next_turn(standings, now=100)

    assert before is not None and before.source == 1
    assert after is not None and after.source == 0


def test_waits_for_the_first_to_recover_when_all_rest() -> None:
    """Nobody is asked before; the one that comes back first is."""
    turn = next_turn([resting(until=50), resting(until=30), resting(until=40)], now=10)

    assert turn is not None and (turn.source, turn.at) == (1, 30)


def test_has_nobody_to_ask_when_all_are_struck_off() -> None:
    """What no source has is known at once."""
    over = Standing(trial=Trial(over=True))

    assert next_turn([over, over], now=0) is None
    assert next_turn([], now=0) is None


def test_asks_those_last_that_gave_wrong_files() -> None:
    """A source with rotten bytes is a last resort, and a resort."""
    health = Health()
    for _ in range(DISTRUSTED_AFTER):
        health = health.gave_wrong_file()
    rotten = Standing(health=health)

    better, alone = next_turn([rotten, WELL], now=0), next_turn([rotten], now=0)

    assert better is not None and better.source == 1
    assert alone is not None and alone.source == 0


def test_asks_the_faster_first_where_the_difference_is_great() -> None:
    """Four times as fast counts; what was measured long ago does not."""
    far = next_turn([at_rate(100 * KB), at_rate(500 * KB)], now=1)
    near = next_turn([at_rate(100 * KB), at_rate(300 * KB)], now=1)
    old = next_turn([at_rate(100 * KB), at_rate(500 * KB)], now=10_000)

    assert [turn.source for turn in (far, near, old) if turn is not None] == [1, 0, 0]


@pytest.mark.parametrize("trouble", FINAL)
def test_strikes_a_source_off_for_what_does_not_mend(trouble: Trouble) -> None:
    """After so many times of the same trouble the file is not asked for there any more."""
    trial, limit = Trial(), RULES[trouble].strikes
    assert limit is not None

    for _ in range(limit):
        assert not trial.over
        trial = trial.failed(trouble, now=0, got_further=False)

    assert trial.over


@pytest.mark.parametrize("trouble", PASSING)
def test_never_strikes_a_source_off_for_what_may_mend(trouble: Trouble) -> None:
    """However often: a line that is down for two days comes back."""
    trial = Trial()

    for now in range(1000):
        trial = trial.failed(trouble, now=float(now), got_further=False)

    assert not trial.over


def test_different_troubles_do_not_add_up() -> None:
    """One dead link and one missing file are no reason to strike off."""
    trial = Trial()

    for trouble in FINAL:
        trial = trial.failed(trouble, now=0, got_further=False)

    assert not trial.over


def test_progress_forgives_dead_links_but_not_wrong_bytes() -> None:
    """A link that dies again and again is no matter as long as bytes come between; wrong bytes came whole."""
    expired = wrong = Trial()

    for _ in range(20):
        expired = expired.failed(Trouble.EXPIRED, now=0, got_further=True)
    for _ in range(2):
        wrong = wrong.failed(Trouble.WRONG, now=0, got_further=True)

    assert not expired.over
    assert wrong.over


def test_a_busy_source_rests_for_as_long_as_it_says() -> None:
    """`Retry-After` holds, within bounds: no server sends us away for a day, none makes us ask without a pause."""
    asked = [
        Health().failed(Trouble.BUSY, asked_at=100, now=101, retry_after=seconds).rests_until
        for seconds in (30, 0, 86_400)
    ]

    assert asked == [131, 102, 101 + MAX_REST]


def test_rests_grow_while_a_source_stays_down() -> None:
    """Each failure after a rest makes the next one longer, up to two minutes; a byte ends that."""
    health, now, rests = Health(), 0.0, []

    for _ in range(20):
        health = health.failed(Trouble.UNREACHABLE, asked_at=now, now=now)
        rests.append(health.rests_until - now)
        now = health.rests_until

    assert rests == sorted(rests) and rests[0] == 1
    assert rests[-1] == pytest.approx(120)
    assert health.served(asked_at=now).rests_until == 0


def test_failures_at_the_same_time_count_once() -> None:
    """Thirty files in flight when the line drops are one event."""
    health = Health()

    for _ in range(30):
        health = health.failed(Trouble.UNREACHABLE, asked_at=5, now=6)

    assert health.failures == 1
    assert health.rests_until == 7


def test_a_byte_that_was_asked_for_before_ends_no_rest() -> None:
    """A download that goes on while new requests are refused does not let everybody ask again."""
    health = Health().failed(Trouble.BUSY, asked_at=10, now=11, retry_after=60)

    assert health.served(asked_at=9).rests_until == 71
    assert health.served(asked_at=12).rests_until == 0


def test_one_alone_asks_after_a_rest() -> None:
    """The others wait for a moment to see how it goes, so that a busy hub is not stormed."""
    rested = Health().failed(Trouble.BUSY, asked_at=0, now=0, retry_after=60)
    after = rested.probed(60)

    first, second = next_turn([Standing(health=rested)], now=60), next_turn([Standing(health=after)], now=60)

    assert first is not None and first.at == 60
    assert second is not None and second.at > 60
    assert Health().probed(60) == Health()


def test_a_few_broken_answers_are_the_files_trouble() -> None:
    """One cut connection does not send a source to rest; three in a row do."""
    health = Health()

    rests = []
    for now in (1.0, 2.0, 3.0):
        health = health.failed(Trouble.BROKEN, asked_at=now, now=now)
        rests.append(health.rests_until > now)

    assert rests == [False, False, True]


@pytest.mark.parametrize(("rate", "other", "switches"), [
    (100 * KB, at_rate(500 * KB), True),
    (100 * KB, at_rate(150 * KB), False),
    (10 * KB, WELL, True),
    (900 * KB, WELL, False),
    (10 * KB, resting(until=100), False),
    (10 * KB, Standing(trial=Trial(over=True)), False),
    (10 * KB, Standing(trial=Trial(slow=True)), False),
    (10 * KB, Standing(health=Health(wrong_files=DISTRUSTED_AFTER)), False),
], ids=["far faster", "a little faster", "never tried", "fast enough", "rests", "has it not", "was slow", "distrusted"])
def test_leaves_a_slow_source_for_a_better_one_that_is_there(rate: float, other: Standing, switches: bool) -> None:
    """Slow is better than nothing: a download is given up only where another source promises more."""
    assert is_too_slow(rate, [at_rate(rate), other], 0, now=1) is switches


@pytest.mark.parametrize(("status", "redirected", "trouble"), [
    (404, False, Trouble.ABSENT), (410, True, Trouble.ABSENT), (401, False, Trouble.REFUSED),
    (403, False, Trouble.REFUSED), (403, True, Trouble.EXPIRED), (429, False, Trouble.BUSY), (503, True, Trouble.BUSY),
    (500, False, Trouble.BROKEN), (502, False, Trouble.BROKEN), (418, True, Trouble.BROKEN),
])
def test_sorts_what_servers_answer(status: int, redirected: bool, trouble: Trouble) -> None:
    """The same status means different things from a hub and from where its link led."""
    assert trouble_of_status(status, redirected=redirected) is trouble


@given(st.lists(st.sampled_from(list(Trouble)), max_size=30), st.integers(1, 4))
def test_whatever_happens_somebody_is_asked_until_all_are_struck_off(troubles: list[Trouble], count: int) -> None:
    """No history of troubles makes the rules forget a source that may still have the file."""
    standings, now = [WELL] * count, 0.0

    for trouble, number in zip(troubles, itertools.cycle(range(count))):
        standing, now = standings[number], now + 1
        standings[number] = Standing(
            health=standing.health.failed(trouble, asked_at=now, now=now),
            trial=standing.trial.failed(trouble, now=now, got_further=False),
        )

    turn = next_turn(standings, now)
    assert (turn is None) == all(standing.trial.over for standing in standings)
    assert turn is None or turn.at <= now + MAX_REST


def test_pauses_are_bounded() -> None:
    """However long it lasts, somebody looks again every two minutes."""
    assert pause_after(1) == 1
    assert pause_after(10_000) == 120
