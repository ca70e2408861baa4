"""What this server holds, proven, as a document that can be carried back to the gateway."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bundler.digest import Digest
from bundler.format.index import sha256_of
from bundler.fsio import atomic_write, explain_os_errors
from bundler.lock import file_values
from bundler.progress import OnEvent, ignore
from bundler.target.receipt import Clock, utc_now
from bundler.target.status import RepoStatus, SnapshotStatus, State, StatusReport, cache_status

INVENTORY_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What a cache holds."""

    made_at: datetime
    status: StatusReport

    @property
    def snapshots(self) -> tuple[tuple[RepoStatus, SnapshotStatus], ...]:
        """Those that are whole."""
        return tuple(
            (repo, each) for repo in self.status.repos for each in repo.snapshots if each.state is State.WHOLE
        )

    @property
    def blobs(self) -> tuple[tuple[Digest, int], ...]:
        """Digest and size of every file that was proven, those of harmed snapshots as well, each once; sorted."""
        proven = set()
        for repo in self.status.repos:
            for snapshot in repo.snapshots:
                bad = {each.file for each in snapshot.bad}
                good = snapshot.files if snapshot.state is not State.REMOVED else ()
                proven |= {(sha256_of(file), file.size) for file in good if file not in bad}
        return tuple(sorted(proven))


def write_inventory(
    cache_dir: Path, output: Path, *, workers: int, clock: Clock = utc_now, on_event: OnEvent = ignore
) -> Inventory:
    """Hash all that was installed, and write down to `output` what is there and right.

    Snapshots of which no receipt tells are left out: nobody proved them.
    """
    status = cache_status(cache_dir, workers=workers, on_event=on_event)
    inventory = Inventory(made_at=clock(), status=status)
    with explain_os_errors("writing the inventory"), atomic_write(output, staging=output.parent) as stream:
        stream.write(inventory_text(inventory))
    return inventory


def inventory_text(inventory: Inventory) -> bytes:
    """Spell an inventory."""
    values = {
        "inventory_version": INVENTORY_VERSION,
        "made_at": inventory.made_at.isoformat(timespec="seconds"),
        "snapshots": [_snapshot_values(repo, each) for repo, each in inventory.snapshots],
        "blobs": [{"sha256": sha256, "size": size} for sha256, size in inventory.blobs],
    }
    return json.dumps(values, ensure_ascii=False, indent=1).encode() + b"\n"


def _snapshot_values(repo: RepoStatus, snapshot: SnapshotStatus) -> dict[str, object]:
    origin = snapshot.receipt.bundle
    return {
        "id": repo.repo.name,
        "type": repo.repo.type,
        "commit": snapshot.commit,
        "refs": [each.ref for each in repo.refs if each.found == snapshot.commit and not each.is_pin],
        "bundle": origin.identity if origin else None,
        "files": [file_values(file) for file in snapshot.files],
    }
