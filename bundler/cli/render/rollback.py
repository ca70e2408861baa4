"""What `bundle rollback` says."""

from __future__ import annotations

from bundler.cli.render.words import as_json, as_lines
from bundler.target.rollback import RollbackReport


def rollback_text(report: RollbackReport) -> str:
    """Say where the ref was, and where it is."""
    write = report.write
    return as_lines([f"{write.ref} of {report.repo}: {write.before or 'nothing'} -> {write.after}, which is whole"])


def rollback_json(report: RollbackReport) -> str:
    """Say where the ref was, and where it is."""
    return as_json(
        {
            "id": report.repo.name,
            "type": report.repo.type,
            "ref": report.write.ref,
            "before": report.write.before,
            "after": report.write.after,
        }
    )
