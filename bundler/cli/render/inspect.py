"""What `bundle inspect` says."""

from __future__ import annotations

from bundler.cli.render.words import as_json, as_lines, human_size, identity_values, sizes, verdict_values
from bundler.format.index import Snapshot
from bundler.format.inspect import BundleSummary, SnapshotSummary


def inspect_text(summary: BundleSummary, *, files: bool) -> str:
    """Say what is inside, and what an officer asks first."""
    bundle = summary.bundle
    lines = [
        f"bundle {bundle.index.name}: {sizes(bundle.index)}",
        f"  identity {bundle.identity}",
        f"  {bundle.verdict}",
        *(f"  REFUSED: {text}" for text in summary.refusals),
        *(f"  MISSING here: {volume.name}" for volume in bundle.absent_volumes()),
    ]
    for snapshot in summary.snapshots:
        lines += _snapshot_lines(snapshot, files=files)
    return as_lines(lines)


def _snapshot_lines(summary: SnapshotSummary, *, files: bool) -> list[str]:
    snapshot = summary.snapshot
    lines = [
        f"{snapshot.repo.type} {snapshot.repo.name}",
        f"  commit {snapshot.commit}{_as_refs(snapshot)}",
        f"  identity {snapshot.identity}",
        f"  {len(snapshot.files):,} files, {human_size(summary.size)}",
        f"  programs: {_some(summary.code)}",
        f"  can run code when loaded (pickles and the like): {_some(summary.pickles)}",
    ]
    if files:
        lines += [f"    {file.sha256} {file.size:>15,} {file.path}" for file in snapshot.files]
    return lines


def _as_refs(snapshot: Snapshot) -> str:
    return f" ({', '.join(snapshot.refs)})" if snapshot.refs else ""


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more if names else "none"


def inspect_json(summary: BundleSummary) -> str:
    """Say all that the index says of the content."""
    bundle = summary.bundle
    snapshots = [
        {
            "id": each.snapshot.repo.name,
            "type": each.snapshot.repo.type,
            "commit": each.snapshot.commit,
            "refs": each.snapshot.refs,
            "size": each.size,
            "programs": each.code,
            "pickles": each.pickles,
            **identity_values(each.snapshot.identity),
            "files": [
                {"path": file.path, "size": file.size, "sha256": file.sha256} for file in each.snapshot.files
            ],
        }
        for each in summary.snapshots
    ]
    return as_json(
        {
            "name": bundle.index.name,
            "identity": bundle.identity,
            "signature": verdict_values(bundle.verdict),
            "refusals": summary.refusals,
            "raw_size": bundle.index.raw_size,
            "stored_size": bundle.index.stored_size,
            "volumes": [{"name": volume.name, "size": volume.size} for volume in bundle.index.volumes],
            "missing_volumes": [volume.name for volume in bundle.absent_volumes()],
            "snapshots": snapshots,
        }
    )
