"""Files that survive: whole or not at all, readable by everybody, and locks that outlive nobody."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.access import Access
from bundler.errors import FileSystemError
from bundler.fsio import (
    StraightFile, atomic_write, explain_os_errors, free_bytes, hold_lock, make_folders, place, place_all, place_folder,
    place_link, read_exactly, sync_file, write_all, write_synced
)
from tests.gateway_side import small_disk


@pytest.fixture(params=[0o022, 0o077, 0o000], ids=["umask 022", "umask 077", "umask 000"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Run under a umask, such as that of a careful root."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    """Return the permission bits."""
    return path.stat().st_mode & 0o7777


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    """A folder that no reader looks into."""
    (tmp_path / "staging").mkdir()
    return tmp_path / "staging"


# --- Writing in one step


def test_a_file_is_replaced_in_one_step(tmp_path: Path, staging: Path) -> None:
    """The old content stands until the new one is whole; then it is gone, and so is the staged file."""
    final = tmp_path / "ref"
    final.write_bytes(b"old")

    with atomic_write(final, staging=staging) as stream:
        stream.write(b"new, and longer")
        stream.flush()
        assert final.read_bytes() == b"old"

    assert final.read_bytes() == b"new, and longer"
    assert list(staging.iterdir()) == []


@pytest.mark.parametrize("there", [True, False], ids=["replacing", "new"])
def test_a_failed_write_leaves_what_was_there(tmp_path: Path, staging: Path, there: bool) -> None:
    """After an exception in the middle the old file stands, or none, and nothing is staged."""
    final = tmp_path / "ref"
    if there:
        final.write_bytes(b"old")

    with pytest.raises(KeyboardInterrupt):
        with atomic_write(final, staging=staging) as stream:
            stream.write(b"half of the n")
            raise KeyboardInterrupt

    assert (final.read_bytes() if final.exists() else None) == (b"old" if there else None)
    assert list(staging.iterdir()) == []


def test_a_write_that_cannot_be_placed_leaves_nothing(tmp_path: Path, staging: Path) -> None:
    """A folder in the place of the file stays, and nothing is staged."""
    (tmp_path / "ref" / "main").mkdir(parents=True)

    with pytest.raises(OSError):
        with atomic_write(tmp_path / "ref", staging=staging) as stream:
            stream.write(b"new")

    assert (tmp_path / "ref" / "main").is_dir()
    assert list(staging.iterdir()) == []


def test_a_killed_write_leaves_what_was_there(tmp_path: Path, staging: Path) -> None:
    """A reader never sees a part of the new content, whenever the writer dies."""
    final = tmp_path / "ref"
    final.write_bytes(b"old")
    program = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from bundler.fsio import atomic_write
        with atomic_write(Path(sys.argv[1]), staging=Path(sys.argv[2])) as stream:
            stream.write(b"half of the n")
            stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """)

    run = subprocess.run([sys.executable, "-c", program, final, staging], timeout=60)

    assert run.returncode == -signal.SIGKILL
    assert final.read_bytes() == b"old"
    assert [path.read_bytes() for path in staging.iterdir()] == [b"half of the n"]


# --- Modes


def test_what_is_placed_can_be_read_by_everybody(tmp_path: Path, staging: Path, umask: int) -> None:
    """The umask of whoever installs does not lock out the users of the cache."""
    for number in range(3):
        (staging / str(number)).write_bytes(b"x")

    place(staging / "0", tmp_path / "one")
    place_all([(staging / "1", tmp_path / "two"), (staging / "2", tmp_path / "three")])
    with atomic_write(tmp_path / "four", staging=staging) as stream:
        stream.write(b"x")

    assert {mode(tmp_path / name) for name in ("one", "two", "three", "four")} == {0o644}
    assert list(staging.iterdir()) == []


def test_a_mode_can_be_asked_for(tmp_path: Path, staging: Path, umask: int) -> None:
    """Private files stay private, whatever the umask."""
    (staging / "x").write_bytes(b"x")

    place(staging / "x", tmp_path / "x", access=Access.of_folders(0o700))
    make_folders(tmp_path / "private" / "inner", access=Access.of_folders(0o700))

    assert mode(tmp_path / "x") == 0o600
    assert mode(tmp_path / "private") == mode(tmp_path / "private" / "inner") == 0o700


def test_new_folders_can_be_entered_by_everybody(tmp_path: Path, umask: int) -> None:
    """All that were missing get the mode; one that was there keeps its own."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there").chmod(0o750)

    make_folders(tmp_path / "there" / "a" / "b")
    make_folders(tmp_path / "there" / "a" / "b")

    assert mode(tmp_path / "there") == 0o750
    assert mode(tmp_path / "there" / "a") == mode(tmp_path / "there" / "a" / "b") == 0o755


def test_a_file_where_a_folder_should_be_stays(tmp_path: Path) -> None:
    """Nothing is removed to make room."""
    (tmp_path / "a").write_bytes(b"mine")

    with pytest.raises(OSError):
        make_folders(tmp_path / "a" / "b")

    assert (tmp_path / "a").read_bytes() == b"mine"


# --- Renaming


def test_many_files_are_placed_in_many_folders(tmp_path: Path, staging: Path) -> None:
    """All of them, with their content, over what was there."""
    pairs = []
    for number in range(50):
        final = tmp_path / f"folder-{number % 3}" / str(number)
        final.parent.mkdir(exist_ok=True)
        final.write_bytes(b"old")
        (staging / str(number)).write_bytes(b"%d" % number)
        pairs.append((staging / str(number), final))

    place_all(pairs)

    assert [final.read_bytes() for _, final in pairs] == [b"%d" % number for number in range(50)]
    assert list(staging.iterdir()) == []


def test_nothing_is_placed_if_a_staged_file_is_gone(tmp_path: Path, staging: Path) -> None:
    """All are synced before the first is renamed, so a hole is seen while nothing has changed."""
    (staging / "there").write_bytes(b"x")

    with pytest.raises(FileNotFoundError):
        place_all([(staging / "there", tmp_path / "a"), (staging / "gone", tmp_path / "b")])

    assert not (tmp_path / "a").exists()


def test_nothing_to_place_is_fine() -> None:
    """An empty batch does nothing."""
    place_all([])


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path, staging: Path) -> None:
    """A folder takes a name that nothing has; where another one with content stands, it stays."""
    (staging / "one").mkdir()
    (staging / "one" / "file").write_bytes(b"one")
    (staging / "two").mkdir()

    place_folder(staging / "one", tmp_path / "final")
    with pytest.raises(OSError):
        place_folder(staging / "two", tmp_path / "final")

    assert (tmp_path / "final" / "file").read_bytes() == b"one"


def test_a_link_takes_the_place_of_a_file(tmp_path: Path, staging: Path) -> None:
    """In one step, and what it led to before is not touched."""
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "link").symlink_to("old")
    (staging / "link").symlink_to("new")

    place_link(staging / "link", tmp_path / "link")

    assert os.readlink(tmp_path / "link") == "new"
    assert (tmp_path / "old").read_bytes() == b"old"


# --- Reading and writing all of it


def test_reads_all_or_says_what_is_missing(tmp_path: Path) -> None:
    """A file that ends too early is named, with the number of bytes."""
    path = tmp_path / "blob"
    path.write_bytes(b"123456")
    buffer = bytearray(4)

    with path.open("rb", buffering=0) as stream:
        read_exactly(stream, memoryview(buffer))
        with pytest.raises(FileSystemError, match="blob ends 2 bytes too early"):
            read_exactly(stream, memoryview(buffer))

    assert buffer == b"5634"


def test_writes_all_though_a_pipe_takes_bites() -> None:
    """More than a pipe holds arrives whole."""
    content = bytes(range(256)) * 4096
    with subprocess.Popen(["sha256sum"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None and process.stdout is not None

        write_all(process.stdin, content)  # type: ignore[arg-type]  # typed as buffered, with bufsize=0 it is raw
        process.stdin.close()
        printed = process.stdout.read()

    assert printed.decode().split()[0] == hashlib.sha256(content).hexdigest()


def test_a_small_file_is_written_whole(tmp_path: Path) -> None:
    """New or over an older, longer one."""
    write_synced(tmp_path / "a", b"long content")
    write_synced(tmp_path / "a", b"short")

    assert (tmp_path / "a").read_bytes() == b"short"
    with (tmp_path / "a").open("r+b") as stream:
        sync_file(stream)


# --- Locks

_HOLDER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from bundler.fsio import hold_lock
    with hold_lock(Path(sys.argv[1]), lambda text: print(text, flush=True)):
        print("held", flush=True)
        sys.stdin.readline()
""")


@pytest.fixture
def holders(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that want the same lock, one after the other; they are gone at the end."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def start_holder(path: Path, holders: list[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    """Start a process that holds the lock until a line, or the end, of its input."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    holders.append(process)
    return process


def said(process: subprocess.Popen[str]) -> str:
    """Wait for the next line that a process prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("end", ["finished", "killed"])
def test_a_lock_is_waited_for_until_its_holder_is_gone(
    tmp_path: Path, holders: list[subprocess.Popen[str]], end: str
) -> None:
    """The second one says for whom it waits, and goes on when the first finished, or was killed."""
    first = start_holder(tmp_path / "lock", holders)
    assert said(first) == "held"
    second = start_holder(tmp_path / "lock", holders)
    waiting = said(second)

    if end == "finished":
        first.communicate("\n")
    else:
        first.kill()
        first.communicate()

    assert waiting == f"waiting for process {first.pid}, which is at work on {tmp_path}"
    assert said(second) == "held"
    assert (tmp_path / "lock").read_text() == f"{second.pid}\n"


def test_a_lock_is_let_go_after_an_error(tmp_path: Path) -> None:
    """Who fails blocks nobody, not even itself; a free lock is taken without a word."""
    told: list[str] = []

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            with hold_lock(tmp_path / "lock", told.append):
                raise ZeroDivisionError

    assert told == []


# --- Space and refusals


def test_free_space_is_asked_where_something_is_there(tmp_path: Path) -> None:
    """A folder that is still to be made has the space of the one that it will be in."""
    free = free_bytes(tmp_path / "not" / "yet" / "there")

    assert 0 < free <= os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize


def test_the_operating_systems_refusals_are_explained(tmp_path: Path) -> None:
    """What was being done, to which file, and why not."""
    with pytest.raises(FileSystemError) as caught:
        with explain_os_errors("installing"):
            (tmp_path / "absent").read_bytes()

    assert str(caught.value) == f"installing: {tmp_path / 'absent'}: No such file or directory"


def test_a_full_file_system_says_that_the_run_goes_on() -> None:
    """Writing where no byte fits: the hint is what to do."""
    with pytest.raises(FileSystemError) as caught:
        with explain_os_errors("fetching"), Path("/dev/full").open("wb", buffering=0) as stream:
            write_all(stream, b"x")

    assert os.strerror(errno.ENOSPC) in str(caught.value)
    assert "run the same command again" in caught.value.hint


def test_a_full_file_system_names_the_volume_that_found_no_room(tmp_path: Path) -> None:
    """Whoever reads it knows which disk to look at."""
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        volume = disk / "speech-001.tar"
        straight = StraightFile(volume)
        with pytest.raises(FileSystemError) as caught, explain_os_errors("building the bundle"):
            straight.write(bytes(64 << 20))
        straight.close()

    assert str(caught.value) == f"building the bundle: {volume}: {os.strerror(errno.ENOSPC)}"


# --- Past the page cache


@pytest.mark.parametrize("memory", [False, True], ids=["on a disk", "in memory"])
@pytest.mark.parametrize("size", [0, 1, 4095, 4096, (4 << 20) - 1, 4 << 20, (4 << 20) + 4097, (9 << 20) + 5])
def test_a_straight_file_holds_what_was_written(tmp_path: Path, size: int, memory: bool) -> None:
    """Whatever the size and the pieces, in place of a longer file, on file systems with direct access and without."""
    place = Path("/dev/shm") if memory and Path("/dev/shm").is_dir() else tmp_path
    path = place / f"straight-{os.getpid()}"
    path.write_bytes(b"longer" * (2 << 20))
    content = hashlib.shake_128(b"content").digest(size)
    try:
        file = StraightFile(path)
        for start in range(0, size, 1_000_003):
            file.write(memoryview(content)[start:start + 1_000_003])
        file.finish()

        assert path.read_bytes() == content
    finally:
        path.unlink()


def test_a_straight_file_that_is_let_go_of_may_lack_its_end(tmp_path: Path) -> None:
    """It is no file to be used; to close it is no error."""
    file = StraightFile(tmp_path / "volume")
    file.write(bytes((4 << 20) + 1))

    file.close()

    assert (tmp_path / "volume").stat().st_size == 4 << 20
