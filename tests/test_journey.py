"""The whole way, nothing left out: a hub, `bundle build` with aria2c, a stick, `bundle install`, huggingface_hub."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import pytest

from tests.bundle_command import succeed
from tests.faulty_hub import FaultyHubServer
from tests.manifests import write_manifest
from tests.offline_reader import Answers, Digests, Question, ask_offline, digests_below

Files = Mapping[str, bytes]

SMALLEST_VOLUME = "18MiB"
TWIN = b"the same bytes in many places\n" * 5000
COMPOSED, DECOMPOSED = "caf\u00e9.txt", "cafe\u0301.txt"

NASTY: Files = {
    ".gitattributes": b"*.bin filter=lfs\n",
    ".hidden/.deeper/.x": b"x",
    "-rf": b"not an option",
    "--help/--version": b"neither",
    "a/b/c/d/e/f/g/h/i/j/k/l/m/n/deep.json": b"{}",
    "a b/ c  d /e f.txt": b"spaces",
    "100%/%41%2F%00.txt": b"percent",
    "a+b=c&d;e#f?g.txt": b"what URLs are made of",
    "it's \"quoted\" `$HOME` $(id) {x} <y> |z| !.sh": b"what shells are made of",
    "*.json": b"not a pattern",
    "data [1] (2) ~3^4@5,6.bin": b"brackets, and LFS",
    "con": b"a device elsewhere",
    "trailing.": b"a dot at the end",
    COMPOSED: b"composed",
    DECOMPOSED: b"decomposed",
    "\u6a21\u578b/\u0440\u0443\u0441\u0441\u043a\u0438\u0439/\U0001f917 \u202etxt.exe": b"far away",
    "CASE.txt": b"upper",
    "case.txt": b"lower",
    "n" * 251 + ".txt": b"as long as a name may be",
    "/".join(["p" * 99] * 10): b"a long path",
    "empty": b"",
    "empty.bin": b"",
    "crlf.txt": b"one\r\ntwo\r\n",
    "zeros.bin": bytes(100_000),
    "twin.txt": TWIN,
    "sub/twin.bin": TWIN,
    "sub/twin too.txt": TWIN,
}
MIXED: Files = {"twin.bin": TWIN, "data/train.jsonl": b'{"text": "a"}\n' * 1000, "README.md": b"# Data\n"}
SPACE: Files = {"app.py": b"print('hello')\n", "twin.txt": TWIN, "requirements.txt": b""}
CHOSEN: Files = {
    "config.json": b"{}", "onnx/config.json": b"{ }", "onnx/model.onnx": b"onnx", "model.safetensors": b"st",
    "pytorch_model.bin": b"pickle", "notes/a.txt": b"a", "notes/b.txt": b"b", "notes/deep/c.txt": b"c",
    "README.md": b"read", "readme.MD": b"me",
}


def safetensors(seed: int, tensors: int, rows: int) -> bytes:
    """Return a file that looks like BF16 weights to anybody: a header, then matrices of `rows` times 1,024."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    size = rows * 1024 * 2
    for number in range(tensors):
        entries[f"layers.{number}.weight"] = {
            "dtype": "BF16", "shape": [rows, 1024], "data_offsets": [number * size, (number + 1) * size]}
    header = json.dumps(entries).encode()
    weights = np.random.default_rng(seed).normal(0, 0.02, tensors * rows * 1024).astype("<f4")
    return struct.pack("<Q", len(header)) + header + (weights.view("<u4") >> 16).astype("<u2").tobytes()


LARGE: Files = {
    "model-00001-of-00002.safetensors": safetensors(1, tensors=5, rows=1100),
    "model-00002-of-00002.safetensors": Random(2).randbytes(12 << 20),
    "training.txt": b"a line of text that is here again and again\n" * 250_000,
}


def versions() -> dict[str, Files]:
    """Return the commits of a repository with a history, by a name for each."""
    weights = Random(3).randbytes(300_000)
    return {name: {"config.json": json.dumps({"version": name}).encode(), "same.bin": weights, "notes.txt": b"same",
                   f"only-in-{name}.txt": name.encode()} for name in ("first", "second", "third", "branch", "pr")}


@dataclass(kw_only=True)
class Published:
    """What a hub was given, and what a manifest asks of it."""

    endpoint: str
    requests: list[dict[str, object]] = field(default_factory=list)

    expected: dict[Question, Digests] = field(default_factory=dict)
    """What must be found under every name."""

    commits: dict[str, str] = field(default_factory=dict)
    """Of the repository with a history, by the names of `versions`."""

    def ask(
        self, name: str, files: Files, *, revision: str = "main", kind: str = "model", **patterns: list[str]
    ) -> None:
        """Ask for a repository in which `files` shall be found."""
        self.requests.append({"id": name, "revision": revision, "type": kind, **patterns})
        self.expected[Question(name, revision, kind)] = digests(files)


@dataclass(frozen=True, kw_only=True)
class Journey:
    """All that there is at the end of the way."""

    published: Published

    folder: Path
    """The bundle."""

    cache: Path
    answers: Answers


def digests(files: Files) -> Digests:
    """Return the SHA-256 of each file."""
    return {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}


def picked(files: Files, *paths: str) -> Files:
    """Return some of the files."""
    return {path: files[path] for path in paths}


def publish_all(hub: FaultyHubServer) -> Published:
    """Put everything nasty on a hub, and ask for it."""
    published = Published(endpoint=hub.endpoint)
    for name, files, kind in (
        ("Org-X/Nasty.Names_1", NASTY, "model"), ("solo", MIXED, "model"), ("org/mixed", CHOSEN, "model"),
        ("org/mixed", MIXED, "dataset"), ("org/mixed", SPACE, "space"), ("org/large", LARGE, "model"),
    ):
        hub.publish(name, files, repo_type=kind)
        published.ask(name, files, kind=kind)
    hub.publish("org/chosen", CHOSEN)
    chosen = picked(CHOSEN, "config.json", "onnx/config.json", "onnx/model.onnx", "notes/deep/c.txt", "README.md")
    include, exclude = ["*.json", "onnx/", "notes/*", "*.md", "*.bin"], ["notes/[ab].txt", "pytorch_*"]
    published.ask("org/chosen", chosen, include=include, exclude=exclude)
    publish_history(hub, published)
    return published


def publish_history(hub: FaultyHubServer, published: Published) -> None:
    """Ask for one repository by every kind of name, two of them for the same commit."""
    version, name = versions(), "org/history"
    commits = published.commits = {
        "first": hub.publish(name, version["first"]),
        "second": hub.publish(name, version["second"]),
        "third": hub.publish(name, version["third"]),
        "branch": hub.publish(name, version["branch"], branch="feature/x.y"),
        "pr": hub.publish(name, version["pr"], branch=None, refs=["refs/pr/1"]),
    }
    hub.tag(name, "v1.0", commits["first"])
    hub.tag(name, "latest", commits["third"])
    united = picked(version["third"], "config.json", "same.bin", "notes.txt")
    published.ask(name, united, include=["*.json", "*.bin"])
    published.ask(name, united, revision="latest", include=["notes.txt", "*.bin"])
    published.ask(name, version["first"], revision="v1.0")
    published.ask(name, version["first"], revision=commits["first"][:8])
    published.ask(name, version["second"], revision=commits["second"])
    published.ask(name, version["branch"], revision="feature/x.y")
    published.ask(name, version["pr"], revision="refs/pr/1")


def carry(published: Published, place: Path, *, volume_size: str) -> Journey:
    """Build what was asked for, install it, and ask the cache for it."""
    manifest = write_manifest(place / "everything.toml", *published.requests, endpoints=[published.endpoint])
    succeed("build", manifest, "-o", place / "out", "--staging", place / "staging", "--volume-size", volume_size)
    folder, cache = place / "out" / "everything", place / "hub"
    succeed("install", folder, "--cache-dir", cache)
    return Journey(published=published, folder=folder, cache=cache, answers=ask_offline(cache, published.expected))


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    """Everything nasty, carried over once; the hub is gone by then."""
    with FaultyHubServer() as hub:
        published = publish_all(hub)
        made = carry(published, tmp_path_factory.mktemp("journey"), volume_size=SMALLEST_VOLUME)
    yield made


def run(*command: str | Path, folder: Path | None = None) -> str:
    """Run another program, which must succeed, and return what it printed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def member_digests(volume: Path, into: Path) -> dict[str, str]:
    """Extract a volume with stock tar and return the digest of each member by its name."""
    names = run("tar", "-tf", volume).split()
    into.mkdir()
    run("tar", "-xf", volume, "-C", into)
    found = digests_below(into)
    assert sorted(found) == sorted(names)
    return found


def test_every_repository_arrives_byte_for_byte(journey: Journey) -> None:
    """`snapshot_download` without a network gives exactly the files that were asked for, under every name."""
    assert journey.answers.snapshots == journey.published.expected


def test_every_file_is_found_by_its_own_name(journey: Journey) -> None:
    """`hf_hub_download` without a network gives each file, whatever its name."""
    assert journey.answers.files == journey.published.expected


def test_a_scan_of_the_cache_finds_all_and_warns_of_nothing(journey: Journey) -> None:
    """`scan_cache_dir` lists the commits with the names that were asked for, and has nothing to complain about."""
    commits = journey.published.commits

    history = {commit: refs for (kind, name, commit), refs in journey.answers.refs.items() if name == "org/history"}
    repos = {(kind, name) for kind, name, _ in journey.answers.refs}

    assert journey.answers.warnings == []
    assert repos == {(question.type, question.id) for question in journey.published.expected}
    assert {commit: refs - {commit} for commit, refs in history.items()} == {
        commits["first"]: {"v1.0", commits["first"][:8]}, commits["second"]: set(),
        commits["third"]: {"main", "latest"}, commits["branch"]: {"feature/x.y"}, commits["pr"]: {"refs/pr/1"}}


def test_sha256sum_proves_every_file_of_the_bundle(journey: Journey) -> None:
    """`sha256sum -c SHA256SUMS` passes, and knows every file there is."""
    told = run("sha256sum", "-c", "SHA256SUMS", folder=journey.folder).splitlines()

    assert sorted(told) == sorted(f"{path.name}: OK" for path in journey.folder.iterdir() if path.name != "SHA256SUMS")


def test_stock_tar_opens_every_volume(journey: Journey, tmp_path: Path) -> None:
    """`tar -tf` and `tar -xf` know the volumes; every member is named by its SHA-256."""
    volumes = sorted(journey.folder.glob("*.tar"))

    members = [member_digests(volume, tmp_path / volume.name) for volume in volumes]

    assert [volume.name for volume in volumes] == ["everything-001.tar", "everything-002.tar"]
    assert all(volume.stat().st_size <= 18 << 20 for volume in volumes)
    assert all(name == f"parts/{digest}" for each in members for name, digest in each.items())


def test_the_bundle_restores_itself_without_us(journey: Journey, tmp_path: Path) -> None:
    """`python3 -I restore.py` gives all original files, with plain names and contents."""
    run(sys.executable, "-I", journey.folder / "restore.py", tmp_path / "restored")

    restored = digests_below(tmp_path / "restored")
    assert restored == restored_layout(journey.published)


def restored_layout(published: Published) -> Digests:
    """Return the files as `restore.py` promises to lay them out."""
    commits = published.commits
    by_revision = {
        "main": "third", "latest": "third", "v1.0": "first", commits["first"][:8]: "first",
        commits["second"]: "second", "feature/x.y": "branch", "refs/pr/1": "pr"}
    layout: Digests = {}
    for question, files in published.expected.items():
        folder = {"model": "", "dataset": "datasets/", "space": "spaces/"}[question.type] + question.id
        if question.id == "org/history":
            folder += f"/{commits[by_revision[question.revision]]}"
        layout |= {f"{folder}/{path}": digest for path, digest in files.items()}
    return layout


def test_two_sticks_make_one_bundle(journey: Journey, tmp_path: Path) -> None:
    """Volumes spread over two folders verify and install when both are named, in any order."""
    one, two = tmp_path / "one", tmp_path / "two"
    shutil.copytree(journey.folder, one, ignore=shutil.ignore_patterns("*-002.tar"))
    shutil.copytree(journey.folder, two, ignore=shutil.ignore_patterns("*-001.tar"))

    found = json.loads(succeed("verify", "--allow-unsigned", "--json", one, two).stdout)
    succeed("install", two, one, "--cache-dir", tmp_path / "hub")

    assert found["problems"] == [] and found["foreign"] == []
    assert found["blobs_proven"] == found["blobs"]
    assert cache_state(tmp_path / "hub") == cache_state(journey.cache)


DOWNLOAD = """
import sys, huggingface_hub
name, kind, cache, endpoint = sys.argv[1:]
huggingface_hub.snapshot_download(name, repo_type=kind, cache_dir=cache, endpoint=endpoint)
"""


def cache_state(cache: Path) -> dict[str, object]:
    """Return all that readers of a cache can see: links, bytes, tree listings; not what each client keeps beside."""
    state: dict[str, object] = {}
    for path in sorted(cache.glob("*--*/*/**/*")):
        name = path.relative_to(cache)
        if path.is_symlink():
            state[str(name)] = os.readlink(path)
        elif path.is_file() and ".bundler" not in name.parts:
            content = path.read_bytes()
            state[str(name)] = json.loads(content) if name.parts[1] == "trees" else hashlib.sha256(content).hexdigest()
    return state


@pytest.mark.parametrize("name, kind", [
    ("Org-X/Nasty.Names_1", "model"), ("solo", "model"), ("org/mixed", "dataset"), ("org/mixed", "space")])
def test_the_cache_is_the_one_that_the_hub_client_makes(
    hub: FaultyHubServer, journey: Journey, tmp_path: Path, name: str, kind: str
) -> None:
    """Links, blobs, refs and listings of a repository are those of `snapshot_download` itself."""
    files = {("model", "solo"): MIXED, ("model", "Org-X/Nasty.Names_1"): NASTY, ("dataset", "org/mixed"): MIXED,
             ("space", "org/mixed"): SPACE}[kind, name]
    commit = hub.publish(name, files, repo_type=kind)

    run(sys.executable, "-c", DOWNLOAD, name, kind, tmp_path / "hub", hub.endpoint)

    folder = f"{kind}s--{name.replace('/', '--')}"
    ours = {path: seen for path, seen in cache_state(journey.cache).items() if path.startswith(f"{folder}/")}
    assert ours.pop(f"{folder}/refs/{commit}") == hashlib.sha256(commit.encode()).hexdigest()
    assert ours == cache_state(tmp_path / "hub")


def test_thousands_of_small_files_arrive(hub: FaultyHubServer, tmp_path: Path) -> None:
    """A repository of 1,500 small files is as good as one of three."""
    files = {f"shard-{number % 7}/{number:04d}.json": f'{{"number": {number}}}'.encode() for number in range(1500)}
    hub.publish("org/many", files, repo_type="dataset")
    published = Published(endpoint=hub.endpoint)
    published.ask("org/many", files, kind="dataset")

    journey = carry(published, tmp_path, volume_size=SMALLEST_VOLUME)

    assert journey.answers.snapshots == published.expected
    assert journey.answers.warnings == []


@pytest.mark.slow
def test_a_sharded_model_fills_many_volumes(hub: FaultyHubServer, tmp_path: Path) -> None:
    """300 MB of weights in three shards arrive over several volumes, and their bytes restore without us, too."""
    source = tmp_path / "source"
    source.mkdir()
    shards = [source / f"model-{number:05d}-of-00003.safetensors" for number in (1, 2, 3)]
    for number, path in enumerate(shards):
        path.write_bytes(safetensors(number, tensors=8, rows=6250))
    hub.publish("org/sharded", {path.name: path for path in shards})
    published = Published(endpoint=hub.endpoint, requests=[{"id": "org/sharded"}])
    published.expected[Question("org/sharded")] = digests_below(source)

    journey = carry(published, tmp_path, volume_size="50MiB")
    run(sys.executable, "-I", journey.folder / "restore.py", tmp_path / "restored")

    sizes = [path.stat().st_size for path in journey.folder.glob("*.tar")]
    assert len(sizes) >= 4 and max(sizes) <= 50 << 20
    assert journey.answers.snapshots == published.expected
    assert digests_below(tmp_path / "restored/org/sharded") == published.expected[Question("org/sharded")]
