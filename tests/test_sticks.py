"""A bundle that comes in pieces: stick by stick in any order, damaged and brought again, killed in the middle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from bundler.format.reader import Bundle, open_bundle
from bundler.target.install import install_bundle
from bundler.target.staging import JOURNAL_EVERY
from tests.bundle_command import Result, bundle, environment, succeed
from tests.bundles import Repo, flip_bit, make_bundle, noise
from tests.cache_layout import layout_of, staged, wrong_blobs
from tests.offline_reader import Digests, Question, ask_offline

TENSOR = 600_000
"""Bytes: enough for a part of its own."""


def safetensors(*tensors: bytes) -> bytes:
    """Return a file of tensors; each of them, and the header, is a part of its own in a bundle."""
    header, end = {}, 0
    for number, tensor in enumerate(tensors):
        header[f"t{number}"] = {"dtype": "U8", "shape": [len(tensor)], "data_offsets": [end, end + len(tensor)]}
        end += len(tensor)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(tensors)


MODEL = Repo(id="org/model", files={
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": safetensors(*(noise(f"tensor {number}", TENSOR) for number in range(3)))})
OTHER = Repo(id="org/other", files={"config.json": b"{}", "other.bin": noise("other", 1_100_000)})
QUESTIONS = Question("org/model"), Question("org/other")


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A bundle of four volumes: three with tensors of one file, then one of another repository."""
    return make_bundle(tmp_path / "gateway" / "gift", repos=[MODEL, OTHER], volume_size=1_250_000)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """Where the cache will be."""
    return tmp_path / "hub"


def volumes_of(folder: Path) -> list[str]:
    """Return the names of a bundle's volumes."""
    return sorted(path.name for path in folder.glob("*.tar"))


def stick(whole: Path, folder: Path, volumes: Sequence[str], *, index: bool) -> Path:
    """Copy volumes to a stick, with index and sums or without."""
    folder.mkdir()
    for name in (*volumes, *(("index.json", "SHA256SUMS") if index else ())):
        shutil.copy(whole / name, folder)
    return folder


def digests(repo: Repo) -> Digests:
    """Return the digest of each file of a repository."""
    return {file.path: str(file.sha256) for file in repo.snapshot.files}


def resolved(hub: Path, *questions: Question) -> list[Digests]:
    """Return what another process that is offline gets, and check that a scan finds no fault."""
    answers = ask_offline(hub, questions)
    assert answers.warnings == []
    return [answers.snapshots[question] for question in questions]


def report_of(done: Result) -> dict[str, Any]:
    """Return what an install reported as JSON."""
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def carried(done: Result) -> list[str]:
    """Return the volumes that an install still needs."""
    return [volume["name"] for volume in report_of(done)["to_carry"]]


def opened(whole: Path) -> Bundle:
    """Open the bundle as the gateway left it."""
    return open_bundle((whole,))


def extents_of(whole: Path, path: str) -> list[tuple[str, int, int]]:
    """Return the volume, and the first byte and size there, of each piece of a file's blob."""
    index = opened(whole).index
    sha256 = next(file.sha256 for snapshot in index.snapshots for file in snapshot.files if file.path == path)
    parts = [index.parts[extent.part] for blob in index.blobs if blob.sha256 == sha256 for extent in blob.extents]
    return [(index.volumes[part.volume].name, part.offset, part.size) for part in parts]


# --- One after another


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_sticks_come_one_after_another_in_any_order(
    tmp_path: Path, whole: Path, hub: Path, order: tuple[int, ...]
) -> None:
    """The first one says what there is; what is missing is told each time, and appears when it is whole."""
    names = volumes_of(whole)
    shares = [names[0:1], names[1:2], names[2:]]
    done = []
    for turn, number in enumerate(order):
        medium = stick(whole, tmp_path / f"stick-{number}", shares[number], index=turn == 0)
        done.append(bundle("install", medium, "--cache-dir", hub, "--json"))
        # It is taken back to where it came from.
        shutil.rmtree(medium)
        if turn < 2:
            assert list(hub.glob("*/snapshots/*")) == list(hub.glob("*/refs/*")) == []

    assert [each.returncode for each in done] == [41, 41, 0], [each.stderr for each in done]
    for turn, each in enumerate(done):
        assert carried(each) == sorted(name for number in order[turn + 1:] for name in shares[number])
    assert resolved(hub, *QUESTIONS) == [digests(MODEL), digests(OTHER)]
    assert wrong_blobs(hub) == staged(hub) == []
    assert list(hub.glob("*/.bundler/incoming/*")) == []


def test_says_for_people_what_is_still_to_come(tmp_path: Path, whole: Path, hub: Path) -> None:
    """Names and bytes of the volumes, and the way on."""
    names = volumes_of(whole)

    done = bundle("install", stick(whole, tmp_path / "a", names[:2], index=True), "--cache-dir", hub)

    assert done.returncode == 41
    for name in names[2:]:
        assert f"{name} ({(whole / name).stat().st_size:,} bytes)" in done.stdout and name in done.stderr
    assert "NOT INSTALLED: org/model" in done.stdout and "export" not in done.stdout
    assert "kept" in done.stderr


def test_a_stick_that_says_nothing_new_changes_nothing(tmp_path: Path, whole: Path, hub: Path) -> None:
    """The same stick twice: what it holds is proven in the cache, and still missing is what was."""
    medium = stick(whole, tmp_path / "a", volumes_of(whole)[1:3], index=True)
    first = bundle("install", medium, "--cache-dir", hub, "--json")
    before = {path: told for path, told in layout_of(hub).items() if not path.endswith("/lock")}

    second = bundle("install", medium, "--cache-dir", hub, "--json")

    assert (first.returncode, second.returncode) == (41, 41)
    assert carried(first) == carried(second)
    assert {path: told for path, told in layout_of(hub).items() if not path.endswith("/lock")} == before


def test_what_is_placed_or_staged_is_not_read_from_a_stick_again(tmp_path: Path, whole: Path, hub: Path) -> None:
    """A first stick that was overwritten meanwhile does not matter any more."""
    names = volumes_of(whole)
    first = stick(whole, tmp_path / "a", names[:2], index=True)
    assert bundle("install", first, "--cache-dir", hub).returncode == 41
    for name in names[:2]:
        (first / name).write_bytes(bytes((first / name).stat().st_size))

    succeed("install", first, stick(whole, tmp_path / "b", names[2:], index=False), "--cache-dir", hub)

    assert resolved(hub, *QUESTIONS) == [digests(MODEL), digests(OTHER)]


def test_whole_snapshots_need_not_wait_for_the_others(tmp_path: Path, whole: Path, hub: Path) -> None:
    """With `--keep-going` each snapshot appears as soon as it is whole; the exit code says that more is to come."""
    names = volumes_of(whole)
    medium = stick(whole, tmp_path / "a", names[-2:], index=True)

    first = bundle("install", medium, "--cache-dir", hub, "--keep-going", "--json")
    then = resolved(hub, QUESTIONS[1])
    succeed("install", stick(whole, tmp_path / "b", names[:-2], index=False), "--cache-dir", hub)

    assert first.returncode == 41
    assert [each["id"] for each in report_of(first)["installed"]] == ["org/other"]
    assert [each["id"] for each in report_of(first)["waiting"]] == ["org/model"]
    assert then == [digests(OTHER)]
    assert resolved(hub, *QUESTIONS) == [digests(MODEL), digests(OTHER)]


def test_the_first_stick_must_say_what_there_is(tmp_path: Path, whole: Path, hub: Path) -> None:
    """A later one on its own is no bundle, and nothing is written."""
    medium = stick(whole, tmp_path / "b", volumes_of(whole)[1:], index=False)

    refused = bundle("install", medium, "--cache-dir", hub)

    assert refused.returncode == 41
    assert "SHA256SUMS is missing" in refused.stderr
    assert not hub.exists()


def test_a_stick_of_another_build_is_not_taken_for_the_next_one(tmp_path: Path, whole: Path, hub: Path) -> None:
    """Neither with an index of its own, nor, without one, by the names of its volumes."""
    again = make_bundle(tmp_path / "again" / "gift", repos=[OTHER, MODEL], volume_size=1_250_000)
    names = volumes_of(whole)
    assert bundle("install", stick(whole, tmp_path / "a", names[:2], index=True), "--cache-dir", hub).returncode == 41

    with_index = bundle("install", stick(again, tmp_path / "b", names[2:], index=True), "--cache-dir", hub)
    without = bundle("install", stick(again, tmp_path / "c", names[2:], index=False), "--cache-dir", hub)

    assert with_index.returncode == 60 and "another bundle of the name gift" in with_index.stderr
    assert without.returncode == 40
    succeed("install", stick(whole, tmp_path / "d", names[2:], index=False), "--cache-dir", hub)
    assert resolved(hub, *QUESTIONS) == [digests(MODEL), digests(OTHER)]


def test_what_was_kept_of_the_index_is_proven_again(tmp_path: Path, whole: Path, hub: Path) -> None:
    """A cache is no safer than a stick."""
    names = volumes_of(whole)
    assert bundle("install", stick(whole, tmp_path / "a", names[:2], index=True), "--cache-dir", hub).returncode == 41
    (kept,) = hub.glob("*/.bundler/incoming/gift/index.json")
    flip_bit(kept, at=100)

    refused = bundle("install", stick(whole, tmp_path / "b", names[2:], index=False), "--cache-dir", hub)

    assert refused.returncode == 40
    assert "index.json has the SHA-256" in refused.stderr


# --- What is staged is a hint


def spoil_part(part: Path) -> None:
    """Change a byte in the middle of what is staged."""
    flip_bit(part, at=TENSOR // 2)


SPOILT: dict[str, Callable[[Path], object]] = {
    "a wrong byte": spoil_part,
    "a cut file": lambda part: os.truncate(part, TENSOR // 2),
    "no file": lambda part: part.unlink(),
    "no journal": lambda part: part.with_suffix(".journal").unlink(),
    "a journal that is none": lambda part: part.with_suffix(".journal").write_bytes(b"\xff{"),
    "a journal of another version": lambda part: part.with_suffix(".journal").write_text('{"journal_version": 9}'),
    "a journal that lies": lambda part: part.with_suffix(".journal").write_text(json.dumps(
        {"journal_version": 1, "held": [{"offset": 0, "length": 2**50, "sha256": "0" * 64}]})),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_what_is_staged_is_proven_before_it_is_built_upon(
    tmp_path: Path, whole: Path, hub: Path, spoilt: str
) -> None:
    """What does not prove right is read from its stick again; without that, it is asked for."""
    names = volumes_of(whole)
    assert bundle("install", stick(whole, tmp_path / "a", names[:1], index=True), "--cache-dir", hub).returncode == 41
    (part,) = hub.glob("*/.bundler/staging/*.part")
    SPOILT[spoilt](part)

    without = bundle("install", stick(whole, tmp_path / "b", names[1:], index=False), "--cache-dir", hub, "--json")
    done = succeed("install", tmp_path / "a", "--cache-dir", hub)

    assert (without.returncode, carried(without)) == (41, names[:1])
    assert done.returncode == 0
    assert resolved(hub, *QUESTIONS) == [digests(MODEL), digests(OTHER)]
    assert wrong_blobs(hub) == staged(hub) == []


def test_a_link_in_staging_is_not_written_through(tmp_path: Path, whole: Path, hub: Path) -> None:
    """Whoever shares the cache cannot turn the installer against other files."""
    names = volumes_of(whole)
    assert bundle("install", stick(whole, tmp_path / "a", names[:1], index=True), "--cache-dir", hub).returncode == 41
    (part,) = hub.glob("*/.bundler/staging/*.part")
    (tmp_path / "precious").write_bytes(b"precious")
    part.unlink()
    part.symlink_to(tmp_path / "precious")

    done = bundle("install", whole, "--cache-dir", hub)

    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert done.returncode == 0
    assert resolved(hub, *QUESTIONS) == [digests(MODEL), digests(OTHER)]


# --- Damage


def break_piece(folder: Path, whole: Path, path: str, number: int) -> str:
    """Flip a bit in a piece of a file, and return the name of its volume."""
    name, offset, size = extents_of(whole, path)[number]
    flip_bit(folder / name, at=offset + size // 2)
    return name


def test_damage_costs_what_it_hits_and_no_more(tmp_path: Path, whole: Path, hub: Path) -> None:
    """The other snapshot is installed; volume, part, file and the least to carry again are told."""
    medium = Path(shutil.copytree(whole, tmp_path / "stick"))
    name = break_piece(medium, whole, "model.safetensors", -1)

    done = bundle("install", medium, "--cache-dir", hub, "--keep-going", "--json")
    then = resolved(hub, QUESTIONS[1])
    fresh = stick(whole, tmp_path / "fresh", [name], index=True)
    succeed("install", fresh, "--cache-dir", hub)

    assert done.returncode == 40
    (problem,) = report_of(done)["problems"]
    assert (problem["kind"], problem["name"], problem["files"]) == (
        "damaged", name, ["`model.safetensors` of org/model"])
    assert report_of(done)["to_carry"] == [{"name": name, "size": (whole / name).stat().st_size}]
    assert name in done.stderr
    assert then == [digests(OTHER)]
    assert resolved(hub, *QUESTIONS) == [digests(MODEL), digests(OTHER)]


def test_damage_to_everything_is_told_at_once(tmp_path: Path, whole: Path, hub: Path) -> None:
    """Nobody travels twice because the first bad volume hid the second."""
    medium = Path(shutil.copytree(whole, tmp_path / "stick"))
    names = {break_piece(medium, whole, "model.safetensors", 1), break_piece(medium, whole, "other.bin", 0)}

    done = bundle("install", medium, "--cache-dir", hub, "--keep-going", "--json")

    assert done.returncode == 40
    assert {problem["name"] for problem in report_of(done)["problems"]} == names == set(carried(done))
    assert report_of(done)["installed"] == [] and list(hub.glob("*/snapshots/*")) == []


def test_without_keep_going_the_first_damage_ends_it(tmp_path: Path, whole: Path, hub: Path) -> None:
    """Nothing appears; what was read before is kept, and not read again."""
    medium = Path(shutil.copytree(whole, tmp_path / "stick"))
    name = break_piece(medium, whole, "model.safetensors", -1)

    failed = bundle("install", medium, "--cache-dir", hub)
    kept = staged(hub)
    shutil.copy(whole / name, medium)
    before, offset, size = extents_of(whole, "model.safetensors")[1]
    (medium / before).open("r+b").write(bytes(offset))
    succeed("install", medium, "--cache-dir", hub)

    assert failed.returncode == 40 and name in failed.stderr
    assert [Path(path).suffix for path in kept] == [".journal", ".part"]
    assert resolved(hub, *QUESTIONS) == [digests(MODEL), digests(OTHER)]
    assert staged(hub) == []


def test_a_cut_volume_gives_what_is_left_of_it(tmp_path: Path, whole: Path, hub: Path) -> None:
    """With `--keep-going` its size is no reason to leave it aside."""
    medium = Path(shutil.copytree(whole, tmp_path / "stick"))
    name, offset, _ = extents_of(whole, "other.bin")[0]
    os.truncate(medium / name, offset + 1000)

    done = bundle("install", medium, "--cache-dir", hub, "--keep-going", "--json")

    assert done.returncode == 40
    assert carried(done) == [name]
    assert resolved(hub, QUESTIONS[0]) == [digests(MODEL)]


def under_strace(*options: str) -> list[str]:
    """Return the command that runs another one, with faults, and writes no trace."""
    return ["strace", "-f", "-qq", "-o", "/dev/null", *options]


@pytest.mark.parametrize("when", [1, 2, 4])
def test_a_read_error_is_damage(tmp_path: Path, whole: Path, hub: Path, when: int) -> None:
    """A stick that is pulled out, or has a bad sector: the system says EIO, from some read on."""
    medium = Path(shutil.copytree(whole, tmp_path / "stick"))
    volumes = [option for name in volumes_of(medium)[1:] for option in ("-P", str(medium / name))]
    fault = under_strace("-e", "trace=read", "-e", f"inject=read:error=EIO:when={when}+", *volumes)

    failed = bundle("install", medium, "--cache-dir", hub, under=fault)
    snapshots = list(hub.glob("*/snapshots/*"))
    succeed("install", medium, "--cache-dir", hub)

    assert failed.returncode == 40
    assert "Input/output error" in failed.stderr and ".tar, part " in failed.stderr
    assert snapshots == []
    assert resolved(hub, *QUESTIONS) == [digests(MODEL), digests(OTHER)]
    assert wrong_blobs(hub) == staged(hub) == []


def test_a_read_error_costs_what_it_hits(tmp_path: Path, whole: Path, hub: Path) -> None:
    """With `--keep-going` the other volumes are read to their end."""
    medium = Path(shutil.copytree(whole, tmp_path / "stick"))
    bad = extents_of(whole, "other.bin")[0][0]
    fault = under_strace("-e", "trace=read", "-e", "inject=read:error=EIO", "-P", str(medium / bad))

    done = bundle("install", medium, "--cache-dir", hub, "--keep-going", "--json", under=fault)

    assert done.returncode == 40
    assert bad in carried(done)
    assert all("Input/output error" in problem["reason"] for problem in report_of(done)["problems"])


# --- Killed in the middle of a blob


_KILLED_AFTER_JOURNAL = """
import os, signal, sys
from pathlib import Path

written = False

def watch(event, arguments):
    global written
    if written and event == "open":
        os.kill(os.getpid(), signal.SIGKILL)
    if event == "os.rename" and str(arguments[1]).endswith(".journal"):
        written = True

sys.addaudithook(watch)
from bundler.target.install import install_bundle
install_bundle((Path(sys.argv[1]),), Path(sys.argv[2]), workers=2)
"""
"""Installs, and is killed when the first journal of a staged blob has its name."""


def test_a_killed_run_goes_on_at_the_last_good_part(tmp_path: Path, hub: Path) -> None:
    """What the journal says is proven in the cache, and the stick may have lost it."""
    model = Repo(id="org/model", files={"model.bin": noise("large", JOURNAL_EVERY + (20 << 20))})
    medium = make_bundle(tmp_path / "large", repos=[model])
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_AFTER_JOURNAL, medium, hub], env=environment({}), capture_output=True)
    (volume,) = medium.glob("*.tar")
    _, offset, size = extents_of(medium, "model.bin")[3]
    with volume.open("r+b") as stream:
        stream.write(bytes(offset + size))

    done = succeed("install", medium, "--cache-dir", hub, "--json")

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert report_of(done)["written"] == len(model.files["model.bin"])
    assert resolved(hub, QUESTIONS[0]) == [digests(model)]
    assert staged(hub) == []


def test_a_blob_of_two_repositories_goes_on_in_both(tmp_path: Path, whole: Path, hub: Path) -> None:
    """Each has its own staged copy, and only what both hold is taken for granted."""
    twins = [MODEL, Repo(id="org/twin", files=MODEL.files)]
    both = make_bundle(tmp_path / "both" / "gift", repos=twins, volume_size=1_250_000)
    names = volumes_of(both)
    assert bundle("install", stick(both, tmp_path / "a", names[:1], index=True), "--cache-dir", hub).returncode == 41
    parts = sorted(hub.glob("*/.bundler/staging/*.part"))
    flip_bit(parts[1], at=TENSOR // 2)

    without = bundle("install", stick(both, tmp_path / "b", names[1:], index=False), "--cache-dir", hub, "--json")
    install_bundle((tmp_path / "a",), hub, workers=2)

    assert len(parts) == 2
    assert carried(without) == names[:1]
    assert resolved(hub, Question("org/model"), Question("org/twin")) == [digests(MODEL)] * 2
