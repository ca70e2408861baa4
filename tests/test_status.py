"""`bundle status`: what was installed, proven again, and `--repair`. Damage is done to real caches."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import scan_cache_dir

from bundler.target.install import InstallOptions, install_bundle
from tests.bundle_command import bundle, succeed
from tests.bundles import Repo, break_file, flip_bit, noise
from tests.cache_layout import layout_of, wrong_blobs
from tests.installed import A, B, FOLDER, NEW, OLD, bundle_of, digests, installed, moves_in, read_main
from tests.offline_reader import Question, ask_offline

NOBODY = 65534


def status_of(cache: Path, *more: object, ends: int = 0) -> dict[str, Any]:
    """Run `bundle status --json`, see how it ends, and return what it says of the only repository."""
    done = bundle("status", "--cache-dir", cache, "--json", *more)
    assert done.returncode == ends, done.stderr
    [repo] = json.loads(done.stdout)["repos"]
    told: dict[str, Any] = repo
    return told


def states(told: dict[str, Any]) -> dict[str, str]:
    """Return the state of each snapshot."""
    return {each["commit"]: each["state"] for each in told["snapshots"]}


def snapshot_file(cache: Path, path: str, commit: str = A) -> Path:
    """Return where a reader finds a file."""
    return cache / FOLDER / "snapshots" / commit / path


# --- Nothing is wrong


def test_proves_every_snapshot_that_was_installed(tmp_path: Path) -> None:
    """Older commits as well; each with its bundle and time, and the refs that lead to it."""
    cache = installed(tmp_path, OLD, NEW)

    done = succeed("status", "--cache-dir", cache)

    assert f"whole    {A}: 3 files" in done.stdout and f"whole    {B}: 3 files" in done.stdout
    assert "from bundle-0 " in done.stdout and "2026-11-02 10:00 UTC" in done.stdout
    assert f"ref      main: {B}" in done.stdout
    size = sum(len(content) for content in {*OLD.files.values(), *NEW.files.values()})
    assert f"verifying {size / 1000:.0f} kB" in done.stderr


def test_changes_nothing(tmp_path: Path) -> None:
    """Not even a lock is taken, so whoever may only read can ask as well."""
    with tempfile.TemporaryDirectory(prefix="user-") as folder:
        cache = Path(folder, "hub")
        install_bundle((bundle_of(tmp_path, "old", OLD),), cache, workers=2)
        os.chmod(folder, 0o755)
        before = layout_of(cache)

        succeed("status", "--cache-dir", cache, under=as_ordinary_user(), cwd=cache)

        assert layout_of(cache) == before


def as_ordinary_user() -> list[str]:
    """Return the command that runs another one without root's rights."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all"]


def test_looks_at_the_repositories_that_are_named(tmp_path: Path) -> None:
    """Others may be damaged: they were not asked for."""
    cache = installed(tmp_path, OLD)
    install_bundle((bundle_of(tmp_path, "data", replace(OLD, type="dataset")),), cache, workers=2)
    flip_bit(snapshot_file(cache, "config.json"), at=1)

    told = status_of(cache, "datasets/org/name")

    assert (told["type"], states(told)) == ("dataset", {A: "whole"})


def test_says_that_nothing_is_there(tmp_path: Path) -> None:
    """An empty cache is fine, a repository that was named and is not there is not."""
    empty = succeed("status", "--cache-dir", tmp_path / "hub")
    refused = bundle("status", "org/name", "--cache-dir", tmp_path / "hub")

    assert "holds no snapshots" in empty.stdout
    assert refused.returncode == 67 and "org/name" in refused.stderr
    assert not (tmp_path / "hub").exists()


def test_adds_up_what_several_installs_brought(tmp_path: Path) -> None:
    """Bundles with different files of one commit: all of them are proven."""
    first, second = (replace(OLD, commit=A, files={path: OLD.files[path]}) for path in ("config.json", "sub/LICENSE"))
    cache = installed(tmp_path, first, second)
    snapshot_file(cache, "config.json").unlink()

    told = status_of(cache, ends=68)

    [snapshot] = told["snapshots"]
    assert (snapshot["files"], [each["path"] for each in snapshot["bad"]]) == (2, ["config.json"])


# --- Damage, and how it is mended


def blob_behind(link: Path) -> Path:
    """Return the blob that a file of a snapshot is."""
    return link.resolve()


def other_link(path: Path) -> None:
    """Let a file lead to another blob of the same size."""
    wrong = path.resolve().with_name("0" * 64)
    wrong.write_bytes(bytes(path.stat().st_size))
    path.unlink()
    path.symlink_to(f"../../blobs/{wrong.name}")


def pipe_instead(path: Path) -> None:
    """Put a pipe where a file was."""
    path.unlink()
    os.mkfifo(path)


def circle_instead(path: Path) -> None:
    """Put a link where a file was, that leads to itself."""
    path.unlink()
    path.symlink_to(path.name)


DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "flipped": (lambda path: flip_bit(path, at=30_000), "damaged", "other bytes"),
    "cut": (lambda path: os.truncate(path, 69_999), "damaged", "69,999 bytes, not 70,000"),
    "grown": (lambda path: os.truncate(path, 70_001), "damaged", "70,001 bytes, not 70,000"),
    "blob gone": (lambda path: blob_behind(path).unlink(), "missing", "leads to nothing"),
    "link gone": (Path.unlink, "missing", "is not there"),
    "other link": (other_link, "damaged", "other bytes"),
    "circle": (circle_instead, "damaged", "cannot be read"),
    "pipe": (pipe_instead, "damaged", "is not a file"),
    "snapshot gone": (lambda path: shutil.rmtree(path.parent), "missing", "is not there"),
}


@pytest.mark.parametrize(("harm", "state", "reason"), DAMAGE.values(), ids=DAMAGE)
def test_names_what_is_wrong_and_mends_it(
    tmp_path: Path, harm: Callable[[Path], object], state: str, reason: str
) -> None:
    """The file, what became of it, an exit code; and after `--repair` a reader gets what was installed."""
    cache = installed(tmp_path, OLD)
    harm(snapshot_file(cache, "model.safetensors"))

    told = bundle("status", "--cache-dir", cache)
    as_json = status_of(cache, ends=68)
    mended = status_of(cache, "--repair", tmp_path / "bundles/bundle-0")

    assert told.returncode == 68
    assert f"{state} `model.safetensors`: " in told.stdout and reason in told.stdout
    assert A in told.stderr and "--repair" in told.stderr
    assert states(as_json) == {A: state}
    assert states(mended) == {A: "whole"}
    assert read_main(cache) == digests(OLD)


def test_a_shared_blob_harms_all_its_snapshots(tmp_path: Path) -> None:
    """It is read once, named with each, and mended once."""
    cache = installed(tmp_path, OLD, NEW)
    flip_bit(snapshot_file(cache, "sub/LICENSE"), at=0)

    told = status_of(cache, ends=68)

    assert states(told) == {A: "damaged", B: "damaged"}
    assert states(status_of(cache, "--repair", tmp_path / "bundles/bundle-1")) == {A: "whole", B: "whole"}
    assert wrong_blobs(cache) == []


def test_mends_from_any_bundle_that_has_the_bytes(tmp_path: Path) -> None:
    """Of another repository, under another name: the receipt proves them."""
    cache = installed(tmp_path, OLD)
    flip_bit(snapshot_file(cache, "model.safetensors"), at=5)
    other = Repo(id="some/other", files={"copy.bin": OLD.files["model.safetensors"], "more.bin": noise("more", 3000)})

    mended = status_of(cache, "--repair", bundle_of(tmp_path, "other", other))

    assert states(mended) == {A: "whole"}
    assert read_main(cache) == digests(OLD)
    assert os.listdir(cache) == [FOLDER]


def test_mends_what_it_can_and_tells_the_rest(tmp_path: Path) -> None:
    """A bundle that has one file of two mends that one, and the end is not a good one."""
    cache = installed(tmp_path, OLD)
    for path in ("model.safetensors", "config.json"):
        blob_behind(snapshot_file(cache, path)).unlink()
    some = replace(OLD, id="some/other", files={"a.json": OLD.files["config.json"]})

    told = status_of(cache, "--repair", bundle_of(tmp_path, "some", some), ends=68)

    assert [each["path"] for each in told["snapshots"][0]["bad"]] == ["model.safetensors"]


def test_a_snapshot_that_is_gone_does_not_come_back_half(tmp_path: Path) -> None:
    """Where the bundle has a part of it only, nothing appears."""
    cache = installed(tmp_path, OLD)
    shutil.rmtree(cache / FOLDER / "snapshots" / A)
    shutil.rmtree(cache / FOLDER / "blobs")
    some = replace(OLD, id="some/other", files={"a.json": OLD.files["config.json"]})

    told = status_of(cache, "--repair", bundle_of(tmp_path, "some", some), ends=68)

    assert states(told) == {A: "missing"}
    assert not (cache / FOLDER / "snapshots" / A).exists()


def test_a_damaged_bundle_mends_nothing(tmp_path: Path) -> None:
    """Volume and file are named, and what was whole in the cache stays."""
    cache = installed(tmp_path, OLD)
    blob_behind(snapshot_file(cache, "model.safetensors")).unlink()
    volume = break_file(tmp_path / "bundles/bundle-0", "model.safetensors")

    failed = bundle("status", "--cache-dir", cache, "--repair", tmp_path / "bundles/bundle-0")

    assert failed.returncode == 40
    assert volume in failed.stderr and "model.safetensors" in failed.stderr
    assert wrong_blobs(cache) == []


@pytest.mark.parametrize("symlinks", [True, False], ids=["links", "no links"])
def test_mends_snapshots_as_they_were_made(tmp_path: Path, symlinks: bool) -> None:
    """Where files are no symbolic links, those that are mended are none; modes are those of the rest."""
    cache = tmp_path / "hub"
    install_bundle((bundle_of(tmp_path, "old", OLD),), cache, InstallOptions(symlinks=symlinks), workers=2)
    before = layout_of(cache)
    own = f"{FOLDER}/.bundler/"
    flip_bit(snapshot_file(cache, "model.safetensors"), at=7)
    snapshot_file(cache, "sub/LICENSE").unlink()

    succeed("status", "--cache-dir", cache, "--repair", tmp_path / "bundles/old")

    after = layout_of(cache)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert {path for path in changed if not path.startswith(own)} == set()
    assert snapshot_file(cache, "sub/LICENSE").is_symlink() == symlinks


def test_repair_leaves_alone_what_is_whole(tmp_path: Path) -> None:
    """Without anything to mend nothing is written, whatever the bundle holds."""
    cache = installed(tmp_path, OLD)
    before = layout_of(cache)

    succeed("status", "--cache-dir", cache, "--repair", bundle_of(tmp_path, "new", NEW))

    assert layout_of(cache) == before


# --- Refs


def test_tells_of_a_ref_that_somebody_moved(tmp_path: Path) -> None:
    """Where it is, where it was left and when; all files are whole, so the exit code is one of its own."""
    cache = installed(tmp_path, OLD, NEW)
    (cache / FOLDER / "refs/main").write_text(A)

    told = bundle("status", "--cache-dir", cache)

    assert told.returncode == 69
    assert f"MOVED    main: is at {A}, was left at {B} (2026-11-03 10:00 UTC)" in told.stdout
    assert "bundle rollback" in told.stderr
    assert states(status_of(cache, ends=69)) == {A: "whole", B: "whole"}


@pytest.mark.parametrize("content", [None, b"", f"{A}\n".encode(), b"\xff" * 40],
                         ids=["gone", "empty", "newline", "garbage"])
@pytest.mark.parametrize("ref", ["main", A])
def test_a_ref_that_resolves_to_nothing_is_mended(tmp_path: Path, ref: str, content: bytes | None) -> None:
    """The refs of installs, and those of the commits' own names, which keep snapshots from being pruned."""
    cache = installed(tmp_path, OLD)
    path = cache / FOLDER / "refs" / ref
    path.unlink()
    if content is not None:
        path.write_bytes(content)

    told = bundle("status", "--cache-dir", cache)
    succeed("status", "--cache-dir", cache, "--repair", tmp_path / "bundles/bundle-0")

    assert told.returncode == 68 and f"MISSING  {ref}" in told.stdout
    assert path.read_text() == A
    assert read_main(cache) == digests(OLD)
    assert moves_in(cache) == [("main", None, A)]


# --- What is not ours, what was removed, what cannot be read


def test_lists_what_others_installed_as_unknown(tmp_path: Path) -> None:
    """A snapshot without a receipt is neither checked nor called whole."""
    cache = installed(tmp_path, OLD)
    for folder in (FOLDER, "models--org--other"):
        (cache / folder / "snapshots" / ("1" * 40)).mkdir(parents=True)

    done = succeed("status", "--cache-dir", cache)

    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines.count(f"unknown  {'1' * 40}: not installed by bundle, not checked") == 2
    assert "org/other" in lines


def test_a_snapshot_that_the_client_removed_is_no_damage(tmp_path: Path) -> None:
    """`hf cache rm` takes the refs as well: that was meant, and the same bundle may bring it back."""
    cache = installed(tmp_path, OLD, NEW)
    scan_cache_dir(cache).delete_revisions(B).execute()

    told = status_of(cache)

    assert states(told) == {A: "whole", B: "removed"}
    succeed("install", tmp_path / "bundles/bundle-1", "--cache-dir", cache)
    assert states(status_of(cache)) == {A: "whole", B: "whole"}


def test_pruning_leaves_nothing_to_complain_of(tmp_path: Path) -> None:
    """The real client's `prune` spares every commit that was installed."""
    cache = installed(tmp_path, OLD, NEW)
    hf = str(Path(sys.executable).with_name("hf"))
    prune = [hf, "cache", "prune", "--yes", "--cache-dir", str(cache)]

    subprocess.run(prune, check=True, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})

    assert states(status_of(cache)) == {A: "whole", B: "whole"}


@pytest.mark.parametrize("garbage", [b"", b"{}", b"\x00" * 1000, b'{"receipt_version": 2}'])
def test_a_receipt_that_cannot_be_read_is_told(tmp_path: Path, garbage: bytes) -> None:
    """The others are gone by, and the end is not a good one; its snapshot is unknown now."""
    cache = installed(tmp_path, OLD, NEW)
    spoiled = sorted((cache / FOLDER / ".bundler/receipts").iterdir())[0]
    spoiled.write_bytes(garbage)

    told = status_of(cache, ends=66)

    assert states(told) == {B: "whole"}
    assert told["unknown"] == [A]
    assert spoiled.name in told["unreadable_receipts"][0]


def test_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    """What a path holds is spelled out."""
    tricky = Repo(id="org/name", files={"caf\u00e9 \u202etxt.exe": b"x", "b.json": b"{}"})
    cache = installed(tmp_path, tricky)
    for path in (cache / FOLDER / "snapshots").glob("*/caf*"):
        path.unlink()

    told = bundle("status", "--cache-dir", cache)

    assert "caf\u00e9 \\u202etxt.exe" in told.stdout


def test_other_files_of_a_snapshot_are_nobody_s_business(tmp_path: Path) -> None:
    """What users put beside the installed files is not ours to judge."""
    cache = installed(tmp_path, OLD)
    (cache / FOLDER / "snapshots" / A / "notes.txt").write_text("mine")

    assert states(status_of(cache)) == {A: "whole"}
    assert ask_offline(cache, [Question("org/name", A)]).warnings == []
