"""What `bundle install` leaves in the cache is what huggingface_hub itself would have written, and can read."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir, snapshot_download, try_to_load_from_cache

from bundler.target.hubcache import default_cache_dir
from bundler.target.install import install_bundle
from tests.bundle_command import environment
from tests.bundles import Repo, git_oid, make_bundle, noise
from tests.cache_layout import layout_of, listed
from tests.faulty_hub import FaultyHubServer
from tests.offline_reader import Question, ask_offline, digests_below

FILES = {
    ".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
    "README.md": b"---\nlicense: mit\n---\n",
    "config.json": b'{"model_type": "llama"}\n',
    "empty.txt": b"",
    "empty.bin": b"",
    "model.safetensors": noise("weights", 1_300_000),
    "onnx/fp16/model.onnx": noise("onnx", 5000),
    "tokenizer/\u91cd\u307f \u00fc.json": b"[]\n",
}
REVISIONS = ("main", "v1.0", "refs/pr/1", "feature/x")
FOLDER = "models--org--name"


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    """The client leaves modes to the umask."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def publish(hub: FaultyHubServer, *, repo_type: str = "model") -> str:
    """Publish `FILES` under all of `REVISIONS`, and return the commit."""
    commit = hub.publish("org/name", FILES, refs=["refs/pr/1", "refs/heads/feature/x"], repo_type=repo_type)
    hub.tag("org/name", "v1.0", commit, repo_type=repo_type)
    return commit


def same_tree(cache_dir: Path, other: Path, folder: str, commit: str) -> bool:
    """Compare two tree listings by what they say; their spelling is free."""
    return listed(cache_dir / folder, commit) == listed(other / folder, commit)


def comparable(cache_dir: Path, folder: str, commit: str) -> dict[str, str]:
    """Return the layout of a repository's folder without what is ours alone, and without the tree's spelling."""
    own = re.compile(rf"\.bundler(/.*)?|refs/{commit}|trees/{commit}\.json")
    return {path: told for path, told in layout_of(cache_dir / folder).items() if not own.fullmatch(path)}


@pytest.mark.parametrize(("repo_type", "folder"), [("model", FOLDER), ("dataset", "datasets--org--name")])
def test_writes_what_the_hub_client_writes(
    hub: FaultyHubServer, tmp_path: Path, repo_type: str, folder: str
) -> None:
    """Names, link targets, modes, refs, blobs and the tree listing are those of a download, byte for byte."""
    commit = publish(hub, repo_type=repo_type)
    repo = Repo(id="org/name", type=repo_type, files=FILES, refs=REVISIONS, commit=commit)
    bundle = make_bundle(tmp_path / "some", repos=[repo])
    for revision in (*REVISIONS, commit):
        snapshot_download(
            "org/name", repo_type=repo_type, revision=revision, cache_dir=tmp_path / "client", endpoint=hub.endpoint)

    install_bundle((bundle,), tmp_path / "ours", workers=2)

    assert comparable(tmp_path / "ours", folder, commit) == comparable(tmp_path / "client", folder, commit)
    assert same_tree(tmp_path / "ours", tmp_path / "client", folder, commit)
    assert layout_of(tmp_path / "ours" / folder)[f"trees/{commit}.json"].startswith("file 0644")
    for revision in (*REVISIONS, commit):
        assert (tmp_path / "ours" / folder / "refs" / revision).read_bytes() == commit.encode()
    assert [path.name for path in (tmp_path / "ours").iterdir()] == [folder]


def test_installing_over_a_download_changes_nothing(hub: FaultyHubServer, tmp_path: Path) -> None:
    """Where the client was first, only the commit's own ref, the tree's mode and our folder are new."""
    commit = publish(hub)
    snapshot_download("org/name", cache_dir=tmp_path, endpoint=hub.endpoint)
    before = comparable(tmp_path, FOLDER, commit)
    bundle = make_bundle(tmp_path / "b" / "some", repos=[Repo(id="org/name", files=FILES, commit=commit)])

    report = install_bundle((bundle,), tmp_path, workers=2)

    assert comparable(tmp_path, FOLDER, commit) == before
    assert report.written == 0


def test_the_client_downloads_nothing_again_after_an_install(hub: FaultyHubServer, tmp_path: Path) -> None:
    """A client that is online takes every installed file for its own."""
    commit = publish(hub)
    bundle = make_bundle(tmp_path / "some", repos=[Repo(id="org/name", files=FILES, commit=commit)])
    install_bundle((bundle,), tmp_path / "hub", workers=2)

    snapshot_download("org/name", cache_dir=tmp_path / "hub", endpoint=hub.endpoint)

    assert hub.asked("*/resolve/*", method="GET") == ()
    assert hub.asked(host="cdn") == ()


def test_every_revision_resolves_offline(tmp_path: Path) -> None:
    """`main`, a tag, a pull request, a branch with a slash and the commit lead another process to the same files."""
    repo = Repo(id="org/name", files=FILES, refs=REVISIONS)
    install_bundle((make_bundle(tmp_path / "some", repos=[repo]),), tmp_path / "hub", workers=2)
    commit = repo.snapshot.commit
    questions = [Question("org/name", revision) for revision in (*REVISIONS, commit)]

    answers = ask_offline(tmp_path / "hub", questions)

    right = {file.path: file.sha256 for file in repo.snapshot.files}
    assert answers.snapshots == answers.files == dict.fromkeys(questions, right)
    assert answers.refs == {("model", "org/name", commit): {*REVISIONS, commit}}
    assert answers.warnings == []


def test_a_part_of_a_repository_is_listed_as_that_part(hub: FaultyHubServer, tmp_path: Path) -> None:
    """The tree names what was installed and no more, so that no client takes the snapshot for incomplete."""
    commit = publish(hub)
    some = {path: content for path, content in FILES.items() if path.endswith(".json")}
    bundle = make_bundle(tmp_path / "some", repos=[Repo(id="org/name", files=some, commit=commit)])

    install_bundle((bundle,), tmp_path / "hub", workers=2)

    assert set(listed(tmp_path / "hub" / FOLDER, commit)) == set(some)
    question = Question("org/name")
    assert set(ask_offline(tmp_path / "hub", [question]).snapshots[question]) == set(some)


def test_a_listing_of_more_than_is_there_is_replaced(hub: FaultyHubServer, tmp_path: Path) -> None:
    """A filtered download lists all files of the commit; afterwards the listing says what is there."""
    commit = publish(hub)
    snapshot_download("org/name", allow_patterns=["*.md"], cache_dir=tmp_path / "hub", endpoint=hub.endpoint)
    assert set(listed(tmp_path / "hub" / FOLDER, commit)) == set(FILES)
    some = {"config.json": FILES["config.json"]}
    bundle = make_bundle(tmp_path / "some", repos=[Repo(id="org/name", files=some, commit=commit)])

    install_bundle((bundle,), tmp_path / "hub", workers=2)

    assert set(listed(tmp_path / "hub" / FOLDER, commit)) == {"README.md", "config.json"}
    question = Question("org/name")
    assert set(ask_offline(tmp_path / "hub", [question]).snapshots[question]) == {"README.md", "config.json"}


@pytest.mark.parametrize("tree", [
    b"", b"{", b"[]", b"null", b"\xff\xfe",
    b'{"format_version": 1, "files": []}', b'{"format_version": 1, "files": "all"}',
    b'{"format_version": 1, "files": {"../../refs/main": {}, "": {}, "' + 300 * b"x" + b'": {}, "mine.txt": 5}}',
    b'{"format_version": 9, "files": {"mine.txt": {"size": "?"}}}',
])
def test_a_listing_that_makes_no_sense_is_replaced(tmp_path: Path, tree: bytes) -> None:
    """Whatever stands in an old tree listing, the new one is right."""
    repo = Repo(id="org/name", files=FILES)
    old = tmp_path / "hub" / FOLDER / "trees" / f"{repo.snapshot.commit}.json"
    old.parent.mkdir(parents=True)
    old.write_bytes(tree)
    mine = tmp_path / "hub" / FOLDER / "snapshots" / repo.snapshot.commit / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.touch()

    install_bundle((make_bundle(tmp_path / "some", repos=[repo]),), tmp_path / "hub", workers=2)

    assert set(listed(tmp_path / "hub" / FOLDER, repo.snapshot.commit)) == set(FILES)


def test_merges_into_a_part_of_the_same_commit(hub: FaultyHubServer, tmp_path: Path) -> None:
    """Files that a client fetched earlier stay, what was missing comes, in new folders and in old ones."""
    commit = publish(hub)
    snapshot_download(
        "org/name", allow_patterns=["README.md", "onnx/*"], cache_dir=tmp_path / "hub", endpoint=hub.endpoint)
    files = {path: FILES[path] for path in FILES if path != "README.md"} | {"onnx/other/x.json": b"{}"}
    bundle = make_bundle(tmp_path / "some", repos=[Repo(id="org/name", files=files, commit=commit)])

    install_bundle((bundle,), tmp_path / "hub", workers=2)

    expected = Repo(id="org/name", files={**FILES, **files}).snapshot.files
    question = Question("org/name")
    right = {file.path: file.sha256 for file in expected}
    assert ask_offline(tmp_path / "hub", [question]).snapshots[question] == right
    assert set(listed(tmp_path / "hub" / FOLDER, commit)) == {*FILES, "onnx/other/x.json"}


def test_keeps_what_else_stands_in_a_snapshot(tmp_path: Path) -> None:
    """A file of the user's own in the snapshot is neither removed nor changed."""
    repo = Repo(id="org/name", files=FILES)
    snapshot = tmp_path / "hub" / FOLDER / "snapshots" / repo.snapshot.commit
    (snapshot / "mine").mkdir(parents=True)
    (snapshot / "mine" / "notes.txt").write_bytes(b"do not touch")

    install_bundle((make_bundle(tmp_path / "some", repos=[repo]),), tmp_path / "hub", workers=2)

    assert digests_below(snapshot).keys() == {*FILES, "mine/notes.txt"}
    assert (snapshot / "mine" / "notes.txt").read_bytes() == b"do not touch"


def test_replaces_wrong_files_and_links_in_a_snapshot(tmp_path: Path) -> None:
    """A copied file, a dangling link and a link to another blob all become the right link."""
    repo = Repo(id="org/name", files=FILES)
    snapshot = tmp_path / "hub" / FOLDER / "snapshots" / repo.snapshot.commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_bytes(b"edited by hand")
    (snapshot / "README.md").symlink_to("../../blobs/" + "0" * 40)
    (snapshot / "model.safetensors").symlink_to(f"../../blobs/{git_oid(FILES['README.md'])}")

    install_bundle((make_bundle(tmp_path / "some", repos=[repo]),), tmp_path / "hub", workers=2)

    assert digests_below(snapshot) == {file.path: file.sha256 for file in repo.snapshot.files}
    assert os.readlink(snapshot / "config.json") == f"../../blobs/{git_oid(FILES['config.json'])}"


def test_removes_markers_of_absence_that_are_no_longer_true(hub: FaultyHubServer, tmp_path: Path) -> None:
    """A file that was once not there is found after the install; other markers stay."""
    repo = Repo(id="org/name", files=FILES)
    commit = repo.snapshot.commit
    markers = tmp_path / "hub" / FOLDER / ".no_exist" / commit
    (markers / "onnx" / "fp16").mkdir(parents=True)
    for name in ("config.json", "onnx/fp16/model.onnx", "processor_config.json", "tokenizer"):
        (markers / name).touch()

    install_bundle((make_bundle(tmp_path / "some", repos=[repo]),), tmp_path / "hub", workers=2)

    left = {path.relative_to(markers).as_posix() for path in markers.rglob("*") if path.is_file()}
    assert left == {"processor_config.json", "tokenizer"}
    for path in FILES:
        found = try_to_load_from_cache("org/name", path, cache_dir=tmp_path / "hub")
        assert isinstance(found, str) and Path(found).read_bytes() == FILES[path]


@pytest.mark.parametrize("old", [b"", b"\n", b"0" * 40 + b"\n", b"not a commit at all", b"1" * 40])
def test_replaces_a_ref_whatever_it_says(tmp_path: Path, old: bytes) -> None:
    """Empty, ending in a newline or of another commit: a ref holds the forty digits afterwards."""
    repo = Repo(id="org/name", files=FILES)
    ref = tmp_path / "hub" / FOLDER / "refs" / "main"
    ref.parent.mkdir(parents=True)
    ref.write_bytes(old)

    install_bundle((make_bundle(tmp_path / "some", repos=[repo]),), tmp_path / "hub", workers=2)

    assert ref.read_bytes() == repo.snapshot.commit.encode()
    found = snapshot_download("org/name", cache_dir=tmp_path / "hub", local_files_only=True)
    assert digests_below(Path(found)).keys() == set(FILES)


def test_pruning_spares_what_has_no_name_but_its_commit(tmp_path: Path) -> None:
    """`hf cache prune` deletes snapshots without a ref; what was installed by commit alone has one."""
    repo = Repo(id="org/name", files=FILES, refs=())
    install_bundle((make_bundle(tmp_path / "some", repos=[repo]),), tmp_path / "hub", workers=2)

    hf = str(Path(sys.executable).with_name("hf"))
    offline = environment({"HF_HUB_OFFLINE": "1"})
    pruned = _ran([hf, "cache", "prune", "--yes", "--cache-dir", str(tmp_path / "hub")], offline)

    assert pruned.returncode == 0, pruned.stderr
    snapshot = tmp_path / "hub" / FOLDER / "snapshots" / repo.snapshot.commit
    assert digests_below(snapshot).keys() == set(FILES)


def test_deleting_with_the_client_leaves_the_rest_working(tmp_path: Path) -> None:
    """The client can delete one of two revisions that share blobs; the other one stays whole."""
    old = Repo(id="org/name", files=FILES, refs=("v1",))
    new = Repo(id="org/name", files={**FILES, "config.json": b"{}"}, refs=("main",))
    install_bundle((make_bundle(tmp_path / "some", repos=[old, new]),), tmp_path / "hub", workers=2)

    scan_cache_dir(tmp_path / "hub").delete_revisions(old.snapshot.commit).execute()

    question = Question("org/name")
    answers = ask_offline(tmp_path / "hub", [question])
    assert answers.snapshots[question] == {file.path: file.sha256 for file in new.snapshot.files}
    assert answers.warnings == []


@pytest.mark.parametrize(("variables", "expected"), [
    ({}, "/home/me/.cache/huggingface/hub"),
    ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/huggingface/hub"),
    ({"XDG_CACHE_HOME": "/xdg", "HF_HOME": "/hf"}, "/hf/hub"),
    ({"HF_HOME": "/hf", "HUGGINGFACE_HUB_CACHE": "/old"}, "/old"),
    ({"HUGGINGFACE_HUB_CACHE": "/old", "HF_HUB_CACHE": "/new", "HF_HOME": "/hf"}, "/new"),
])
def test_installs_where_the_client_looks(variables: dict[str, str], expected: str) -> None:
    """The default place is the client's own, for each of the variables that move it."""
    asking = "from huggingface_hub.constants import HF_HUB_CACHE as place; print(place)"
    cleared = dict.fromkeys(("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"))
    clients = subprocess.run(
        [sys.executable, "-c", asking], env=environment({**cleared, "HOME": "/home/me", **variables}),
        capture_output=True, text=True, check=True)

    place = default_cache_dir(variables, Path("/home/me"))

    assert str(place) == clients.stdout.strip() == expected


# --- Other versions of the client


_READ = """
import hashlib, json, os, sys
from pathlib import Path
from huggingface_hub import scan_cache_dir, snapshot_download, try_to_load_from_cache

found = {}
for revision in sys.argv[1:]:
    folder = Path(snapshot_download("org/name", revision=revision))
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    found[revision] = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    for path in found[revision]:
        assert try_to_load_from_cache("org/name", path, revision=revision) == str(folder / path)
scan = scan_cache_dir()
(repo,) = scan.repos
print(json.dumps({
    "found": found, "warnings": [str(warning) for warning in scan.warnings], "files": repo.nb_files,
    "refs": sorted(repo.refs)}))
"""

Client = Callable[[str], Path]


def _ran(command: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    """Give the folder of programs of a fresh environment with that version of huggingface_hub."""
    made: dict[str, Path] = {}

    def make(version: str) -> Path:
        if version not in made:
            folder = tmp_path_factory.mktemp("client") / version
            venv.create(folder, with_pip=True)
            programs = folder / "bin"
            # Newer releases of typer, which `hf` of 1.0 is made with, do not bring click any more.
            wanted = [f"huggingface_hub=={version}", "click"]
            pip = [str(programs / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "install", *wanted], check=True)
            made[version] = programs
        return made[version]

    return make


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("version", "listing"), [
    ("0.36.2", ("hf", "cache", "scan")), ("1.0.1", ("hf", "cache", "ls")),
])
def test_older_clients_read_what_was_installed(
    client: Client, tmp_path: Path, version: str, listing: tuple[str, ...]
) -> None:
    """Servers hold clients of many years: these resolve every revision, and scan without a warning."""
    repo = Repo(id="org/name", files=FILES, refs=REVISIONS)
    install_bundle((make_bundle(tmp_path / "some", repos=[repo]),), tmp_path / "hub", workers=2)
    commit = repo.snapshot.commit
    programs = client(version)
    offline = environment({"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")})

    told = _ran([str(programs / "python"), "-c", _READ, *REVISIONS, commit], offline)
    table = _ran([str(programs / listing[0]), *listing[1:]], offline)

    assert told.returncode == 0, told.stderr
    right = {file.path: file.sha256 for file in repo.snapshot.files}
    assert json.loads(told.stdout) == {
        "found": dict.fromkeys([*REVISIONS, commit], right), "warnings": [], "files": len(FILES),
        "refs": sorted([*REVISIONS, commit])}
    assert table.returncode == 0, table.stderr
    assert "org/name" in table.stdout
