"""What `bundle sign` says."""

from __future__ import annotations

from bundler.cli.render.words import as_json, as_lines
from bundler.format.sign import SignReport


def sign_text(report: SignReport) -> str:
    """Say what was signed, and with which key."""
    return as_lines(
        [
            f"signed {report.bundle.index.name}, identity {report.bundle.identity}",
            f"  with {report.key}",
            *(f"  in {path}" for path in report.signatures),
        ]
    )


def sign_json(report: SignReport) -> str:
    """Say what was signed, and with which key."""
    return as_json(
        {
            "name": report.bundle.index.name,
            "identity": report.bundle.identity,
            "key": report.key,
            "signatures": [str(path) for path in report.signatures],
        }
    )
