"""Results as text for people and as JSON for programs. Pure: values in, text out."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.format.index import Index, Snapshot
from bundler.format.inspect import BundleSummary, SnapshotSummary
from bundler.format.reader import Bundle
from bundler.format.verify import VerifyReport
from bundler.lock import Identity, Lock
from bundler.target.hubcache import default_cache_dir
from bundler.target.install import InstallReport

if TYPE_CHECKING:
    from bundler.gateway.build import BuildReport


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


def _json(values: object) -> str:
    # In ASCII, so that it is JSON whatever the locale makes of other characters.
    return json.dumps(values, indent=2)


def _lines(lines: Iterable[str]) -> str:
    return printable("\n".join(lines))


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "100 %"


def _identity_values(identity: Identity) -> dict[str, object]:
    return {"told_by": identity.told_by, "agreed_by": identity.agreed_by, "differed": identity.differed}


# lock


def lock_text(path: Path, lock: Lock) -> str:
    """Say what was pinned."""
    lines = [f"locked {lock.name} in {path}"]
    for repo in lock.repos:
        size = human_size(sum(file.size for file in repo.files))
        lines.append(f"  {repo.request.repo} {repo.request.revision} -> {repo.commit}")
        lines.append(f"    {len(repo.files):,} files, {size}; {repo.identity}")
    return _lines(lines)


def lock_json(path: Path, lock: Lock) -> str:
    """Say what was pinned."""
    repos = [
        {
            "id": repo.request.repo.name,
            "type": repo.request.repo.type,
            "revision": repo.request.revision,
            "commit": repo.commit,
            "files": len(repo.files),
            "size": sum(file.size for file in repo.files),
            **_identity_values(repo.identity),
        }
        for repo in lock.repos
    ]
    return _json({"lock": str(path), "name": lock.name, "repos": repos})


# build


def build_text(report: BuildReport) -> str:
    """Say what was built."""
    index = report.index
    if not report.fresh:
        return _lines([f"{report.folder} is this bundle already, nothing to do", f"identity {report.identity}"])
    sources = [
        f"{human_size(size)} {f'from {name}' if name else 'was staged already'}" for name, size in report.by_source
    ]
    return _lines(
        [
            f"built {report.folder}: {_sizes(index)}",
            f"  fetched: {', '.join(sources)}",
            f"  identity {report.identity}",
            "  carry the whole folder; on the other side: bundle install " + shlex.quote(index.name),
        ]
    )


def _sizes(index: Index) -> str:
    volumes = f"{len(index.volumes)} volume{'' if len(index.volumes) == 1 else 's'}"
    share = _share(index.stored_size, index.raw_size)
    return f"{human_size(index.raw_size)} in {volumes} of {human_size(index.stored_size)} ({share})"


def build_json(report: BuildReport) -> str:
    """Say what was built."""
    return _json(
        {
            "bundle": str(report.folder),
            "identity": report.identity,
            "fresh": report.fresh,
            "raw_size": report.index.raw_size,
            "stored_size": report.index.stored_size,
            "volumes": [volume.name for volume in report.index.volumes],
            "bytes_from": {name or "staging": size for name, size in report.by_source},
        }
    )


# inspect


def inspect_text(summary: BundleSummary, *, files: bool) -> str:
    """Say what is inside, and what an officer asks first."""
    bundle = summary.bundle
    lines = [
        f"bundle {bundle.index.name}: {_sizes(bundle.index)}",
        f"  identity {bundle.identity}",
        f"  {_signed(bundle)}",
        *(f"  MISSING here: {volume.name}" for volume in bundle.absent_volumes()),
    ]
    for snapshot in summary.snapshots:
        lines += _snapshot_lines(snapshot, files=files)
    return _lines(lines)


def _signed(bundle: Bundle) -> str:
    if bundle.signed:
        return "a signature lies beside it: NOT CHECKED"
    return "NOT SIGNED: nobody vouches for it"


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
            **_identity_values(each.snapshot.identity),
            "files": [
                {"path": file.path, "size": file.size, "sha256": file.sha256} for file in each.snapshot.files
            ],
        }
        for each in summary.snapshots
    ]
    return _json(
        {
            "name": bundle.index.name,
            "identity": bundle.identity,
            "signature": "not checked" if bundle.signed else "none",
            "raw_size": bundle.index.raw_size,
            "stored_size": bundle.index.stored_size,
            "volumes": [{"name": volume.name, "size": volume.size} for volume in bundle.index.volumes],
            "missing_volumes": [volume.name for volume in bundle.absent_volumes()],
            "snapshots": snapshots,
        }
    )


# verify


def verify_text(report: VerifyReport) -> str:
    """Say what is wrong, what was proven, and what was not looked at."""
    index = report.bundle.index
    lines = [str(problem) for problem in report.problems]
    lines += [f"not of this bundle, not opened: {name}" for name in report.foreign]
    proven = f"{report.proven:,} of {len(index.blobs):,} blobs proven"
    lines.append(f"{index.name}: {proven}, identity {report.bundle.identity}")
    for snapshot in index.snapshots:
        lines.append(f"  {snapshot.repo} at {snapshot.commit}: {snapshot.identity}")
    lines.append(f"  {_signed(report.bundle)}")
    return _lines(lines)


def verify_json(report: VerifyReport) -> str:
    """Say what is wrong, what was proven, and what was not looked at."""
    problems = [
        {"kind": each.kind, "name": each.name, "part": each.part, "reason": each.reason, "files": each.files}
        for each in report.problems
    ]
    return _json(
        {
            "name": report.bundle.index.name,
            "identity": report.bundle.identity,
            "blobs": len(report.bundle.index.blobs),
            "blobs_proven": report.proven,
            "problems": problems,
            "foreign": report.foreign,
            "signature": "not checked" if report.bundle.signed else "none",
        }
    )


# install


def variables(report: InstallReport, home: Path) -> dict[str, str]:
    """Return the variables that make every library find what was installed, and ask no network for it."""
    found_anyway = report.cache_dir.absolute() == default_cache_dir({}, home)
    place = {} if found_anyway else {"HF_HUB_CACHE": str(report.cache_dir.absolute())}
    return {**place, "HF_HUB_OFFLINE": "1"}


def install_text(report: InstallReport, exports: dict[str, str]) -> str:
    """Say what is there now, and how to use it."""
    lines = [
        f"installed {report.bundle.index.name} into {report.cache_dir}: {human_size(report.written)} written, "
        f"{human_size(report.adopted)} were there and proved right"
    ]
    for snapshot, refs in report.refs:
        lines.append(f"  {snapshot.repo} at {', '.join([*refs, snapshot.commit])}: {snapshot.identity}")
    lines.append(f"  {_signed(report.bundle)}")
    lines.append("Set these where models are used, before Python starts:")
    lines += [f"  export {name}={shlex.quote(value)}" for name, value in exports.items()]
    return _lines(lines)


def install_json(report: InstallReport, exports: dict[str, str]) -> str:
    """Say what is there now, and how to use it."""
    return _json(
        {
            "name": report.bundle.index.name,
            "identity": report.bundle.identity,
            "signature": "not checked" if report.bundle.signed else "none",
            "cache_dir": str(report.cache_dir),
            "written": report.written,
            "adopted": report.adopted,
            "installed": [
                {"id": snapshot.repo.name, "type": snapshot.repo.type, "commit": snapshot.commit, "refs": refs}
                for snapshot, refs in report.refs
            ],
            "variables": exports,
        }
    )


# clean


def clean_text(staging: Path, freed: int) -> str:
    """Say what was freed."""
    return f"freed {human_size(freed)} in {staging}"


def clean_json(staging: Path, freed: int) -> str:
    """Say what was freed."""
    return _json({"staging": str(staging), "freed": freed})
