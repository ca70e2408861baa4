"""Caches on file systems of other kinds, caches of several users, and bundles that would abuse them."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from bundler.errors import InstallError
from bundler.target.filesystem import FileSystem
from bundler.target.install import InstallOptions, install_bundle
from tests.bundle_command import bundle, succeed
from tests.bundles import Repo, git_oid, make_bundle, noise
from tests.cache_layout import layout_of, listed, staged, wrong_blobs
from tests.documents import Document
from tests.offline_reader import Digests, Question, ask_offline, digests_below
from tests.sealing import HandPart, hand_made, reseal
from tests.strange_disk import strange_disk

FOLDER = "models--org--name"
MODEL = Repo(id="org/name", refs=("main", "v1.0", "refs/pr/1"), files={
    "config.json": b"{}", "copy/config.json": b"{}", "empty.txt": b"",
    "model.safetensors": noise("weights", 1_300_000)})
NEWER = replace(MODEL, files={**MODEL.files, "config.json": b'{"version": 2}'})
COMMIT = MODEL.snapshot.commit


def digests(repo: Repo) -> Digests:
    """Return the digest of each file of a repository."""
    return {file.path: str(file.sha256) for file in repo.snapshot.files}


def resolved(hub: Path, *questions: Question) -> list[Digests]:
    """Return what another process that is offline gets, and check that a scan finds no fault."""
    answers = ask_offline(hub, questions)
    assert answers.warnings == []
    return [answers.snapshots[question] for question in questions]


def without_locks(hub: Path) -> dict[str, str]:
    """Return the files and links below a cache, but for the lock files."""
    return {path: told for path, told in layout_of(hub).items()
            if not told.startswith("folder") and not path.endswith(".bundler/lock")}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A bundle of the model."""
    return make_bundle(tmp_path / "model", repos=[MODEL])


# --- Names that a file system takes for one, or does not take


CASE, UNICODE = "--folds-case", "--folds-unicode"
TWINS: dict[str, tuple[str, list[Repo]]] = {
    "files by case": (CASE, [Repo(id="org/name", files={"README.md": b"1", "readme.md": b"2"})]),
    "folders by case": (CASE, [Repo(id="org/name", files={"Data/a": b"1", "data/b": b"2"})]),
    "a file and a folder by case": (CASE, [Repo(id="org/name", files={"Data": b"1", "data/b": b"2"})]),
    "files by unicode form": (UNICODE, [Repo(id="org/name", files={"\u00fc.md": b"1", "u\u0308.md": b"2"})]),
    "refs by case": (CASE, [Repo(id="org/name", files={"a": b"1"}, refs=("dev",)),
                            Repo(id="org/name", files={"a": b"2"}, refs=("Dev",))]),
    "repositories by case": (CASE, [Repo(id="org/name", files={"a": b"1"}), Repo(id="Org/Name", files={"a": b"2"})]),
}


@pytest.mark.parametrize("twins", TWINS)
def test_two_names_that_are_one_are_refused(tmp_path: Path, twins: str) -> None:
    """On a file system that folds names one file would silently replace the other; nothing is written."""
    rule, repos = TWINS[twins]
    medium = make_bundle(tmp_path / "twins", repos=repos)

    with strange_disk(tmp_path / "disk", tmp_path / "behind", rule) as disk:
        with pytest.raises(InstallError, match="this file system") as refused:
            install_bundle((medium,), disk / "hub", workers=2)
        left = without_locks(disk / "hub")
    install_bundle((medium,), tmp_path / "hub", workers=2)

    assert "--cache-dir" in refused.value.hint
    assert left == {}


def test_names_that_windows_reserves_are_refused_where_they_count(tmp_path: Path) -> None:
    """On a FAT-like file system only; elsewhere they are names like any other."""
    paths = ["aux.txt", "data/CON", "data/a:b", "what?.md", "dot.", "folder /x"]
    media = [make_bundle(tmp_path / f"n{number}", repos=[Repo(id="org/name", files={path: b"1"})])
             for number, path in enumerate(paths)]

    with strange_disk(tmp_path / "disk", tmp_path / "behind", "--windows-names") as disk:
        for path, medium in zip(paths, media):
            with pytest.raises(InstallError, match=re.escape(f"`{path}`")):
                install_bundle((medium,), disk / "hub", workers=2)
        left = without_locks(disk / "hub")
    for medium in media:
        install_bundle((medium,), tmp_path / "hub", workers=2)

    assert left == {}


def test_names_without_twins_are_fine_anywhere() -> None:
    """What folds together only in part, or comes once, is let through."""
    strictest = FileSystem(folds_case=True, folds_unicode=True, windows_names=True)

    assert strictest.why_unfit(Path("/x"), ["README.md", "readme.txt", "data/a", "data/b", "b/data"]) == ""
    assert FileSystem().why_unfit(Path("/x"), ["A", "a", "aux", "\u00fc", "u\u0308"]) == ""


@pytest.mark.parametrize(("path", "reason"), [
    ("a/" + 150 * "b", "more bytes than the 143"),
    ("/".join(21 * [100 * "c"]), "too long below"),
])
def test_paths_that_are_too_long_are_known_before(path: str, reason: str) -> None:
    """File systems that encrypt names take shorter ones, and no system takes a path without end."""
    place = Path("/" + "/".join(21 * [100 * "x"]))

    assert reason in FileSystem(longest_name=143).why_unfit(place, [path])


# --- No links


def test_where_there_are_no_links_snapshots_are_files(tmp_path: Path, model: Path) -> None:
    """On a FAT-like disk every revision resolves, a scan finds no fault, and no byte is stored twice."""
    questions = [Question("org/name", revision) for revision in (*MODEL.refs, COMMIT)]
    with strange_disk(tmp_path / "disk", tmp_path / "behind", "--no-links", "--no-modes", CASE, UNICODE) as disk:
        succeed("install", model, "--cache-dir", disk)

        found = resolved(disk, *questions)
        layout = layout_of(disk / FOLDER)

    assert found == [digests(MODEL)] * 4
    assert not [path for path, told in layout.items() if told.startswith("link") or path.startswith("blobs/")]


def test_where_there_are_no_links_what_is_there_is_adopted(tmp_path: Path, model: Path) -> None:
    """A second run writes nothing; a wrong, a missing and a further file are put right in place."""
    with strange_disk(tmp_path / "disk", tmp_path / "behind", "--no-links") as disk:
        install_bundle((model,), disk, workers=2)
        again = install_bundle((model,), disk, workers=2)
        snapshot = disk / FOLDER / "snapshots" / COMMIT
        (snapshot / "copy" / "config.json").unlink()
        (snapshot / "config.json").write_bytes(b"[]")
        mended = install_bundle((model,), disk, workers=2)

        found = resolved(disk, Question("org/name"))
        tree = listed(disk / FOLDER, COMMIT)

    assert (again.written, mended.written) == (0, 4)
    assert found == [digests(MODEL)]
    assert set(tree) == set(MODEL.files)


def test_where_there_are_no_links_sticks_may_come_one_by_one(tmp_path: Path) -> None:
    """Files gather out of sight, and appear as a whole snapshot."""
    files = {"a.bin": noise("a", 1_100_000), "b.bin": noise("b", 1_100_000)}
    repo = Repo(id="org/name", files=files)
    medium = make_bundle(tmp_path / "gift", repos=[repo], volume_size=1_250_000)
    volume, aside = medium / "gift-002.tar", tmp_path / "gift-002.tar"
    volume.rename(aside)
    with strange_disk(tmp_path / "disk", tmp_path / "behind", "--no-links") as disk:
        first = install_bundle((medium,), disk, workers=2)
        visible = list(disk.glob("*/snapshots/*"))
        aside.rename(volume)
        (medium / "gift-001.tar").unlink()
        second = install_bundle((medium,), disk, workers=2)

        found = resolved(disk, Question("org/name"))

    assert first.failure() is not None and second.failure() is None
    assert visible == []
    assert (first.written, second.written, second.adopted) == (1_100_000,) * 3
    assert found == [digests(repo)]


def test_links_can_be_declined(tmp_path: Path, model: Path) -> None:
    """With `--no-symlinks` files are second names of the blobs where the disk has such: no byte is stored twice."""
    succeed("install", model, "--cache-dir", tmp_path / "hub", "--no-symlinks")

    snapshot = tmp_path / "hub" / FOLDER / "snapshots" / COMMIT
    assert [path for path in snapshot.rglob("*") if path.is_symlink()] == []
    blobs = {path.stat().st_ino for path in (tmp_path / "hub" / FOLDER / "blobs").iterdir()}
    assert {path.stat().st_ino for path in snapshot.rglob("*") if path.is_file()} == blobs
    assert resolved(tmp_path / "hub", Question("org/name", "v1.0")) == [digests(MODEL)]


def test_one_kind_of_file_becomes_the_other(tmp_path: Path, model: Path) -> None:
    """Links become files and files links, when a snapshot is installed again; no blob is written for it."""
    snapshot = tmp_path / "hub" / FOLDER / "snapshots" / COMMIT
    seen = []
    for symlinks in (True, False, False, True):
        report = install_bundle((model,), tmp_path / "hub", InstallOptions(symlinks=symlinks), workers=2)
        links = {path.is_symlink() for path in snapshot.rglob("*") if not path.is_dir()}
        seen.append((links, report.written > 0))
        assert digests_below(snapshot) == digests(MODEL)

    assert seen == [({True}, True), ({False}, False), ({False}, False), ({True}, False)]
    assert staged(tmp_path / "hub") == []


# --- What would lead elsewhere


ASTRAY: dict[str, str] = {
    "a folder of the snapshot": f"snapshots/{COMMIT}/copy",
    "the snapshot": f"snapshots/{COMMIT}",
    "all snapshots": "snapshots",
    "the blobs": "blobs",
    "our own folder": ".bundler",
    "the staging": ".bundler/staging",
    "the refs": "refs",
    "a folder of refs": "refs/refs",
    "the trees": "trees",
    "the markers": ".no_exist",
    "a folder of markers": f".no_exist/{COMMIT}/copy",
}


@pytest.mark.parametrize("place", ASTRAY)
def test_no_link_leads_out_of_a_repository(tmp_path: Path, model: Path, place: str) -> None:
    """A folder that is a link to somewhere else is named, and neither written nor deleted through."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "config.json").write_bytes(b"precious")
    link = tmp_path / "hub" / FOLDER / ASTRAY[place]
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)

    refused = bundle("install", model, "--cache-dir", tmp_path / "hub")

    assert refused.returncode == 60, refused.stderr
    assert str(link) in refused.stderr and "leads out" in refused.stderr
    assert layout_of(elsewhere) == {"config.json": layout_of(elsewhere)["config.json"]}
    assert (elsewhere / "config.json").read_bytes() == b"precious"
    assert without_locks(tmp_path / "hub") == {f"{FOLDER}/{ASTRAY[place]}": f"link to {elsewhere}"}


def test_a_repository_may_be_on_another_disk(tmp_path: Path, model: Path) -> None:
    """The folder of the repository itself may be a link: people move large models so."""
    (tmp_path / "large").mkdir()
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / FOLDER).symlink_to(tmp_path / "large")

    install_bundle((model,), tmp_path / "hub", workers=2)

    assert resolved(tmp_path / "hub", Question("org/name")) == [digests(MODEL)]
    assert (tmp_path / "large" / "refs" / "main").read_text() == COMMIT


def test_refs_that_cannot_stand_together_are_refused(tmp_path: Path) -> None:
    """`v1` would be a file where `v1/x` needs a folder; the cache is not even made."""
    repos = [Repo(id="org/name", files={"a": ref.encode()}, refs=(ref,)) for ref in ("v1", "v1/x")]
    medium = make_bundle(tmp_path / "refs", repos=repos)

    refused = bundle("install", medium, "--cache-dir", tmp_path / "hub")

    assert refused.returncode == 60
    assert "`v1`" in refused.stderr and "`v1/x`" in refused.stderr
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize(("there", "wanted"), [("v1", "v1/x"), ("v1/x", "v1")])
def test_a_ref_that_is_in_the_way_is_named(tmp_path: Path, there: str, wanted: str) -> None:
    """Before anything is written, and nothing is removed for it."""
    install_bundle(
        (make_bundle(tmp_path / "old", repos=[replace(MODEL, refs=(there,))]),), tmp_path / "hub", workers=2)
    medium = make_bundle(tmp_path / "new", repos=[replace(NEWER, refs=(wanted,))])
    before = without_locks(tmp_path / "hub")

    refused = bundle("install", medium, "--cache-dir", tmp_path / "hub")

    assert refused.returncode == 60
    assert f"`{wanted}`" in refused.stderr and str(tmp_path / "hub" / FOLDER / "refs" / "v1") in refused.stderr
    assert without_locks(tmp_path / "hub") == before


def test_a_small_bundle_cannot_fill_the_disk(tmp_path: Path) -> None:
    """A part of 16 MiB that a file repeats a hundred thousand times is weighed as what it unpacks to."""
    raw = bytes(16 << 20)
    medium = hand_made(tmp_path / "bomb", HandPart(codec="zstd", stored=zstandard.compress(raw), raw=raw))

    def repeat(index: Document) -> None:
        index["blobs"][0]["extents"] *= 100_000
        index["blobs"][0]["size"] = index["snapshots"][0]["files"][0]["size"] = len(raw) * 100_000

    reseal(medium, repeat)

    refused = bundle("install", medium, "--cache-dir", tmp_path / "hub")

    assert refused.returncode == 61
    assert f"{len(raw) * 100_000:,}" in refused.stderr
    assert without_locks(tmp_path / "hub") == {}


# --- Users, groups and modes


USER, COLLEAGUE, GROUP = 12001, 12002, 12000


def as_user(user: int, *groups: int) -> list[str]:
    """Return the command that runs another one as an ordinary user."""
    names = ",".join(map(str, groups))
    more = [f"--groups={names}"] if groups else ["--clear-groups"]
    return ["setpriv", f"--reuid={user}", f"--regid={user}", *more, "--inh-caps=-all"]


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that everybody can reach, of an ordinary user."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    with tempfile.TemporaryDirectory(prefix="users-") as folder:
        path = Path(folder)
        path.chmod(0o755)
        os.chown(path, USER, USER)
        yield path


def given_to(user: int, folder: Path) -> None:
    """Make a user the owner of all that is below a folder, and of the folder."""
    for path in (folder, *folder.rglob("*")):
        os.lchown(path, user, user)


def install_as(command: list[str], medium: Path, hub: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Install as another user, whose home has nothing."""
    return bundle("install", medium, "--cache-dir", hub, *more, under=command, cwd=hub.parent,
                  variables={"HOME": str(hub.parent)})


CLOSED: dict[str, Callable[[Path], object]] = {
    "a private blob": lambda repo: (repo / "blobs" / git_oid(b"{}")).chmod(0o600),
    "a write-only blob": lambda repo: (repo / "blobs" / git_oid(b"{}")).chmod(0o200),
    "a private repository": lambda repo: repo.chmod(0o700),
    "private snapshots": lambda repo: (repo / "snapshots").chmod(0o700),
    "a private folder of a snapshot": lambda repo: (repo / "snapshots" / COMMIT / "copy").chmod(0o700),
    "read-only refs": lambda repo: (repo / "refs").chmod(0o555),
    "read-only blobs": lambda repo: (repo / "blobs").chmod(0o555),
    "folders that are closed to their owner": lambda repo: (repo / "blobs").chmod(0o055),
}


@pytest.mark.parametrize("closed", CLOSED)
def test_what_is_ours_and_closed_is_opened(home: Path, closed: str) -> None:
    """A weight file of mode 0600 reads as missing, a closed folder as no cache at all: installing again mends it."""
    medium = make_bundle(home / "model", repos=[MODEL])
    install_bundle((medium,), home / "hub", workers=2)
    given_to(USER, home)
    CLOSED[closed](home / "hub" / FOLDER)

    done = install_as(as_user(USER), medium, home / "hub")

    assert done.returncode == 0, done.stderr
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (home / "hub").rglob("*")}
    assert all(mode & 0o444 == 0o444 for mode in modes)
    assert resolved(home / "hub", Question("org/name")) == [digests(MODEL)]


@pytest.mark.parametrize(("closed", "path"), [
    ("a private blob", f"blobs/{git_oid(b'{}')}"), ("a private repository", ""), ("private snapshots", "snapshots"),
    ("read-only refs", "refs"), ("read-only blobs", "blobs"),
])
def test_what_is_another_users_and_closed_is_named(home: Path, closed: str, path: str) -> None:
    """With its mode and its owner, and before anything is written."""
    install_bundle((make_bundle(home / "model", repos=[MODEL]),), home / "hub", workers=2)
    medium = make_bundle(home / "newer", repos=[NEWER])
    given_to(USER, home)
    given_to(COLLEAGUE, home / "hub" / FOLDER)
    for folder in (home / "hub" / FOLDER).rglob("*"):
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(0o777)
    (home / "hub" / FOLDER).chmod(0o777)
    (home / "hub" / FOLDER / ".bundler" / "lock").chmod(0o666)
    CLOSED[closed](home / "hub" / FOLDER)
    before = without_locks(home / "hub")

    refused = install_as(as_user(USER), medium if path != f"blobs/{git_oid(b'{}')}" else home / "model", home / "hub")

    assert refused.returncode == 62, refused.stderr
    assert str(home / "hub" / FOLDER / path) in refused.stderr and f"user {COLLEAGUE}" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert without_locks(home / "hub") == before


def test_a_group_shares_a_cache(home: Path) -> None:
    """With `--mode` and `--group` a colleague goes on with what the first one left by half, and replaces a commit."""
    media = [make_bundle(home / "model", repos=[MODEL]), make_bundle(home / "newer", repos=[NEWER])]
    (home / "shared").mkdir()
    os.chown(home / "shared", USER, GROUP)
    (home / "shared").chmod(0o2770)
    options = ("--mode", "2770", "--group", str(GROUP))

    done = [install_as(as_user(user, GROUP), medium, home / "shared" / "hub", *options)
            for user, medium in zip((USER, COLLEAGUE), media)]

    assert [each.returncode for each in done] == [0, 0], [each.stderr for each in done]
    told = {(each.st_gid, stat.S_IMODE(each.st_mode)) for path in (home / "shared" / "hub").rglob("*")
            if not stat.S_ISLNK((each := path.lstat()).st_mode)}
    assert told == {(GROUP, 0o2770), (GROUP, 0o660)}
    assert {path.stat().st_uid for path in (home / "shared" / "hub" / FOLDER / "blobs").iterdir()} == {USER, COLLEAGUE}
    assert resolved(home / "shared" / "hub", Question("org/name")) == [digests(NEWER)]


def test_a_colleague_goes_on_with_half_a_blob(home: Path) -> None:
    """What one of the group has staged, another one can build upon."""
    repo = Repo(id="org/name", files={"model.bin": noise("large", 20 << 20)})
    medium = make_bundle(home / "gift", repos=[repo], volume_size=17 << 20)
    second = (medium / "gift-002.tar").rename(home / "gift-002.tar")
    (home / "shared").mkdir()
    os.chown(home / "shared", USER, GROUP)
    (home / "shared").chmod(0o2770)
    options = ("--mode", "2770", "--group", str(GROUP))

    first = install_as(as_user(USER, GROUP), medium, home / "shared" / "hub", *options)
    (medium / "gift-001.tar").unlink()
    second.rename(medium / "gift-002.tar")
    done = install_as(as_user(COLLEAGUE, GROUP), medium, home / "shared" / "hub", *options)

    assert (first.returncode, done.returncode) == (41, 0), done.stderr
    assert resolved(home / "shared" / "hub", Question("org/name")) == [digests(repo)]
    assert wrong_blobs(home / "shared" / "hub") == staged(home / "shared" / "hub") == []


def test_a_group_that_one_is_not_in_cannot_be_given_to(home: Path) -> None:
    """It says so at the first folder."""
    medium = make_bundle(home / "model", repos=[MODEL])
    given_to(USER, home)

    refused = install_as(as_user(USER), medium, home / "hub", "--group", str(GROUP))

    assert refused.returncode == 62
    assert "Operation not permitted" in refused.stderr and str(home / "hub") in refused.stderr


@pytest.mark.parametrize(("option", "value"), [("--mode", "abc"), ("--mode", "077"), ("--group", "no such group")])
def test_modes_and_groups_that_are_none_are_usage_errors(tmp_path: Path, option: str, value: str) -> None:
    """Seen before the bundle is looked at."""
    (tmp_path / "model").mkdir()

    refused = bundle("install", tmp_path / "model", option, value)

    assert refused.returncode == 2
    assert value in refused.stderr


def test_the_report_is_the_same_in_json(model: Path, tmp_path: Path) -> None:
    """Nothing is waiting, wrong or missing after a plain install."""
    report = json.loads(succeed("install", model, "--cache-dir", tmp_path / "hub", "--json").stdout)

    assert report["waiting"] == report["problems"] == report["to_carry"] == []
