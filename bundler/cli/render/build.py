"""What `bundle build` says."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from bundler.cli.render.words import as_json, as_lines, human_size, sizes

if TYPE_CHECKING:
    from bundler.gateway.build import BuildReport


def build_text(report: BuildReport) -> str:
    """Say what was built."""
    index = report.index
    if not report.fresh:
        standing = [f"{report.folder} is this bundle already, nothing to do", f"identity {report.identity}"]
        return as_lines([*standing, *_signed(report)])
    sources = [
        f"{human_size(size)} {f'from {name}' if name else 'was staged already'}" for name, size in report.by_source
    ]
    return as_lines(
        [
            f"built {report.folder}: {sizes(index)}",
            f"  fetched: {', '.join(sources)}",
            f"  identity {report.identity}",
            *_signed(report),
            "  carry the whole folder; on the other side: bundle install " + shlex.quote(index.name),
        ]
    )


def _signed(report: BuildReport) -> list[str]:
    return [f"  signed with {report.signed_with}"] if report.signed_with else []


def build_json(report: BuildReport) -> str:
    """Say what was built."""
    return as_json(
        {
            "bundle": str(report.folder),
            "identity": report.identity,
            "fresh": report.fresh,
            "signed_with": report.signed_with or None,
            "raw_size": report.index.raw_size,
            "stored_size": report.index.stored_size,
            "volumes": [volume.name for volume in report.index.volumes],
            "bytes_from": {name or "staging": size for name, size in report.by_source},
        }
    )
