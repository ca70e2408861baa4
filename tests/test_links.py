"""How long signed URLs live, as each kind of object store writes it."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest

from bundler.gateway.links import renew_after

NOW = datetime(2026, 11, 20, 17, 0, 0, tzinfo=UTC)
UNKNOWN = 25 * 60


def epoch(**later: float) -> int:
    """Return a moment after NOW as a number."""
    return int((NOW + timedelta(**later)).timestamp())


def policy(seconds: int) -> str:
    """Write a custom policy of CloudFront's."""
    text = '{"Statement":[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":%d}}}]}' % seconds
    return base64.b64encode(text.encode()).decode().translate(str.maketrans("+=/", "-_~"))


@pytest.mark.parametrize(("query", "life"), [
    ("X-Amz-Date=20261120T170000Z&X-Amz-Expires=3600&X-Amz-Signature=ab", 3600),
    ("X-Amz-Date=20261120T164000Z&X-Amz-Expires=3600", 2400),
    ("X-Goog-Date=20261120T170000Z&X-Goog-Expires=900", 900),
    (f"Expires={epoch(hours=1)}&Signature=ab&Key-Pair-Id=K", 3600),
    (f"Policy={policy(epoch(minutes=30))}&Signature=ab", 1800),
    ("se=2026-11-20T18%3A00%3A00Z&sig=ab", 3600),
    ("se=2026-11-20T18%3A00%3A00&sig=ab", 3600),
    (f"Expires={epoch(seconds=5)}", 5),
])
def test_a_link_is_renewed_at_half_of_its_life(query: str, life: float) -> None:
    """Amazon, Google, CloudFront with and without a policy, Azure."""
    assert renew_after(f"https://cdn.example/file?{query}", NOW) == life / 2


@pytest.mark.parametrize("query", [
    "", "a=b", f"Expires={epoch(hours=-1)}", f"Expires={epoch(days=900)}", "Expires=soon", "Expires=9999999999999999",
    "X-Amz-Date=20261120T170000Z", "X-Amz-Date=now&X-Amz-Expires=5", "Policy=%25%25", "Policy=AAAA", "se=tomorrow",
    "X-Amz-Date=20261120T170000Z&X-Amz-Expires=" + "9" * 30,
])
def test_a_link_that_does_not_say_is_renewed_after_25_minutes(query: str) -> None:
    """So is one whose end makes no sense by our clock: one of the two clocks is wrong."""
    assert renew_after(f"https://cdn.example/file?{query}", NOW) == UNKNOWN
