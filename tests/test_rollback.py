"""`bundle rollback`: back, and forth again, never to what is not whole."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.target.install import install_bundle
from tests.bundle_command import bundle, succeed
from tests.bundles import flip_bit
from tests.cache_layout import layout_of
from tests.cache_watcher import Watcher
from tests.installed import (
    A, B, FOLDER, NEW, OLD, bundle_of, digests, installed, killed_before, moves_in, read_main, receipts_in
)
from tests.offline_reader import Question, ask_offline


def test_puts_main_back_to_where_it_was(tmp_path: Path) -> None:
    """Readers get the snapshot from before, and both commits are said."""
    cache = installed(tmp_path, OLD, NEW)

    done = succeed("rollback", "org/name", "--cache-dir", cache)

    assert read_main(cache) == digests(OLD)
    assert f"{B} -> {A}" in done.stdout


def test_tells_programs_what_it_did(tmp_path: Path) -> None:
    """`--json` has repository, ref, and both commits."""
    cache = installed(tmp_path, OLD, NEW)

    told = json.loads(succeed("rollback", "org/name", "--cache-dir", cache, "--json").stdout)

    assert told == {"id": "org/name", "type": "model", "ref": "main", "before": B, "after": A}


def test_undoes_itself(tmp_path: Path) -> None:
    """Each leaves a receipt of no bundle; a second one goes forward again, a third one back."""
    cache = installed(tmp_path, OLD, NEW)

    for _ in range(3):
        succeed("rollback", "org/name@main", "--cache-dir", cache)

    assert moves_in(cache) == [
        ("main", None, A), ("main", A, B), ("main", B, A), ("main", A, B), ("main", B, A)]
    assert [receipt["bundle"] is None for receipt in receipts_in(cache)] == [False, False, True, True, True]
    assert read_main(cache) == digests(OLD)


def test_moves_one_ref_of_one_repository(tmp_path: Path) -> None:
    """A dataset's ref with slashes goes back; the model of the same name, and other refs, stay."""
    datasets = [replace(repo, type="dataset", refs=("main", "site/approved")) for repo in (OLD, NEW)]
    cache = installed(tmp_path, *datasets)
    install_bundle((bundle_of(tmp_path, "model", NEW),), cache, workers=2)

    succeed("rollback", "datasets/org/name@site/approved", "--cache-dir", cache)

    questions = [Question("org/name", ref, "dataset") for ref in ("site/approved", "main")] + [Question("org/name")]
    answers = ask_offline(cache, questions)
    assert [answers.snapshots[question] for question in questions] == [digests(OLD), digests(NEW), digests(NEW)]


def test_the_newer_bundle_is_an_older_one_then(tmp_path: Path) -> None:
    """What was rolled back does not come in again by mistake."""
    cache = installed(tmp_path, OLD, NEW)
    succeed("rollback", "org/name", "--cache-dir", cache)

    refused = bundle("install", tmp_path / "bundles/bundle-1", "--cache-dir", cache)

    assert refused.returncode == 65
    succeed("install", tmp_path / "bundles/bundle-1", "--cache-dir", cache, "--allow-older")
    assert read_main(cache) == digests(NEW)


def test_undoes_a_move_that_nobody_told_of(tmp_path: Path) -> None:
    """A ref that is not where the receipts left it goes there, from wherever it is, also from nowhere."""
    cache = installed(tmp_path, OLD, NEW)
    main = cache / FOLDER / "refs/main"

    for moved in (lambda: main.write_text("1" * 40), main.unlink):
        moved()
        succeed("rollback", "org/name", "--cache-dir", cache)
        assert read_main(cache) == digests(NEW)

    assert [(move[1], move[2]) for move in moves_in(cache)[2:]] == [("1" * 40, B), (None, B)]


@pytest.mark.parametrize("path", ["model.safetensors", "sub/LICENSE"])
def test_refuses_a_snapshot_that_is_not_whole(tmp_path: Path, path: str) -> None:
    """Its files are hashed first; one that is wrong is named, and the ref stays."""
    cache = installed(tmp_path, replace(OLD, files={**OLD.files, "sub/LICENSE": b"GPL\n"}), NEW)
    old = moves_in(cache)[0][2]
    flip_bit(cache / FOLDER / "snapshots" / old / path, at=1)

    refused = bundle("rollback", "org/name", "--cache-dir", cache)

    assert refused.returncode == 68
    assert f"`{path}`" in refused.stderr and old in refused.stderr and "--repair" in refused.stderr
    assert read_main(cache) == digests(NEW)


@pytest.mark.parametrize(("what", "reason"), [
    ("org/name", "was nowhere before"), ("org/name@v1", "no receipt tells of `v1`"), ("org/other", "org/other"),
    ("datasets/org/name", "datasets/org/name"),
])
def test_says_where_there_is_no_way_back(tmp_path: Path, what: str, reason: str) -> None:
    """A first install, another ref, another repository: each is told, and nothing is made or changed."""
    cache = installed(tmp_path, OLD)

    refused = bundle("rollback", what, "--cache-dir", cache)

    assert refused.returncode == 67
    assert reason in refused.stderr
    assert os.listdir(cache) == [FOLDER]
    assert read_main(cache) == digests(OLD)


def test_goes_to_nothing_that_it_cannot_prove(tmp_path: Path) -> None:
    """A commit that others put there has no receipt, and nothing else knows its digests."""
    refs = tmp_path / "hub" / FOLDER / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("1" * 40)
    cache = installed(tmp_path, OLD)

    refused = bundle("rollback", "org/name", "--cache-dir", cache)

    assert refused.returncode == 67
    assert "1" * 40 in refused.stderr
    assert read_main(cache) == digests(OLD)


@pytest.mark.parametrize("what", ["org/name/more", "../name", "org/name@../main", "org/name@main.lock"])
def test_a_name_that_is_none_is_a_wrong_command_line(tmp_path: Path, what: str) -> None:
    """It is checked before it becomes a path."""
    refused = bundle("rollback", what, "--cache-dir", tmp_path)

    assert refused.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_changes_nothing_but_the_ref_and_its_receipt(tmp_path: Path) -> None:
    """Blobs, snapshots, listings and other refs are as they were."""
    cache = installed(tmp_path, OLD, NEW)
    before = layout_of(cache)

    succeed("rollback", "org/name", "--cache-dir", cache)

    after = layout_of(cache)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    own = {path for path in changed if path.startswith(f"{FOLDER}/.bundler/")}
    assert changed - own == {f"{FOLDER}/refs/main"}


@pytest.mark.parametrize(("event", "path"), [
    ("os.rename", "receipt.draft"), ("os.rename", "refs/main"), ("os.rename", "/receipts/"),
    ("os.remove", "receipt.draft"),
])
def test_a_killed_rollback_is_done_or_not(tmp_path: Path, event: str, path: str) -> None:
    """A reader sees the one or the other, and the history tells which it is."""
    cache = installed(tmp_path, OLD, NEW)

    with Watcher("org/name") as watcher:
        watcher.watch(cache)
        ended = killed_before(event, path, "rollback", "org/name", "--cache-dir", cache)
        seen = watcher.sightings()

    assert ended == -signal.SIGKILL
    assert seen.errors == [] and seen.states in ([digests(NEW)], [digests(NEW), digests(OLD)])
    went_back = read_main(cache) == digests(OLD)
    assert succeed("status", "--cache-dir", cache).stdout.count("MOVED") == 0
    succeed("rollback", "org/name", "--cache-dir", cache)
    assert read_main(cache) == (digests(NEW) if went_back else digests(OLD))
