"""What long work tells whoever is watching: plain values, without a terminal in mind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """A stretch of work with an amount of its own."""

    LOCK = "lock"
    FETCH = "fetch"
    PACK = "pack"
    VERIFY = "verify"
    INSTALL = "install"


@dataclass(frozen=True, slots=True)
class Started:
    """`phase` begins; `total` is its amount."""

    phase: Phase
    total: int
    """Bytes; repositories for `Phase.LOCK`."""


@dataclass(frozen=True, slots=True)
class Advanced:
    """`count` more of `phase` is done (a delta, not a running sum; negative where work was lost)."""

    phase: Phase
    count: int


@dataclass(frozen=True, slots=True)
class Finished:
    """`phase` is over."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that a person should read now, a line of it."""

    text: str


Event = Started | Advanced | Finished | Noted
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Drop the event."""


class Meter:
    """The progress of one thing that may lose ground, told as deltas."""

    def __init__(self, phase: Phase, on_event: OnEvent) -> None:
        self._phase = phase
        self._on_event = on_event
        self._told = 0

    @property
    def told(self) -> int:
        """How much was done when last told."""
        return self._told

    def at(self, amount: int) -> None:
        """Say how much is done by now."""
        if amount != self._told:
            self._on_event(Advanced(self._phase, amount - self._told))
            self._told = amount
