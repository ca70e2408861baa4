"""Installs that end at any moment: killed, stopped, out of disk. Nobody who reads the cache notices, and it goes on."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import pytest

from bundler.fsio import free_bytes
from bundler.target.install import install_bundle
from tests.bundle_command import bundle, bundle_command, environment, succeed
from tests.bundles import Repo, make_bundle, noise
from tests.cache_layout import layout_of, staged, wrong_blobs
from tests.cache_watcher import Watcher
from tests.gateway_side import small_disk, wait_until
from tests.offline_reader import Digests, Question, ask_offline

FOLDER = "models--org--name"
OLD = Repo(id="org/name", files={
    "config.json": b'{"version": 1}', "model.safetensors": noise("weights", 1_200_000), "LICENSE": b"MIT\n"})
NEW = replace(OLD, files={
    **OLD.files, "config.json": b'{"version": 2}', "model.safetensors": noise("other", 1_100_000), "sub/x.json": b"{}"})
MAIN = Question("org/name")


def digests(repo: Repo) -> Digests:
    """Return the digest of each file of a repository."""
    return {file.path: str(file.sha256) for file in repo.snapshot.files}


def resolved(hub: Path, *questions: Question) -> list[Digests]:
    """Return what another process that is offline gets, and check that a scan finds no fault."""
    answers = ask_offline(hub, questions)
    assert answers.warnings == []
    return [answers.snapshots[question] for question in questions]


# --- The order of what is written


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the system that changes a file system, as strace saw it."""

    name: str
    paths: tuple[str, ...]


_STARTED = re.compile(r"\d+ +(?:<\.\.\. )?(\w+)(?: resumed>|\()(.*)")
_PATHS = re.compile(r'<(/[^>]*)>|"((?:[^"\\]|\\.)*)"')


def calls_of(trace: Path) -> Iterator[Call]:
    """Yield what was done in order: a sync when it has ended, anything else when it begins."""
    unfinished: dict[str, Call] = {}
    for line in trace.read_text().splitlines():
        if not (match := _STARTED.match(line)) or " = -1 " in line:
            continue
        process, resumed = line.split()[0], "resumed>" in line
        if resumed:
            call = unfinished.pop(process, None)
            if call is not None and call.name == "fsync":
                yield call
            continue
        paths = tuple(first or second for first, second in _PATHS.findall(match[2]))
        # What is written stands there as well.
        call = Call(match[1], paths[:1] if match[1] == "write" else paths)
        if "<unfinished ...>" in line:
            unfinished[process] = call
        if call.name != "fsync" or "<unfinished ...>" not in line:
            yield call


def done_to(calls: list[Call], name: str, path: str) -> list[int]:
    """Return where among the calls that one was made for a path."""
    return [at for at, call in enumerate(calls) if call.name == name and call.paths[-1] == path]


def test_everything_is_synced_before_it_is_named_and_named_in_order(tmp_path: Path) -> None:
    """Asked of the operating system: a file's bytes, its name, then the folder that has it; blobs, snapshots, tree
    listings, refs.
    """
    hub, trace = tmp_path / "hub", tmp_path / "trace"
    medium = make_bundle(tmp_path / "new", repos=[NEW, replace(NEW, id="org/other")])
    watched = "write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,mkdir,mkdirat,symlink,symlinkat,link,linkat"
    tracing = ["strace", "-f", "-y", "-s", "4096", "-o", str(trace), "-e", f"trace={watched}"]

    succeed("install", medium, "--cache-dir", hub, under=tracing)

    calls = [call for call in calls_of(trace) if call.paths and ".probe" not in call.paths[-1]
             and (call.paths[-1] == str(tmp_path) or call.paths[-1].startswith(str(hub)))]
    assert {call.name for call in calls} == {"write", "fsync", "rename", "mkdir", "symlink"}
    stages: dict[str, list[int]] = {}
    for at, (source, target) in [(at, call.paths) for at, call in enumerate(calls) if call.name == "rename"]:
        stages.setdefault(target[len(str(hub)):].split("/")[2], []).append(at)
        last_write = max([each for each in done_to(calls, "write", source) if each < at], default=-1)
        assert any(last_write < each < at for each in done_to(calls, "fsync", source)), (source, target)
        assert any(each > at for each in done_to(calls, "fsync", os.path.dirname(target))), target
    for at, call in enumerate(calls):
        # What is made in staging itself gets its name by a rename.
        if call.name in ("symlink", "mkdir") and not os.path.dirname(call.paths[-1]).endswith("/staging"):
            assert any(each > at for each in done_to(calls, "fsync", os.path.dirname(call.paths[-1]))), call
    in_order = [stages[name] for name in ("blobs", "snapshots", "trees", "refs")]
    for before, after in zip(in_order, in_order[1:]):
        assert max(before) < min(after)
        for at in before:
            folder = os.path.dirname(calls[at].paths[1])
            assert any(at < each < min(after) for each in done_to(calls, "fsync", folder)), folder


# --- Killed


_FORKS = """
import json, os, signal, sys, time
from pathlib import Path
from bundler.target.install import install_bundle

for line in sys.stdin:
    bundle, cache, seconds = json.loads(line)
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            install_bundle((Path(bundle),), Path(cache), workers=2)
        finally:
            os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(time.monotonic() - start, flush=True)
"""
"""For each line installs in a fork, which is killed after so many seconds; a fork starts in no time."""


class Killer:
    """Installs and kills. A context manager."""

    def __enter__(self) -> Killer:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment({}))
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def install(self, medium: Path, hub: Path, *, seconds: float | None) -> float:
        """Install, with an end after so many seconds, if any; return how long it took."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps([str(medium), str(hub), seconds]) + "\n")
        stdin.flush()
        return float(stdout.readline())


def named(hub: Path) -> set[str]:
    """Return all paths of a cache that a reader may come across: all but our own folders."""
    return {path for path in layout_of(hub) if "/.bundler" not in path}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_readers_never_see_a_half_installed_model(tmp_path: Path, kills: int) -> None:
    """Killed at random moments, under the eyes of a reader: it sees the old or the new, never an error; nothing but
    staging is left over, and the next run completes.
    """
    moments = random.Random(2026)
    large = {f"model-{number}.safetensors": noise(f"shard {number}", 2 << 20) for number in range(4)}
    small = {f"data/{number % 7}/{number}.json": b'{"n": %d}' % number for number in range(100)}
    new = replace(NEW, files={**NEW.files, **large, **small})
    other = replace(NEW, id="org/other")
    media = [make_bundle(tmp_path / "old", repos=[OLD]), make_bundle(tmp_path / "new", repos=[new, other])]

    # In memory: what is killed here is a process, and a disk would only be slow.
    with small_disk(tmp_path / "disk", 512 << 20) as disk, Watcher("org/name") as watcher, Killer() as killer:
        for name in ("before", "after"):
            install_bundle((media[0],), disk / name, workers=2)
        whole = killer.install(media[1], disk / "after", seconds=None)
        allowed = named(disk / "before") | named(disk / "after")
        for _ in range(kills):
            hub = shutil.copytree(disk / "before", disk / "hub", symlinks=True)
            watcher.watch(hub)
            moment = moments.uniform(0, 1.2 * whole)

            killer.install(media[1], hub, seconds=moment)

            assert wrong_blobs(hub) == [] and named(hub) <= allowed, moment
            install_bundle((media[1],), hub, workers=2)
            seen = watcher.sightings()
            assert seen.errors == [], moment
            assert seen.states in ([digests(OLD), digests(new)], [digests(new)]), moment
            assert wrong_blobs(hub) == staged(hub) == [] and named(hub) == allowed, moment
            shutil.rmtree(hub)


# --- Several at once


_STOPS_ITSELF = """
import os, signal, sys
from pathlib import Path

stopped = False

def watch(event, arguments):
    global stopped
    if event == "os.rename" and not stopped:
        stopped = True
        os.kill(os.getpid(), signal.SIGSTOP)

sys.addaudithook(watch)
from bundler.target.install import install_bundle
install_bundle((Path(sys.argv[1]),), Path(sys.argv[2]), workers=2)
"""
"""Installs, and stops itself in the middle."""


def stopped(process: subprocess.Popen[str]) -> bool:
    """Say whether a process is stopped."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def line_of(stream: IO[str] | None) -> str:
    """Read a line."""
    assert stream is not None
    return stream.readline()


@pytest.mark.parametrize("fate", [signal.SIGCONT, signal.SIGKILL])
def test_one_of_eight_is_stopped(tmp_path: Path, fate: signal.Signals) -> None:
    """The others wait and say for whom; whether it goes on or dies, all of them end well, and find the work done."""
    hub = tmp_path / "hub"
    medium = make_bundle(tmp_path / "new", repos=[NEW, replace(NEW, id="org/other")])
    command = [sys.executable, "-c", _STOPS_ITSELF, str(medium), str(hub)]
    with ExitStack() as all_of_them:
        first = all_of_them.enter_context(subprocess.Popen(command, env=environment({}), text=True))
        all_of_them.callback(first.kill)
        wait_until(lambda: stopped(first))
        others = [all_of_them.enter_context(subprocess.Popen(
            bundle_command("install", medium, "--cache-dir", hub, "--json"), env=environment({}), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)) for _ in range(7)]
        for other in others:
            all_of_them.callback(other.kill)
        said = [line_of(other.stderr) for other in others]
        os.kill(first.pid, fate)
        told = [other.communicate(timeout=120)[0] for other in others]
        first.wait(timeout=120)

    assert all(line.startswith(f"waiting for process {first.pid},") for line in said)
    assert first.returncode == (0 if fate is signal.SIGCONT else -signal.SIGKILL)
    assert [other.returncode for other in others] == [0] * 7
    written = [json.loads(text)["written"] for text in told]
    assert sum(map(bool, written)) == (0 if fate is signal.SIGCONT else 1)
    assert resolved(hub, MAIN, Question("org/other")) == [digests(NEW)] * 2
    assert wrong_blobs(hub) == staged(hub) == []


# --- Out of disk


@contextmanager
def small_ext4(mount_point: Path, size: int) -> Iterator[Path]:
    """Mount an ext4 file system of `size` bytes from a file. Whoever may not mount skips the test."""
    image = mount_point.with_suffix(".img")
    with image.open("wb") as stream:
        stream.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-b", "4096", "-N", "2048", "-m", "0", image], check=True)
    mount_point.mkdir()
    mount = ["mount", "-o", "loop", str(image), str(mount_point)]
    if os.geteuid() != 0 or subprocess.run(mount, stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip("may not mount a file system")
    try:
        yield mount_point
    finally:
        subprocess.run(["umount", "--lazy", mount_point], check=True)


def fill_up(disk: Path, *, leave: int) -> Path:
    """Leave so many bytes free, and return what takes up the rest."""
    filler = disk / "filler"
    with filler.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, free_bytes(disk) - leave)
    return filler


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_disk_that_fills_up_midway_loses_nothing(tmp_path: Path, kind: str) -> None:
    """Small files take more room than they have bytes. Readers see the old state; what was written is kept, and with
    a little more room the next run goes on.
    """
    many = replace(NEW, files={**NEW.files, **{f"{number:03}.json": b"%d" % number for number in range(300)}})
    media = [make_bundle(tmp_path / "old", repos=[OLD]), make_bundle(tmp_path / "many", repos=[many])]
    raw = sum(map(len, many.files.values()))
    with (small_disk if kind == "tmpfs" else small_ext4)(tmp_path / "disk", 24 << 20) as disk:
        succeed("install", media[0], "--cache-dir", disk / "hub")
        filler = fill_up(disk, leave=raw + (300 << 10))

        failed = bundle("install", media[1], "--cache-dir", disk / "hub")
        again = bundle("install", media[1], "--cache-dir", disk / "hub")
        while_full = resolved(disk / "hub", MAIN), wrong_blobs(disk / "hub")
        filler.unlink()
        done = succeed("install", media[1], "--cache-dir", disk / "hub", "--json")
        afterwards = resolved(disk / "hub", MAIN), wrong_blobs(disk / "hub"), staged(disk / "hub")

    assert failed.returncode == 62 and again.returncode in (61, 62)
    assert "No space left" in failed.stderr and "goes on" in failed.stderr
    assert while_full == ([digests(OLD)], [])
    assert 0 < json.loads(done.stdout)["adopted"]
    assert afterwards == ([digests(many)], [], [])


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_what_is_staged_counts_as_room(tmp_path: Path, kind: str) -> None:
    """Half a blob from the first stick, then a disk with room for the other half: it fits."""
    repo = Repo(id="org/name", files={"model.bin": noise("large", 24 << 20)})
    medium = make_bundle(tmp_path / "gift", repos=[repo], volume_size=17 << 20)
    second = (medium / "gift-002.tar").rename(tmp_path / "gift-002.tar")
    with (small_disk if kind == "tmpfs" else small_ext4)(tmp_path / "disk", 64 << 20) as disk:
        first = bundle("install", medium, "--cache-dir", disk / "hub")
        fill_up(disk, leave=9 << 20)
        (medium / "gift-001.tar").unlink()
        second.rename(medium / "gift-002.tar")

        succeed("install", medium, "--cache-dir", disk / "hub")
        found = resolved(disk / "hub", MAIN)

    assert first.returncode == 41
    assert found == [digests(repo)]


def test_a_disk_that_is_full_in_the_middle_of_a_blob_keeps_its_good_parts(tmp_path: Path) -> None:
    """The system refuses to write more of it; what there is of it is not read again."""
    repo = Repo(id="org/name", files={"model.bin": noise("large", 40 << 20)})
    medium = make_bundle(tmp_path / "gift", repos=[repo], volume_size=17 << 20)
    (file,) = repo.snapshot.files
    part = tmp_path / "hub" / FOLDER / ".bundler" / "staging" / f"{file.etag}.part"
    fault = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", str(part), "-e", "trace=write",
             "-e", "inject=write:error=ENOSPC:when=3+"]

    failed = bundle("install", medium, "--cache-dir", tmp_path / "hub", under=fault)
    kept = part.stat().st_size
    for number in (1, 2):
        volume = medium / f"gift-00{number}.tar"
        volume.write_bytes(bytes(volume.stat().st_size))
    succeed("install", medium, "--cache-dir", tmp_path / "hub")

    assert failed.returncode == 62
    assert kept == 32 << 20
    assert resolved(tmp_path / "hub", MAIN) == [digests(repo)]


# --- Every step


_KILLED_AT = """
import os, signal, sys
from pathlib import Path

_, limit, hub, *sticks = sys.argv
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
for stick in sticks:
    install_bundle((Path(stick),), Path(hub), workers=2)
print(done)
"""
"""Installs stick by stick, and is killed right before one more change of names or modes than the limit."""


@pytest.mark.slow
def test_between_sticks_every_step_may_be_the_last_one(tmp_path: Path) -> None:
    """Killed before any change of the file system while one stick after the other is read, nothing wrong has a name,
    and both sticks once more complete it.
    """
    repo = Repo(id="org/name", files={"config.json": b"{}", "model.bin": noise("large", 17 << 20)})
    first = make_bundle(tmp_path / "gift", repos=[repo], volume_size=17 << 20)
    second = tmp_path / "second"
    second.mkdir()
    (first / "gift-002.tar").rename(second / "gift-002.tar")
    command = [sys.executable, "-c", _KILLED_AT]
    sticks = [str(first), str(second)]
    undisturbed = [*command, str(10**9), str(tmp_path / "counted"), *sticks]
    counted = subprocess.run(undisturbed, capture_output=True, check=True)

    for step in range(int(counted.stdout)):
        hub = tmp_path / "hub"

        killed = subprocess.run([*command, str(step), str(hub), *sticks], capture_output=True, check=False)

        assert killed.returncode == -signal.SIGKILL, (step, killed.stderr)
        assert wrong_blobs(hub) == [], step
        install_bundle((first, second), hub, workers=2)
        assert wrong_blobs(hub) == staged(hub) == [], step
        assert (hub / FOLDER / "refs" / "main").read_text() == repo.snapshot.commit
        shutil.rmtree(hub)
