"""What may be wrong with a bundle, told so that somebody can bring the right file again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bundler.errors import DamagedBundleError
from bundler.format.reader import name_some


class Kind(StrEnum):
    """What is wrong."""

    DAMAGED = "damaged"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a bundle."""

    kind: Kind

    name: str
    """The file of the bundle: a volume, or one beside them."""

    reason: str

    part: int | None = None
    """The part, if it is about one."""

    files: tuple[str, ...] = ()
    """The files of snapshots that are lost with it."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"

    @property
    def what(self) -> str:
        """Which file and part it is, why, and what is lost with it."""
        where = self.name if self.part is None else f"{self.name}, part {self.part}"
        lost = f"; it is of {name_some(self.files)}" if self.files else ""
        return f"{where}: {self.reason}{lost}"

    def error(self) -> DamagedBundleError:
        """Return it as the reason to stop."""
        return DamagedBundleError(
            self.what, hint=f"copy {self.name} from the gateway again; `bundle verify` lists all damage"
        )
