"""Receipts: what they tell, that no cache tool minds them, and which bundles they keep out."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import scan_cache_dir

from bundler.digest import Digest
from bundler.errors import ReceiptError
from bundler.names import BundleName, RefName, RepoId
from bundler.progress import ignore
from bundler.target.hubcache import RepoFolder
from bundler.target.install import install_bundle
from bundler.target.receipt import InstalledSnapshot, Origin, Receipt, RefWrite, parse_receipt, receipt_text
from bundler.target.refs import move_refs
from tests.bundle_command import bundle, succeed
from tests.cache_layout import layout_of
from tests.documents import Change, put, remove
from tests.gateway_side import running
from tests.installed import (
    A, B, FOLDER, MONDAY, NEW, OLD, TUESDAY, bundle_of, digests, installed, killed_before, moves_in, read_main,
    receipts_in
)
from tests.signers import allow, make_key, public, sign

RECEIPT = Receipt(
    number=7,
    at=MONDAY,
    repo=RepoId.parse("datasets/org/name"),
    bundle=Origin(name=BundleName("speech"), identity=Digest.of(b"index"), signed_by="anna@example"),
    snapshots=(InstalledSnapshot(commit=A, identity=OLD.snapshot.identity, files=OLD.snapshot.files),),
    refs=(RefWrite(ref=RefName("main"), before=None, after=A), RefWrite(ref=RefName("v1"), before=B, after=A)),
)

# --- What they tell


def test_tells_what_was_installed_from_where_and_which_ref_moved(tmp_path: Path) -> None:
    """Files with their digests, bundle, who told the identity, when, and each ref before and after."""
    cache = installed(tmp_path, OLD, NEW)

    first, second = receipts_in(cache)

    identity = Digest.of((tmp_path / "bundles/bundle-1/index.json").read_bytes())
    assert second["bundle"] == {"name": "bundle-1", "identity": identity, "signed_by": None}
    assert (second["id"], second["type"], second["at"]) == ("org/name", "model", "2026-11-03T10:00:00+00:00")
    assert {file["path"]: file["sha256"] for file in second["snapshots"][0]["files"]} == digests(NEW)
    assert second["snapshots"][0]["told_by"] == NEW.snapshot.identity.told_by
    assert first["refs"] == [{"ref": "main", "before": None, "after": A}]
    assert second["refs"] == [{"ref": "main", "before": A, "after": B}]


def test_stands_under_a_name_that_says_when_and_of_which_bundle(tmp_path: Path) -> None:
    """In the order of the installs, readable by everybody, and nothing else beside it."""
    cache = installed(tmp_path, OLD, NEW)

    found = layout_of(cache / FOLDER / ".bundler" / "receipts")

    prefixes = [Digest.of((tmp_path / f"bundles/bundle-{n}/index.json").read_bytes())[:12] for n in (0, 1)]
    assert list(found) == [
        f"000001-20261102T100000Z-{prefixes[0]}.json", f"000002-20261103T100000Z-{prefixes[1]}.json"]
    assert all(told.startswith("file 0644") for told in found.values())
    assert not (cache / FOLDER / ".bundler" / "receipt.draft").exists()


def test_tells_who_signed(tmp_path: Path) -> None:
    """A signature that was checked is remembered by its owner's name; one that was not is none."""
    folder = bundle_of(tmp_path, "signed", OLD)
    key = make_key(tmp_path, "key")
    sign(folder, key)
    signers = allow(tmp_path, f"anna@example {public(key)}")

    succeed("install", folder, "--cache-dir", tmp_path / "hub")
    succeed("install", folder, "--cache-dir", tmp_path / "hub", "--signers", signers)

    assert [each["bundle"]["signed_by"] for each in receipts_in(tmp_path / "hub")] == [None, "anna@example"]
    assert "signed by anna@example" in succeed("status", "--cache-dir", tmp_path / "hub").stdout


def test_each_repository_has_its_own(tmp_path: Path) -> None:
    """A bundle of several leaves a receipt with each; two commits of one repository stand in one."""
    repos = [replace(OLD, refs=("v1",)), NEW, replace(OLD, type="dataset")]

    install_bundle((bundle_of(tmp_path, "three", *repos),), tmp_path / "hub", workers=2)

    [model], [dataset] = receipts_in(tmp_path / "hub"), receipts_in(tmp_path / "hub", "datasets--org--name")
    assert [each["commit"] for each in model["snapshots"]] == [A, B]
    assert [(each["ref"], each["after"]) for each in model["refs"]] == [("v1", A), ("main", B)]
    assert [each["commit"] for each in dataset["snapshots"]] == [A]


def test_the_same_bundle_again_adds_none(tmp_path: Path) -> None:
    """Where nothing changed, nothing is told again."""
    cache = installed(tmp_path, OLD)

    succeed("install", tmp_path / "bundles/bundle-0", "--cache-dir", cache)

    assert len(receipts_in(cache)) == 1


def test_another_bundle_of_the_same_commit_adds_one(tmp_path: Path) -> None:
    """It vouches for the files as well, and tells where the ref was found."""
    cache = installed(tmp_path, OLD)

    succeed("install", bundle_of(tmp_path, "again", OLD), "--cache-dir", cache)

    assert [receipt["bundle"]["name"] for receipt in receipts_in(cache)] == ["bundle-0", "again"]
    assert receipts_in(cache)[1]["refs"] == [{"ref": "main", "before": A, "after": A}]


def test_remembers_where_a_ref_was_that_others_had_moved(tmp_path: Path) -> None:
    """What stood there before is told even if nobody knows how it came there."""
    refs = tmp_path / "hub" / FOLDER / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("1" * 40)

    cache = installed(tmp_path, OLD)

    assert moves_in(cache) == [("main", "1" * 40, A)]


def test_the_order_survives_a_clock_that_is_set_back(tmp_path: Path) -> None:
    """Receipts are numbered: what was done last is last."""
    bundles = [bundle_of(tmp_path, "old", OLD), bundle_of(tmp_path, "new", NEW)]
    install_bundle((bundles[0],), tmp_path / "hub", workers=2, clock=lambda: TUESDAY)

    install_bundle((bundles[1],), tmp_path / "hub", workers=2, clock=lambda: MONDAY)

    assert moves_in(tmp_path / "hub") == [("main", None, A), ("main", A, B)]


def test_cache_tools_do_not_mind(tmp_path: Path) -> None:
    """The real client scans without a warning, counts none of it, and takes it away with the repository."""
    cache = installed(tmp_path, OLD, NEW)

    scan = scan_cache_dir(cache)

    [repo] = scan.repos
    assert scan.warnings == []
    assert repo.size_on_disk == sum(len(content) for content in {*OLD.files.values(), *NEW.files.values()})
    scan.delete_revisions(A, B).execute()
    assert not (cache / FOLDER).exists()


# --- As documents


def test_is_read_as_it_was_written() -> None:
    """All fields come back, the time to the second and in UTC."""
    local = replace(RECEIPT, at=datetime(2026, 11, 2, 11, 0, 0, 999, tzinfo=timezone(timedelta(hours=1))))

    assert parse_receipt(receipt_text(RECEIPT), document="it") == RECEIPT
    assert parse_receipt(receipt_text(local), document="it").at == datetime(2026, 11, 2, 10, tzinfo=UTC)
    assert parse_receipt(receipt_text(replace(RECEIPT, bundle=None)), document="it").bundle is None


@pytest.mark.parametrize(("change", "field"), [
    (put(2, "receipt_version"), "receipt_version"),
    (remove("receipt_version"), "receipt_version"),
    (put("x", "more"), "more"),
    (put("2026-11-02T10:00:00", "at"), "at"),
    (put("yesterday", "at"), "at"),
    (put("../name", "id"), "id"),
    (put("thing", "type"), "type"),
    (put(-1, "number"), "number"),
    (remove("snapshots"), "snapshots"),
    (remove("refs"), "refs"),
    (put("main", "snapshots", 0, "commit"), "snapshots[0].commit"),
    (put("../../etc/passwd", "snapshots", 0, "files", 0, "path"), "snapshots[0].files[0].path"),
    (remove("snapshots", 0, "files", 0, "sha256"), "snapshots[0].files"),
    (put("/etc/passwd", "refs", 0, "ref"), "refs[0].ref"),
    (put("1", "refs", 0, "before"), "refs[0].before"),
    (put(None, "refs", 0, "after"), "refs[0].after"),
    (put("X", "bundle", "name"), "bundle.name"),
    (put("X", "bundle", "identity"), "bundle.identity"),
])
def test_refuses_what_is_no_receipt(change: Change, field: str) -> None:
    """The field is named, and nothing of a path or name gets in that was not checked."""
    values = json.loads(receipt_text(RECEIPT))
    change(values)

    with pytest.raises(ReceiptError) as refused:
        parse_receipt(json.dumps(values).encode(), document="it")

    assert f"`{field}`" in str(refused.value)


def folder_instead(path: Path) -> None:
    """Put a folder where a file was."""
    path.unlink()
    path.mkdir()


GARBAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "empty": lambda path: path.write_bytes(b""),
    "other": lambda path: path.write_bytes(b"{}"),
    "folder": folder_instead,
}


@pytest.mark.parametrize("spoil", GARBAGE.values(), ids=GARBAGE)
def test_a_receipt_that_cannot_be_read_stops_an_install(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    """What it told of refs is not forgotten in silence; moved away, the install goes on."""
    cache = installed(tmp_path, OLD)
    [receipt] = (cache / FOLDER / ".bundler/receipts").iterdir()
    spoil(receipt)
    before = layout_of(cache)

    refused = bundle("install", bundle_of(tmp_path, "new", NEW), "--cache-dir", cache)

    assert refused.returncode == 66
    assert str(receipt) in refused.stderr and "move the file away" in refused.stderr
    assert layout_of(cache) == before
    receipt.rename(tmp_path / "away")
    succeed("install", bundle_of(tmp_path, "new", NEW), "--cache-dir", cache)
    assert read_main(cache) == digests(NEW)


# --- Going back


def test_a_ref_does_not_go_back_to_where_it_was(tmp_path: Path) -> None:
    """An old bundle is told from a new one by where the ref has been; nothing is written."""
    cache = installed(tmp_path, OLD, NEW)
    before = layout_of(cache)

    refused = bundle("install", tmp_path / "bundles/bundle-0", "--cache-dir", cache)

    assert refused.returncode == 65
    for told in ("`main`", "org/name", f"from {B} to {A}", "2026-11-03 10:00 UTC", "--allow-older"):
        assert told in refused.stderr
    assert layout_of(cache) == before


def test_a_ref_goes_back_where_that_is_meant(tmp_path: Path) -> None:
    """`--allow-older` installs it, and the receipt tells of the way back."""
    cache = installed(tmp_path, OLD, NEW)

    succeed("install", tmp_path / "bundles/bundle-0", "--cache-dir", cache, "--allow-older")

    assert read_main(cache) == digests(OLD)
    assert moves_in(cache) == [("main", None, A), ("main", A, B), ("main", B, A)]


def test_a_ref_that_was_removed_is_remembered(tmp_path: Path) -> None:
    """Where it was last counts, though it resolves to nothing now: back is refused, the same again is not."""
    cache = installed(tmp_path, OLD, NEW)
    (cache / FOLDER / "refs/main").unlink()

    refused = bundle("install", tmp_path / "bundles/bundle-0", "--cache-dir", cache)

    assert refused.returncode == 65
    succeed("install", tmp_path / "bundles/bundle-1", "--cache-dir", cache)
    assert read_main(cache) == digests(NEW)


def test_an_old_commit_may_have_a_name_of_its_own(tmp_path: Path) -> None:
    """Only a ref that has left a commit does not go back to it."""
    cache = installed(tmp_path, OLD, NEW)

    succeed("install", bundle_of(tmp_path, "tag", replace(OLD, refs=("v1",))), "--cache-dir", cache)

    assert (cache / FOLDER / "refs/v1").read_text() == A
    assert read_main(cache) == digests(NEW)


def test_who_waited_for_another_installer_looks_again(tmp_path: Path) -> None:
    """What the other one did meanwhile counts: a bundle that was the newest is an old one now."""
    cache = installed(tmp_path, OLD)
    folder = RepoFolder.of(cache, OLD.snapshot.repo)
    newer = replace(RECEIPT, number=2, repo=OLD.snapshot.repo, refs=(RefWrite(ref=RefName("main"), before=A, after=B),))
    with ExitStack() as first:
        first.enter_context(folder.exclusively(ignore))
        with running("install", tmp_path / "bundles/bundle-0", "--cache-dir", cache) as second:
            assert second.stderr is not None and "waiting for process" in second.stderr.readline()

            move_refs(folder, newer)
            first.close()
            _, said = second.communicate(timeout=120)

    assert second.returncode == 65, said
    assert (cache / FOLDER / "refs/main").read_text() == B


# --- Killed


@pytest.mark.parametrize(("event", "path"), [
    ("os.rename", "receipt.draft"), ("os.rename", f"refs/{B}"), ("os.rename", "refs/main"),
    ("os.rename", "/receipts/"), ("os.remove", "receipt.draft"),
])
def test_a_move_is_told_though_the_installer_was_killed(tmp_path: Path, event: str, path: str) -> None:
    """Before the draft, a ref, the receipt, the end: the next run tells of each move once, from where it was."""
    cache = installed(tmp_path, OLD)
    new = bundle_of(tmp_path, "new", NEW)

    ended = killed_before(event, path, "install", new, "--cache-dir", cache)

    assert ended == -signal.SIGKILL
    assert read_main(cache) in (digests(OLD), digests(NEW))
    looked = bundle("status", "--cache-dir", cache)
    assert looked.returncode == 0, looked.stdout
    succeed("install", new, "--cache-dir", cache)
    assert read_main(cache) == digests(NEW)
    assert moves_in(cache) == [("main", None, A), ("main", A, B)]
    assert not (cache / FOLDER / ".bundler/receipt.draft").exists()


def test_a_draft_that_came_back_changes_no_receipt(tmp_path: Path) -> None:
    """After a power cut a file may be there again that was removed: a receipt that stands already is the truth."""
    cache = installed(tmp_path, OLD)
    own = cache / FOLDER / ".bundler"
    [first] = (own / "receipts").iterdir()
    (own / "receipt.draft").write_bytes(first.read_bytes())
    before: list[dict[str, Any]] = receipts_in(cache)

    succeed("install", bundle_of(tmp_path, "new", NEW), "--cache-dir", cache)

    assert receipts_in(cache)[0] == before[0]
    assert moves_in(cache) == [("main", None, A), ("main", A, B)]
    assert not (own / "receipt.draft").exists()
