"""`bundle install` into caches of every kind, on disks that are too small, killed, twice at once, as anybody."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import snapshot_download

from bundler.names import RepoId, RepoType
from bundler.progress import ignore
from bundler.target.hubcache import RepoFolder
from bundler.target.install import install_bundle
from tests.bundle_command import bundle, succeed, without_network
from tests.bundles import Repo, break_file, git_oid, make_bundle, noise
from tests.cache_layout import layout_of, staged, wrong_blobs
from tests.documents import Document
from tests.gateway_side import running, small_disk
from tests.offline_reader import Digests, Question, ask_offline, digests_below
from tests.sealing import reseal

WEIGHTS = noise("weights", 1_200_000)
OTHER_WEIGHTS = noise("other weights", 1_100_000)
OLD = Repo(id="org/name", files={"config.json": b'{"version": 1}', "model.safetensors": WEIGHTS, "LICENSE": b"MIT\n"})
NEW = Repo(id="org/name", files={
    "config.json": b'{"version": 2}', "model.safetensors": OTHER_WEIGHTS, "LICENSE": b"MIT\n", "sub/extra.json": b"{}"})
FOLDER = "models--org--name"
MAIN = Question("org/name")
NOBODY = 65534


def digests(repo: Repo) -> Digests:
    """Return the digest of each file of a repository."""
    return {path: hashlib.sha256(content).hexdigest() for path, content in repo.files.items()}


def blob_of(cache: Path, content: bytes, *, lfs: bool) -> Path:
    """Return where the cache keeps `content` of `org/name`, and make the folder."""
    path = cache / FOLDER / "blobs" / (hashlib.sha256(content).hexdigest() if lfs else git_oid(content))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def resolved(cache: Path, *questions: Question) -> list[Digests]:
    """Return what another process that is offline gets for each question, and check that a scan finds no fault."""
    answers = ask_offline(cache, questions)
    assert answers.warnings == []
    return [answers.snapshots[question] for question in questions]


def report_of(*arguments: object) -> dict[str, Any]:
    """Run `bundle install` and return what it reports as JSON."""
    report: dict[str, Any] = json.loads(succeed("install", *arguments, "--json").stdout)
    return report


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A bundle of the old commit."""
    return make_bundle(tmp_path / "old", repos=[OLD])


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """A bundle of the new commit."""
    return make_bundle(tmp_path / "new", repos=[NEW])


@pytest.fixture
def cache(tmp_path: Path, old: Path) -> Path:
    """A cache that holds the old commit as `main`."""
    install_bundle((old,), tmp_path / "hub", workers=2)
    return tmp_path / "hub"


# --- What is there already


def test_adopts_what_is_there_and_right(cache: Path, new: Path) -> None:
    """Blobs that prove right are counted and left alone: same file, same time."""
    licence = blob_of(cache, b"MIT\n", lfs=False)
    before = licence.stat()

    report = report_of(new, "--cache-dir", cache)

    assert report["adopted"] == len(b"MIT\n")
    assert report["written"] == sum(map(len, NEW.files.values())) - len(b"MIT\n")
    assert (licence.stat().st_ino, licence.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_installing_twice_writes_no_blob_again(cache: Path, old: Path) -> None:
    """The second run proves what the first one wrote, and changes nothing that a reader sees."""
    before = {path: path.stat().st_ino for path in cache.glob("*/blobs/*")}
    layout = layout_of(cache)

    report = report_of(old, "--cache-dir", cache)

    assert (report["written"], report["adopted"]) == (0, sum(map(len, OLD.files.values())))
    assert {path: path.stat().st_ino for path in cache.glob("*/blobs/*")} == before
    lock = f"{FOLDER}/.bundler/lock"
    assert {**layout_of(cache), lock: ""} == {**layout, lock: ""}


@pytest.mark.parametrize("wrong", [b"", WEIGHTS[:-1], WEIGHTS + b"x", WEIGHTS[:-1] + b"x"],
                         ids=["empty", "cut", "longer", "other bytes"])
def test_replaces_a_wrong_blob_of_the_right_name(tmp_path: Path, old: Path, wrong: bytes) -> None:
    """No version of the client hashes what it downloads: a name alone is believed nowhere."""
    blob_of(tmp_path / "hub", WEIGHTS, lfs=True).write_bytes(wrong)
    blob_of(tmp_path / "hub", b"MIT\n", lfs=False).write_bytes(wrong[:4])

    install_bundle((old,), tmp_path / "hub", workers=2)

    assert wrong_blobs(tmp_path / "hub") == []
    assert resolved(tmp_path / "hub", MAIN) == [digests(OLD)]


def test_adopts_a_blob_that_is_a_link_to_the_right_bytes(tmp_path: Path, old: Path) -> None:
    """Newer clients keep blobs in a store that repositories share, and link to it, read-only."""
    store = tmp_path / "store"
    store.write_bytes(WEIGHTS)
    store.chmod(0o444)
    blob = blob_of(tmp_path / "hub", WEIGHTS, lfs=True)
    blob.symlink_to("../../../store")

    install_bundle((old,), tmp_path / "hub", workers=2)

    assert os.readlink(blob) == "../../../store"
    assert resolved(tmp_path / "hub", MAIN) == [digests(OLD)]


@pytest.mark.parametrize("elsewhere", [b"precious", None], ids=["a file", "nothing"])
def test_never_writes_through_a_blob_that_is_a_link(tmp_path: Path, old: Path, elsewhere: bytes | None) -> None:
    """A link to wrong bytes, or to nothing, is replaced itself; where it led is left alone."""
    target = tmp_path / "elsewhere"
    if elsewhere is not None:
        target.write_bytes(elsewhere)
    blob = blob_of(tmp_path / "hub", WEIGHTS, lfs=True)
    blob.symlink_to(target)

    install_bundle((old,), tmp_path / "hub", workers=2)

    assert not blob.is_symlink() and blob.read_bytes() == WEIGHTS
    assert (target.read_bytes() if target.exists() else None) == elsewhere


def test_opens_nothing_but_regular_files(tmp_path: Path) -> None:
    """A pipe under the name of the empty blob is replaced, not waited for."""
    blob = blob_of(tmp_path / "hub", b"", lfs=False)
    os.mkfifo(blob)
    empty = make_bundle(tmp_path / "empty", repos=[Repo(id="org/name", files={"__init__.py": b""})])

    succeed("install", empty, "--cache-dir", tmp_path / "hub", timeout=60)

    assert blob.is_file() and blob.read_bytes() == b""


# --- What a bundle may hold


def test_a_moved_ref_leaves_the_old_commit_in_place(cache: Path, new: Path) -> None:
    """`main` is the new commit; who pinned the old one still finds it whole."""
    succeed("install", new, "--cache-dir", cache)

    pins = Question("org/name", OLD.snapshot.commit), Question("org/name", NEW.snapshot.commit)
    assert resolved(cache, MAIN, *pins) == [digests(NEW), digests(OLD), digests(NEW)]


def test_two_revisions_of_a_repository_come_in_one_bundle(tmp_path: Path) -> None:
    """Each has its own names, and what both hold is stored once."""
    both = make_bundle(tmp_path / "both", repos=[replace(OLD, refs=("v1",)), replace(NEW, refs=("main", "v2"))])

    install_bundle((both,), tmp_path / "hub", workers=2)

    v1, v2 = Question("org/name", "v1"), Question("org/name", "v2")
    assert resolved(tmp_path / "hub", MAIN, v1, v2) == [digests(NEW), digests(OLD), digests(NEW)]
    assert len(list((tmp_path / "hub" / FOLDER / "blobs").iterdir())) == 6


def test_repositories_that_share_a_file_each_get_their_own(tmp_path: Path) -> None:
    """Models and datasets of one name stand side by side, and none leans on another one's blobs."""
    repos = [OLD, replace(OLD, type="dataset"), replace(OLD, type="space"), replace(OLD, id="twin")]
    four = make_bundle(tmp_path / "four", repos=repos)

    report = report_of(four, "--cache-dir", tmp_path / "hub")

    assert report["written"] == 4 * sum(map(len, OLD.files.values()))
    for removed in (FOLDER, "datasets--org--name", "spaces--org--name"):
        shutil.rmtree(tmp_path / "hub" / removed)
    assert resolved(tmp_path / "hub", Question("twin")) == [digests(OLD)]


def test_the_same_bytes_stand_under_both_kinds_of_name(tmp_path: Path) -> None:
    """A file that git keeps and one that LFS keeps may have one content: each is found by its own name."""
    repo = Repo(id="org/name", files={"small.txt": b"same", "small.bin": b"same", "empty.bin": b"", "empty.txt": b""})

    install_bundle((make_bundle(tmp_path / "some", repos=[repo]),), tmp_path / "hub", workers=2)

    names = {path.name for path in (tmp_path / "hub" / FOLDER / "blobs").iterdir()}
    assert names == {each for content in (b"same", b"") for each in (
        hashlib.sha256(content).hexdigest(), git_oid(content))}
    assert resolved(tmp_path / "hub", MAIN) == [digests(repo)]


def test_names_what_is_installed_as_the_user_wants(cache: Path, new: Path) -> None:
    """`--revision-as` is one more ref, also one with slashes; those of the bundle are set as ever."""
    succeed("install", new, "--cache-dir", cache, "--revision-as", "site/approved")

    refs = cache / FOLDER / "refs"
    assert (refs / "site" / "approved").read_text() == (refs / "main").read_text() == NEW.snapshot.commit
    assert resolved(cache, Question("org/name", "site/approved")) == [digests(NEW)]


def test_one_name_for_two_commits_is_refused(tmp_path: Path) -> None:
    """`--revision-as` cannot mean two revisions of one repository; nothing is written."""
    both = make_bundle(tmp_path / "both", repos=[replace(OLD, refs=("v1",)), replace(NEW, refs=("v2",))])

    refused = bundle("install", both, "--cache-dir", tmp_path / "hub", "--revision-as", "main")

    assert refused.returncode == 60
    assert "`main`" in refused.stderr and "org/name" in refused.stderr
    assert not (tmp_path / "hub").exists()


def test_a_commit_is_not_a_name_for_another_one(cache: Path, new: Path) -> None:
    """`--revision-as` with a full commit would make a pin lie, and is refused."""
    before = layout_of(cache)

    refused = bundle("install", new, "--cache-dir", cache, "--revision-as", OLD.snapshot.commit)

    assert refused.returncode == 60
    assert OLD.snapshot.commit in refused.stderr
    assert layout_of(cache) == before


def test_reads_a_bundle_from_several_sticks(tmp_path: Path) -> None:
    """Volumes that lie in different folders make one bundle, whatever the order in which they are named."""
    repos = [replace(OLD, refs=("v1",)), NEW]
    sticks = [make_bundle(tmp_path / "one" / "big", repos=repos, volume_size=1_300_000), tmp_path / "two" / "big"]
    shutil.copytree(sticks[0], sticks[1])
    volumes = sorted(path.name for path in sticks[0].glob("*.tar"))
    for number, name in enumerate(volumes):
        (sticks[number % 2] / name).unlink()

    succeed("install", *reversed(sticks), "--cache-dir", tmp_path / "hub")

    assert len(volumes) > 1
    assert resolved(tmp_path / "hub", MAIN, Question("org/name", "v1")) == [digests(NEW), digests(OLD)]


# --- Bundles that are not what they should be


@pytest.mark.parametrize("missing", ["new-001.tar", "index.json", "SHA256SUMS"])
def test_refuses_an_incomplete_bundle_before_the_first_write(tmp_path: Path, new: Path, missing: str) -> None:
    """What is missing is named, and the cache is not even made."""
    (new / missing).unlink()

    refused = bundle("install", new, "--cache-dir", tmp_path / "hub")

    assert refused.returncode == 41
    assert missing in refused.stderr
    assert not (tmp_path / "hub").exists()


def test_refuses_a_cut_volume_before_the_first_write(cache: Path, new: Path) -> None:
    """A copy that was broken off is seen by its size."""
    volume = new / "new-001.tar"
    os.truncate(volume, volume.stat().st_size - 1)
    before = layout_of(cache)

    refused = bundle("install", new, "--cache-dir", cache)

    assert refused.returncode == 40
    assert "new-001.tar" in refused.stderr
    assert layout_of(cache) == before


def test_a_damaged_part_leaves_the_old_state(cache: Path, new: Path) -> None:
    """One wrong bit is found before anything of its file has a name; volume and file are told."""
    volume = break_file(new, "model.safetensors")

    failed = bundle("install", new, "--cache-dir", cache)

    assert failed.returncode == 40
    assert volume in failed.stderr and "`model.safetensors` of org/name" in failed.stderr
    assert resolved(cache, MAIN) == [digests(OLD)]
    assert not (cache / FOLDER / "snapshots" / NEW.snapshot.commit).exists()
    assert wrong_blobs(cache) == staged(cache) == []


def test_goes_on_once_the_damaged_volume_was_copied_again(tmp_path: Path, cache: Path, new: Path) -> None:
    """A failed install stands in the way of nothing."""
    good = shutil.copytree(new, tmp_path / "gateway" / "new")
    volume = break_file(new, "model.safetensors")
    failed = bundle("install", new, "--cache-dir", cache)
    shutil.copy(good / volume, new / volume)

    succeed("install", new, "--cache-dir", cache)

    assert failed.returncode == 40
    assert resolved(cache, MAIN) == [digests(NEW)]


def test_writes_no_bytes_under_a_git_id_that_is_not_theirs(tmp_path: Path, cache: Path) -> None:
    """A bundle that gives its bytes the name of another blob cannot change that blob under older snapshots."""
    evil = Repo(id="org/name", files={"config.json": b'{"auto_map": "evil"}', "README.md": b"innocent"})
    files = tuple(
        replace(file, etag=git_oid(OLD.files["config.json"])) if file.path == "config.json" else file
        for file in evil.snapshot.files)
    lies = make_bundle(tmp_path / "lies", repos=[evil], snapshots=[replace(evil.snapshot, files=files)])

    refused = bundle("install", lies, "--cache-dir", cache)

    assert refused.returncode == 40
    assert git_oid(OLD.files["config.json"]) in refused.stderr
    assert resolved(cache, MAIN) == [digests(OLD)]
    assert wrong_blobs(cache) == []


def test_writes_no_blob_that_its_parts_do_not_make_up(cache: Path, new: Path) -> None:
    """Every part is as it was signed, and yet they are another file: it gets no name."""
    wrong = hashlib.sha256(b"something else").hexdigest()
    weights = hashlib.sha256(OTHER_WEIGHTS).hexdigest()

    def lie(index: Document) -> None:
        for entry in (*index["blobs"], *index["snapshots"][0]["files"]):
            if entry["sha256"] == weights:
                entry |= {"sha256": wrong} | ({"etag": wrong} if "etag" in entry else {})

    reseal(new, lie)

    refused = bundle("install", new, "--cache-dir", cache)

    assert refused.returncode == 40
    assert f"blob {wrong} are whole, but make up {weights}" in refused.stderr and "build it again" in refused.stderr
    assert resolved(cache, MAIN) == [digests(OLD)]
    assert wrong_blobs(cache) == staged(cache) == []


# --- Disks


def test_says_how_much_room_is_missing_before_it_writes(tmp_path: Path, new: Path) -> None:
    """On a file system that is too small the numbers are told, and no file is left but the lock's."""
    with small_disk(tmp_path / "disk", 600_000) as disk:
        refused = bundle("install", new, "--cache-dir", disk / "hub")

        left = {path: told for path, told in layout_of(disk).items() if not told.startswith("folder")}

    assert refused.returncode == 61
    assert f"{sum(map(len, NEW.files.values())):,}" in refused.stderr and "--cache-dir" in refused.stderr
    assert set(left) <= {f"hub/{FOLDER}/.bundler/lock"}


def test_what_is_there_already_needs_no_room(tmp_path: Path, old: Path) -> None:
    """A bundle that the disk could not hold twice is installed over itself."""
    with small_disk(tmp_path / "disk", 2_000_000) as disk:
        succeed("install", old, "--cache-dir", disk / "hub")

        report = report_of(old, "--cache-dir", disk / "hub")

    assert report["written"] == 0


def test_a_disk_that_fills_up_midway_loses_nothing(tmp_path: Path) -> None:
    """Blobs fit, but not the links to them: it says so, keeps the old state and the blobs, and goes on afterwards."""
    many = Repo(id="org/name", files={**NEW.files, **{f"{n:03}.json": b"%d" % n for n in range(100)}})
    bundles = [make_bundle(tmp_path / "old", repos=[OLD]), make_bundle(tmp_path / "many", repos=[many])]
    with small_disk(tmp_path / "disk", 8 << 20, names=150) as disk:
        succeed("install", bundles[0], "--cache-dir", disk)

        failed = bundle("install", bundles[1], "--cache-dir", disk)

        assert failed.returncode == 62
        assert "No space left" in failed.stderr and "goes on" in failed.stderr
        assert resolved(disk, MAIN) == [digests(OLD)]
        assert wrong_blobs(disk) == staged(disk) == []
        subprocess.run(["mount", "-o", "remount,nr_inodes=0", disk], check=True)
        assert report_of(bundles[1], "--cache-dir", disk)["written"] == 0
        assert resolved(disk, MAIN) == [digests(many)]


# --- Who may read, who may write


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_everybody_may_read_whatever_the_umask(tmp_path: Path, new: Path, umask: int) -> None:
    """Folders are 0755 and files 0644, the cache's own folder and what had to be made above it included."""
    succeed("install", new, "--cache-dir", tmp_path / "home" / "hub", umask=umask)

    told = layout_of(tmp_path / "home")
    own = [path for path in told if path.endswith(".bundler/lock")]
    modes = {text.split()[0] + " " + text.split()[1] for path, text in told.items() if path not in own}
    assert {mode for mode in modes if not mode.startswith("link")} == {"folder 0755", "file 0644"}


@pytest.fixture
def users_folder() -> Iterator[Path]:
    """A folder that an ordinary user can reach and owns."""
    with tempfile.TemporaryDirectory(prefix="user-") as folder:
        path = Path(folder)
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
        yield path


def as_ordinary_user() -> list[str]:
    """Return the command that runs another one without root's rights."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all"]


def test_needs_no_root(users_folder: Path) -> None:
    """An ordinary user installs into a folder of his own, and the default place is in his home."""
    bundles = make_bundle(users_folder / "stick" / "new", repos=[NEW])

    variables = {"HOME": str(users_folder), "HF_HOME": None}
    succeed("install", bundles, under=as_ordinary_user(), variables=variables, cwd=users_folder)

    place = users_folder / ".cache" / "huggingface" / "hub"
    assert resolved(place, MAIN) == [digests(NEW)]
    assert {path.lstat().st_uid for path in place.rglob("*")} == {users_folder.stat().st_uid}


def test_says_what_an_ordinary_user_may_not_write(users_folder: Path) -> None:
    """A folder of somebody else's is named with the reason, without a traceback."""
    bundles = make_bundle(users_folder / "stick" / "new", repos=[NEW])
    closed = users_folder / "closed"
    closed.mkdir(mode=0o555)

    refused = bundle("install", bundles, "--cache-dir", closed / "hub", under=as_ordinary_user(), cwd=users_folder,
                     variables={"HOME": str(users_folder)})

    assert refused.returncode == 62
    assert str(closed / "hub") in refused.stderr and "Permission denied" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_needs_no_network(tmp_path: Path, new: Path) -> None:
    """Where there is none at all, not even loopback, the install is the same."""
    succeed("install", new, "--cache-dir", tmp_path / "hub", under=without_network())

    assert resolved(tmp_path / "hub", MAIN) == [digests(NEW)]


# --- Several at once, and killed ones


def test_a_second_installer_waits_and_says_for_whom(cache: Path, new: Path) -> None:
    """The one who came first is named by the number of its process; then the other goes on by itself."""
    with ExitStack() as first:
        first.enter_context(RepoFolder.of(cache, RepoId(RepoType.MODEL, "org/name")).exclusively(ignore))
        with running("install", new, "--cache-dir", cache) as second:
            assert second.stderr is not None
            said = second.stderr.readline()
            while_waiting = resolved(cache, MAIN)
            first.close()
            _, rest = second.communicate(timeout=120)

    assert f"waiting for process {os.getpid()}," in said and FOLDER in said
    assert while_waiting == [digests(OLD)]
    assert second.returncode == 0, rest
    assert resolved(cache, MAIN) == [digests(NEW)]


def test_two_installers_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """Two bundles with the same repositories in opposite order are installed at once, and both end well."""
    others = [replace(OLD, id="a/other"), replace(NEW, id="a/other")]
    bundles = [make_bundle(tmp_path / "one", repos=[OLD, others[0]]),
               make_bundle(tmp_path / "two", repos=[others[1], NEW])]

    with ExitStack() as both:
        started = [both.enter_context(running("install", each, "--cache-dir", tmp_path / "hub")) for each in bundles]
        errors = [process.communicate(timeout=120)[1] for process in started]

    assert [process.returncode for process in started] == [0, 0], errors
    for question in (MAIN, Question("a/other")):
        assert resolved(tmp_path / "hub", question)[0] in (digests(OLD), digests(NEW))
    assert wrong_blobs(tmp_path / "hub") == staged(tmp_path / "hub") == []


_HOLD = """
import sys
from pathlib import Path
from bundler.progress import ignore
from bundler.target.hubcache import RepoFolder

folder = RepoFolder(Path(sys.argv[1]))
with folder.exclusively(ignore):
    (folder.staging / "half.tmp").write_bytes(b"half a blob")
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_killed_holder_blocks_nobody(cache: Path, new: Path) -> None:
    """The lock of a process that is gone is no lock, and what it had staged is removed."""
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, cache / FOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    holder.kill()
    holder.communicate()
    left = staged(cache)

    done = succeed("install", new, "--cache-dir", cache)

    assert len(left) == 1 and staged(cache) == []
    assert "waiting" not in done.stderr
    assert resolved(cache, MAIN) == [digests(NEW)]


_KILLED_AT = """
import os, signal, sys
from pathlib import Path

_, limit, bundle, cache = sys.argv
CHANGES = {"os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate"}
done = 0

def count(event, arguments):
    global done
    if event in CHANGES:
        if done == int(limit):
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1

sys.addaudithook(count)
from bundler.target.install import install_bundle
install_bundle((Path(bundle),), Path(cache), workers=2)
print(done)
"""
"""Installs, and is killed right before one more change of names or modes than the limit; else says how many it made."""


def killed_at(step: int, bundle_folder: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """Install, with an end before that change of the file system, from 0."""
    command = [sys.executable, "-c", _KILLED_AT, str(step), str(bundle_folder), str(cache)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_every_step_may_be_the_last_one(tmp_path: Path, old: Path) -> None:
    """Killed before any change of the file system, all that has a name is right, and the next run completes."""
    new = make_bundle(tmp_path / "new", repos=[NEW, replace(NEW, id="org/other", refs=("main", "v2"))])
    install_bundle((old,), tmp_path / "counted", workers=2)
    undisturbed = killed_at(10**9, new, tmp_path / "counted")

    for step in range(int(undisturbed.stdout)):
        cache = tmp_path / "hub"
        install_bundle((old,), cache, workers=2)

        killed = killed_at(step, new, cache)

        assert killed.returncode == -signal.SIGKILL, (step, killed.stderr)
        assert wrong_blobs(cache) == [], step
        seen = digests_below(Path(snapshot_download("org/name", cache_dir=cache, local_files_only=True)))
        assert seen in (digests(OLD), digests(NEW)), step
        for snapshot in cache.glob("models--*/snapshots/*"):
            assert digests_below(snapshot) in (digests(OLD), digests(NEW)), step
        install_bundle((new,), cache, workers=2)
        for name in ("org/name", "org/other"):
            found = snapshot_download(name, cache_dir=cache, local_files_only=True)
            assert digests_below(Path(found)) == digests(NEW), step
        assert staged(cache) == [], step
        shutil.rmtree(cache)
