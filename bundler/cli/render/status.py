"""What `bundle status` says."""

from __future__ import annotations

from bundler.cli.render.words import as_json, as_lines, human_size
from bundler.target.receipt import Receipt
from bundler.target.status import RefStatus, RepoStatus, SnapshotStatus, StatusReport

_BAD_FILES_SHOWN = 20


def status_text(report: StatusReport) -> str:
    """Say of each snapshot whether it is whole, and what of it is not."""
    if not any(repo.snapshots or repo.unknown for repo in report.repos):
        return as_lines([f"{report.cache_dir} holds no snapshots"])
    return as_lines(line for repo in report.repos for line in _repo_lines(repo))


def _repo_lines(repo: RepoStatus) -> list[str]:
    lines = [str(repo.repo)]
    for snapshot in repo.snapshots:
        lines += _snapshot_lines(snapshot)
    lines += [line for ref in repo.refs if (line := _ref_line(ref))]
    lines += [f"  unknown  {name}: not installed by bundle, not checked" for name in repo.unknown]
    return lines + [f"  RECEIPT  {reason}" for reason in repo.unreadable]


def _snapshot_lines(snapshot: SnapshotStatus) -> list[str]:
    size = human_size(sum(file.size for file in snapshot.files))
    state = f"{snapshot.state:<8}" if not snapshot.bad else f"{snapshot.state.upper():<8}"
    lines = [f"  {state} {snapshot.commit}: {len(snapshot.files):,} files, {size}, {_source(snapshot.receipt)}"]
    lines += [f"    {each.harm} `{each.file.path}`: {each.reason}" for each in snapshot.bad[:_BAD_FILES_SHOWN]]
    if (more := len(snapshot.bad) - _BAD_FILES_SHOWN) > 0:
        lines.append(f"    and {more:,} more files")
    return lines


def _source(receipt: Receipt) -> str:
    origin = receipt.bundle
    if origin is None:
        return _when(receipt)
    vouched = f"signed by {origin.signed_by}" if origin.signed_by else "signed by nobody known"
    return f"from {origin.name} {origin.identity[:12]}, {vouched}, {_when(receipt)}"


def _when(receipt: Receipt) -> str:
    return f"{receipt.at:%Y-%m-%d %H:%M} UTC"


def _ref_line(ref: RefStatus) -> str:
    """Say where a ref is; a commit's own name is worth no line while it is right."""
    if ref.found is None:
        return f"  MISSING  {ref.ref}: resolves to nothing, was left at {ref.told} ({_when(ref.receipt)})"
    if ref.found != ref.told:
        left = f"was left at {ref.told} ({_when(ref.receipt)})"
        return f"  MOVED    {ref.ref}: is at {ref.found}, {left}; no receipt tells by whom it was moved"
    return "" if ref.is_pin else f"  ref      {ref.ref}: {ref.found}"


def status_json(report: StatusReport) -> str:
    """Say all of it."""
    return as_json({"cache_dir": str(report.cache_dir), "repos": [_repo_values(repo) for repo in report.repos]})


def _repo_values(repo: RepoStatus) -> dict[str, object]:
    return {
        "id": repo.repo.name,
        "type": repo.repo.type,
        "snapshots": [_snapshot_values(snapshot) for snapshot in repo.snapshots],
        "refs": [
            {"ref": each.ref, "found": each.found, "told": each.told, "at": each.receipt.at.isoformat()}
            for each in repo.refs
        ],
        "unknown": repo.unknown,
        "unreadable_receipts": repo.unreadable,
    }


def _snapshot_values(snapshot: SnapshotStatus) -> dict[str, object]:
    origin = snapshot.receipt.bundle
    return {
        "commit": snapshot.commit,
        "state": snapshot.state,
        "bundle": origin.name if origin else None,
        "identity": origin.identity if origin else None,
        "signed_by": origin.signed_by if origin else None,
        "at": snapshot.receipt.at.isoformat(),
        "files": len(snapshot.files),
        "size": sum(file.size for file in snapshot.files),
        "bad": [{"path": each.file.path, "harm": each.harm, "reason": each.reason} for each in snapshot.bad],
    }
