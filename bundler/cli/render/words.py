"""What the results of several verbs have in common: sizes, names, signatures."""

from __future__ import annotations

import json
from collections.abc import Iterable

from bundler.format.index import Index
from bundler.format.problem import Problem
from bundler.format.verdict import Verdict
from bundler.lock import Identity


def human_size(count: float) -> str:
    """Spell a number of bytes with a decimal unit, three digits of it."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def printable(text: str) -> str:
    """Spell out what could steer a terminal, or hide or turn round what stands in it: names come from outside."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def as_json(values: object) -> str:
    """Spell a result for programs."""
    # In ASCII, so that it is JSON whatever the locale makes of other characters.
    return json.dumps(values, indent=2)


def as_lines(lines: Iterable[str]) -> str:
    """Put lines together for a terminal."""
    return printable("\n".join(lines))


def _share(part: int, whole: int) -> str:
    """Spell a part of a whole in per cent."""
    return f"{100 * part / whole:.1f} %" if whole else "100 %"


def identity_values(identity: Identity) -> dict[str, object]:
    """Return who told a snapshot's identity, for programs."""
    return {"told_by": identity.told_by, "agreed_by": identity.agreed_by, "differed": identity.differed}


def sizes(index: Index) -> str:
    """Spell what an index holds: raw, and in its volumes."""
    volumes = f"{len(index.volumes)} volume{'' if len(index.volumes) == 1 else 's'}"
    share = _share(index.stored_size, index.raw_size)
    return f"{human_size(index.raw_size)} in {volumes} of {human_size(index.stored_size)} ({share})"


def problem_values(problem: Problem) -> dict[str, object]:
    """Return what is wrong with a bundle, for programs."""
    return {
        "kind": problem.kind,
        "name": problem.name,
        "part": problem.part,
        "reason": problem.reason,
        "files": problem.files,
    }


def verdict_values(verdict: Verdict) -> dict[str, object]:
    """Return what is known of a signature, for programs."""
    return {
        "outcome": verdict.outcome,
        "principals": verdict.principals,
        "key": verdict.key,
        "detail": verdict.detail,
        "signers": str(verdict.signers) if verdict.signers else None,
        "checked_at": verdict.checked_at.isoformat(timespec="seconds") if verdict.checked_at else None,
    }
