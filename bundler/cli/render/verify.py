"""What `bundle verify` says."""

from __future__ import annotations

from bundler.cli.render.words import as_json, as_lines, identity_values, problem_values, verdict_values
from bundler.format.verify import VerifyReport


def verify_text(report: VerifyReport) -> str:
    """Say what is wrong, what was proven, and what was not looked at."""
    index = report.bundle.index
    lines = [str(problem) for problem in report.problems]
    lines += [f"not of this bundle, not opened: {name}" for name in report.foreign]
    proven = f"{report.proven:,} of {len(index.blobs):,} blobs proven"
    lines.append(f"{index.name}: {proven}, identity {report.bundle.identity}")
    for snapshot in index.snapshots:
        lines.append(f"  {snapshot.repo} at {snapshot.commit}: {snapshot.identity}")
    lines.append(f"  {report.bundle.verdict}")
    lines += [f"  REFUSED: {text}" for text in report.refusals]
    return as_lines(lines)


def verify_json(report: VerifyReport) -> str:
    """Say what is wrong, what was proven, and what was not looked at."""
    return as_json(
        {
            "name": report.bundle.index.name,
            "identity": report.bundle.identity,
            "blobs": len(report.bundle.index.blobs),
            "blobs_proven": report.proven,
            "problems": [problem_values(problem) for problem in report.problems],
            "foreign": report.foreign,
            "signature": verdict_values(report.bundle.verdict),
            "refusals": report.refusals,
            "snapshots": [
                {
                    "id": snapshot.repo.name,
                    "type": snapshot.repo.type,
                    "commit": snapshot.commit,
                    "refs": snapshot.refs,
                    **identity_values(snapshot.identity),
                }
                for snapshot in report.bundle.index.snapshots
            ],
        }
    )
