"""How long a signed URL lives. Each kind of object store says so in its own way."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

_UNKNOWN = timedelta(minutes=50)
"""What a link is taken to live that does not say: hubs give an hour at most."""

_LONGEST = timedelta(days=7)


def renew_after(url: str, now: datetime) -> float:
    """Return the seconds after which a URL that was given just now should be asked for anew: half of its life.

    A clock that disagrees with the server's can make a life negative or absurd; it then counts as unknown.
    """
    dies = _dies_at({name.lower(): values[-1] for name, values in parse_qs(urlsplit(url).query).items()})
    life = dies - now if dies else _UNKNOWN
    if not timedelta(0) < life <= _LONGEST:
        life = _UNKNOWN
    return life.total_seconds() / 2


def _dies_at(query: dict[str, str]) -> datetime | None:
    """Read Amazon's and Google's date and seconds, CloudFront's and others' `Expires` or policy, Azure's `se`."""
    try:
        for vendor in ("amz", "goog"):
            if f"x-{vendor}-date" in query:
                given = datetime.strptime(query[f"x-{vendor}-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
                return given + timedelta(seconds=int(query[f"x-{vendor}-expires"]))
        if "expires" in query:
            return datetime.fromtimestamp(int(query["expires"]), UTC)
        if "policy" in query:
            return _policy_ends(query["policy"])
        if "se" in query:
            ends = datetime.fromisoformat(query["se"])
            return ends if ends.tzinfo else ends.replace(tzinfo=UTC)
    except (ValueError, KeyError, OverflowError, OSError):
        return None
    return None


def _policy_ends(policy: str) -> datetime | None:
    # CloudFront's own alphabet, see "Creating a signed URL using a custom policy" in its developer guide.
    try:
        text = base64.b64decode(policy.translate(str.maketrans("-_~", "+=/")))
    except binascii.Error:
        return None
    match = re.search(rb'"DateLessThan"\s*:\s*\{\s*"AWS:EpochTime"\s*:\s*(\d{1,12})', text)
    return datetime.fromtimestamp(int(match[1]), UTC) if match else None
