"""What `bundle install` says."""

from __future__ import annotations

import shlex
from pathlib import Path

from bundler.cli.render.words import as_json, as_lines, human_size, problem_values, verdict_values
from bundler.target.hubcache import default_cache_dir
from bundler.target.install import InstallReport


def variables(report: InstallReport, home: Path) -> dict[str, str]:
    """Return the variables that make every library find what was installed, and ask no network for it."""
    found_anyway = report.cache_dir.absolute() == default_cache_dir({}, home)
    place = {} if found_anyway else {"HF_HUB_CACHE": str(report.cache_dir.absolute())}
    return {**place, "HF_HUB_OFFLINE": "1"}


def install_text(report: InstallReport, exports: dict[str, str]) -> str:
    """Say what is there now, how to use it, and what is still to come."""
    index = report.bundle.index
    lines = [str(problem) for problem in report.problems]
    done = f"installed {index.name} into" if report.refs else f"kept what there is of {index.name} in"
    lines.append(
        f"{done} {report.cache_dir}: "
        f"{human_size(report.written)} written, {human_size(report.adopted)} were there and proved right"
    )
    for snapshot, refs in report.refs:
        lines.append(f"  {snapshot.repo} at {', '.join([*refs, snapshot.commit])}: {snapshot.identity}")
    lines.append(f"  {report.bundle.verdict}")
    lines += _still_to_come(report)
    if report.refs:
        lines.append("Set these where models are used, before Python starts:")
        lines += [f"  export {name}={shlex.quote(value)}" for name, value in exports.items()]
    return as_lines(lines)


def _still_to_come(report: InstallReport) -> list[str]:
    lines = [f"NOT INSTALLED: {snapshot.repo} at {snapshot.commit}" for snapshot in report.waiting]
    if report.to_carry:
        size = human_size(sum(volume.size for volume in report.to_carry))
        lines.append(f"Still to be carried here, {size}:")
        lines += [f"  {volume.name} ({volume.size:,} bytes)" for volume in report.to_carry]
    return lines


def install_json(report: InstallReport, exports: dict[str, str]) -> str:
    """Say what is there now, and how to use it."""
    return as_json(
        {
            "name": report.bundle.index.name,
            "identity": report.bundle.identity,
            "signature": verdict_values(report.bundle.verdict),
            "cache_dir": str(report.cache_dir),
            "written": report.written,
            "adopted": report.adopted,
            "installed": [
                {"id": snapshot.repo.name, "type": snapshot.repo.type, "commit": snapshot.commit, "refs": refs}
                for snapshot, refs in report.refs
            ],
            "waiting": [
                {"id": snapshot.repo.name, "type": snapshot.repo.type, "commit": snapshot.commit}
                for snapshot in report.waiting
            ],
            "problems": [problem_values(problem) for problem in report.problems],
            "to_carry": [{"name": volume.name, "size": volume.size} for volume in report.to_carry],
            "variables": exports,
        }
    )
