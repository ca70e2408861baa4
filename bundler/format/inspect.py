"""What is in a bundle, for the officer who must approve it. Reads the index, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundler.format.index import Snapshot
from bundler.format.policy import Policies
from bundler.format.reader import Bundle, open_bundle

_RUNS_CODE = (
    *(".py", ".pyc", ".pyd", ".ipynb", ".whl", ".sh", ".bat", ".cmd", ".ps1"),
    *(".so", ".dll", ".dylib", ".exe", ".js", ".wasm", ".jar"),
)
_PICKLES = (
    *(".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".dill", ".joblib", ".npy", ".npz", ".pdparams", ".nemo"),
    *(".h5", ".keras", ".msgpack"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSummary:
    """A snapshot in numbers, and what in it can run."""

    snapshot: Snapshot

    size: int
    """Bytes of its files."""

    code: tuple[str, ...]
    """Files that are programs or hold them."""

    pickles: tuple[str, ...]
    """Files of kinds that may run code when they are loaded, such as Python pickles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSummary:
    """A bundle as its index tells it. Nothing of its volumes was read."""

    bundle: Bundle
    snapshots: tuple[SnapshotSummary, ...]

    refusals: tuple[str, ...]
    """What the policies ask for and the bundle lacks."""


def inspect_bundle(folders: tuple[Path, ...], policies: Policies = Policies()) -> BundleSummary:
    """Read the index of a bundle, and its signature, and sum it up. Raises what `open_bundle` raises."""
    bundle = open_bundle(folders, policies.keyring)
    return BundleSummary(
        bundle=bundle,
        snapshots=tuple(_summary(snapshot) for snapshot in bundle.index.snapshots),
        refusals=policies.refusals(bundle),
    )


def _summary(snapshot: Snapshot) -> SnapshotSummary:
    return SnapshotSummary(
        snapshot=snapshot,
        size=sum(file.size for file in snapshot.files),
        code=_with_endings(snapshot, _RUNS_CODE),
        pickles=_with_endings(snapshot, _PICKLES),
    )


def _with_endings(snapshot: Snapshot, endings: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(file.path for file in snapshot.files if file.path.lower().endswith(endings))
