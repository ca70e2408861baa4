"""What `bundle clean` says."""

from __future__ import annotations

from pathlib import Path

from bundler.cli.render.words import as_json, human_size


def clean_text(staging: Path, freed: int) -> str:
    """Say what was freed."""
    return f"freed {human_size(freed)} in {staging}"


def clean_json(staging: Path, freed: int) -> str:
    """Say what was freed."""
    return as_json({"staging": str(staging), "freed": freed})
