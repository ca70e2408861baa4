"""`bundle inventory`: what a server holds, and nothing that it only believes to hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from bundler.digest import Digest
from bundler.target.install import install_bundle
from tests.bundle_command import bundle, succeed
from tests.bundles import flip_bit
from tests.installed import A, B, FOLDER, NEW, OLD, bundle_of, installed


def inventory_of(cache: Path, output: Path) -> dict[str, Any]:
    """Run `bundle inventory` and read what it writes."""
    succeed("inventory", "--cache-dir", cache, "-o", output)
    values: dict[str, Any] = json.loads(output.read_bytes())
    return values


def blobs_of(*contents: bytes) -> list[dict[str, object]]:
    """Return blobs as an inventory lists them."""
    return sorted(
        ({"sha256": str(Digest.of(content)), "size": len(content)} for content in set(contents)),
        key=lambda blob: str(blob["sha256"]))


def test_lists_snapshots_refs_and_blobs(tmp_path: Path) -> None:
    """Each commit with its refs, bundle and files; each content once, whatever the number of its files."""
    cache = installed(tmp_path, OLD, NEW)
    install_bundle((bundle_of(tmp_path, "data", replace(OLD, type="dataset")),), cache, workers=2)

    held = inventory_of(cache, tmp_path / "inventory.json")

    assert held["inventory_version"] == 1
    told = {(each["type"], each["id"], each["commit"]): each["refs"] for each in held["snapshots"]}
    assert told == {
        ("dataset", "org/name", A): ["main"], ("model", "org/name", A): [], ("model", "org/name", B): ["main"]}
    [newest] = [each for each in held["snapshots"] if each["commit"] == B]
    assert newest["bundle"] == Digest.of((tmp_path / "bundles/bundle-1/index.json").read_bytes())
    assert {file["path"]: file["sha256"] for file in newest["files"]} == {
        path: Digest.of(content) for path, content in NEW.files.items()}
    assert held["blobs"] == blobs_of(*OLD.files.values(), *NEW.files.values())


def test_leaves_out_what_is_not_whole(tmp_path: Path) -> None:
    """A blob that is wrong is not held, nor is its snapshot; the others of it are, and it is said."""
    cache = installed(tmp_path, OLD, NEW)
    flip_bit(cache / FOLDER / "snapshots" / A / "model.safetensors", at=5)

    done = succeed("inventory", "--cache-dir", cache, "-o", tmp_path / "inventory.json")

    held = json.loads((tmp_path / "inventory.json").read_bytes())
    assert [each["commit"] for each in held["snapshots"]] == [B]
    assert held["blobs"] == blobs_of(OLD.files["config.json"], *NEW.files.values())
    assert f"left out, damaged: org/name at {A}" in done.stdout


def test_leaves_out_what_nobody_proved(tmp_path: Path) -> None:
    """A snapshot without a receipt is not listed, and that is said."""
    cache = installed(tmp_path, OLD)
    (cache / "models--org--other" / "snapshots" / ("1" * 40)).mkdir(parents=True)

    done = succeed("inventory", "--cache-dir", cache, "-o", tmp_path / "inventory.json")

    assert "1" * 40 not in (tmp_path / "inventory.json").read_text()
    assert "not installed by bundle: org/other" in done.stdout


def test_says_the_same_of_the_same(tmp_path: Path) -> None:
    """But for the time nothing differs from run to run, and `--json` prints what the file holds."""
    cache = installed(tmp_path, OLD, NEW)

    first = inventory_of(cache, tmp_path / "one.json")
    printed = succeed("inventory", "--cache-dir", cache, "-o", tmp_path / "two.json", "--json").stdout

    second = json.loads(printed)
    assert second == json.loads((tmp_path / "two.json").read_bytes())
    assert {**first, "made_at": ""} == {**second, "made_at": ""}


def test_an_empty_cache_holds_nothing(tmp_path: Path) -> None:
    """A cache that is not even there is not made."""
    held = inventory_of(tmp_path / "hub", tmp_path / "inventory.json")

    assert (held["snapshots"], held["blobs"]) == ([], [])
    assert not (tmp_path / "hub").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """No traceback, and the place is told."""
    refused = bundle("inventory", "--cache-dir", tmp_path, "-o", tmp_path / "nowhere" / "inventory.json")

    assert refused.returncode == 62
    assert "nowhere" in refused.stderr and "Traceback" not in refused.stderr
