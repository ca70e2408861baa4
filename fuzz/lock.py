"""The lock: anything is a lock or refused, and a lock comes back from its spelling."""

from __future__ import annotations

from bundler.errors import LockError
from bundler.lock import lock_text, parse_lock


def check(content: bytes) -> bool:
    """Feed the reader; return whether it was a lock."""
    try:
        lock = parse_lock(content)
    except LockError:
        return False
    assert parse_lock(lock_text(lock)) == lock
    return True
