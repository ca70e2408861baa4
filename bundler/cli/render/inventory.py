"""What `bundle inventory` says."""

from __future__ import annotations

from pathlib import Path

from bundler.cli.render.words import as_lines, human_size
from bundler.target.inventory import Inventory


def inventory_summary(inventory: Inventory, output: Path) -> str:
    """Say what was written down, and what was left out."""
    size = human_size(sum(size for _, size in inventory.blobs))
    lines = [f"{output}: {len(inventory.snapshots):,} snapshots, {len(inventory.blobs):,} blobs of {size}, all proven"]
    for repo, snapshot in inventory.status.harmed:
        lines.append(f"  left out, {snapshot.state}: {repo.repo} at {snapshot.commit}")
    for repo in inventory.status.repos:
        lines += [f"  left out, not installed by bundle: {repo.repo} at {name}" for name in repo.unknown]
    return as_lines(lines)
