"""Verifying: every damage has a name, and what was not checked is not called right."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundler.digest import Digest
from bundler.errors import (
    BundlerError, DamagedBundleError, FormatError, IncompleteBundleError, UnsignedError
)
from bundler.format.reader import open_bundle
from bundler.format.problem import Kind
from bundler.format.verify import VerifyReport, verify_bundle
from bundler.format.volume import MIN_VOLUME_SIZE
from bundler.progress import Advanced, Event, Started
from tests.bundle_command import bundle
from tests.bundles import Repo, flip_bit, make_bundle, noise
from tests.documents import put
from tests.sealing import HandPart, hand_made, reseal, sha256
from tests.signers import make_key, sign

FILES = {"config.json": b'{"a": 1}', "empty.txt": b"", "model.bin": noise("model", 2 << 20), "notes.txt": b"a\n" * 9000}
TEXT = b"some text that compresses, " * 100
FRAME = zstandard.ZstdCompressor(write_content_size=True).compress(TEXT)


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """A good bundle of one volume: small files share a part, the large one has its own."""
    return make_bundle(tmp_path / "speech", repos=[Repo(id="org/a", files=FILES)])


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good bundle of two volumes; not to be changed."""
    files = {"one.bin": noise("one", 12 << 20), "two.bin": noise("two", 9 << 20)}
    folder = tmp_path_factory.mktemp("wide") / "wide"
    return make_bundle(folder, repos=[Repo(id="org/a", files=files)], volume_size=MIN_VOLUME_SIZE)


def verified(*folders: Path) -> VerifyReport:
    """Return the report on a bundle."""
    return verify_bundle(folders, workers=2)


def failure_of(report: VerifyReport) -> type[BundlerError]:
    """Return what a report amounts to, where something is wrong."""
    failure = report.failure(unsigned_is_fine=True)
    assert failure is not None
    return type(failure)


def lost(report: VerifyReport) -> set[str]:
    """Return the paths of all files that a report calls lost."""
    return {name.split("`")[1] for problem in report.problems for name in problem.files}


# --- A good bundle


def test_a_good_bundle_is_proven_whole(speech: Path) -> None:
    """Every blob, no problem, nothing foreign; and the bundle is as it was."""
    before = {path.name: path.read_bytes() for path in speech.iterdir()}

    report = verified(speech)

    assert (report.problems, report.foreign, report.proven) == ((), (), len(FILES))
    assert report.failure(unsigned_is_fine=True) is None
    assert {path.name: path.read_bytes() for path in speech.iterdir()} == before


def test_a_whole_bundle_that_nobody_signed_is_not_just_fine(speech: Path) -> None:
    """Whoever did not say so does not accept it; the way out is named."""
    failure = verified(speech).failure(unsigned_is_fine=False)

    assert isinstance(failure, UnsignedError)
    assert failure.exit_code == 70
    assert "--allow-unsigned" in failure.hint


def test_progress_adds_up(speech: Path) -> None:
    """Every byte of every blob is told once, so that a bar ends where it should."""
    events: list[Event] = []

    verify_bundle((speech,), workers=2, on_event=events.append)

    started = [event.total for event in events if isinstance(event, Started)]
    assert started == [sum(map(len, FILES.values()))]
    assert sum(event.count for event in events if isinstance(event, Advanced)) == started[0]


def test_a_bundle_on_several_sticks_is_proven(wide: Path, tmp_path: Path) -> None:
    """Each with a volume, index and sums; what stands beside the volumes is on one of them."""
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        for name in ("index.json", "SHA256SUMS", f"wide-00{number}.tar"):
            shutil.copy(wide / name, tmp_path / str(number))
    for name in ("README.txt", "restore.py", "build-info.json"):
        shutil.copy(wide / name, tmp_path / "1")

    report = verified(tmp_path / "1", tmp_path / "2")

    assert (report.problems, report.proven, report.foreign) == ((), 2, ())


# --- Damage

DAMAGE: dict[str, Callable[[Path], int]] = {
    "the header of the first part": lambda b: 0,
    "the last byte of a header": lambda b: 511,
    "the first stored byte": lambda b: 512,
    "the middle": lambda b: _volume(b).stat().st_size // 2,
    "the padding": lambda b: _padding(b),
    "the first byte of the end": lambda b: _volume(b).stat().st_size - 1024,
    "the last byte of all": lambda b: _volume(b).stat().st_size - 1,
}


def _volume(bundle: Path) -> Path:
    return bundle / "speech-001.tar"


def _padding(bundle: Path) -> int:
    return next(part.offset + part.size for part in open_bundle((bundle,)).index.parts if part.size % 512)


@pytest.mark.parametrize("place", DAMAGE)
def test_one_wrong_bit_in_a_volume_has_a_name(speech: Path, place: str) -> None:
    """The volume always; part and files where it is in a part; and what is lost is not counted as proven."""
    flip_bit(_volume(speech), at=DAMAGE[place](speech))

    report = verified(speech)

    assert failure_of(report) is DamagedBundleError
    problem, = report.problems
    assert (problem.kind, problem.name) == (Kind.DAMAGED, "speech-001.tar")
    if "end" in place or "last byte of all" in place:
        assert (problem.part, problem.files, report.proven) == (None, (), len(FILES))
    else:
        assert problem.part is not None
        assert report.proven == len(FILES) - len(lost(report)) < len(FILES)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_wrong_bit_escapes(speech: Path, data: st.DataObject) -> None:
    """Wherever it is, in any file of the bundle: it is found, and healed it is gone."""
    path = data.draw(st.sampled_from(sorted(speech.iterdir())))
    at = data.draw(st.integers(0, path.stat().st_size - 1))

    flip_bit(path, at=at)
    try:
        found = failure_of(verified(speech))
    except (DamagedBundleError, FormatError, IncompleteBundleError) as error:
        found = type(error)
    finally:
        flip_bit(path, at=at)

    assert found in (DamagedBundleError, FormatError, IncompleteBundleError)
    assert verified(speech).problems == ()


@pytest.mark.parametrize("change", [-1, -512, -5000, 1, 512])
def test_a_cut_or_continued_volume_has_a_name(speech: Path, change: int) -> None:
    """With the sizes that it has and should have; what is cut off is not proven."""
    with _volume(speech).open("r+b") as stream:
        stream.truncate(_volume(speech).stat().st_size + change)

    report = verified(speech)

    assert failure_of(report) is DamagedBundleError
    assert {problem.name for problem in report.problems} == {"speech-001.tar"}
    assert "was written with" in report.problems[0].reason
    assert report.proven == len(FILES) - len(lost(report))


def test_a_volume_that_is_gone_to_its_half_is_read_as_far_as_it_goes(speech: Path) -> None:
    """The files in the first half are proven, the others named."""
    with _volume(speech).open("r+b") as stream:
        stream.truncate(open_bundle((speech,)).index.parts[-1].offset + 1)

    report = verified(speech)

    assert 0 < report.proven < len(FILES)
    assert len(lost(report)) == len(FILES) - report.proven


def test_a_missing_volume_has_a_name(wide: Path, tmp_path: Path) -> None:
    """The other one is proven, and what is not there is not called damaged."""
    shutil.copytree(wide, tmp_path / "wide")
    (tmp_path / "wide" / "wide-001.tar").unlink()

    report = verified(tmp_path / "wide")

    assert failure_of(report) is IncompleteBundleError
    assert [(problem.kind, problem.name) for problem in report.problems] == [(Kind.MISSING, "wide-001.tar")]
    assert report.proven == 1


@pytest.mark.parametrize("name", ["README.txt", "restore.py", "build-info.json"])
def test_what_stands_beside_the_volumes_is_checked(speech: Path, name: str) -> None:
    """Missing or changed: a script that somebody will run as root is not left unchecked."""
    flip_bit(speech / name, at=0)
    changed = verified(speech)
    (speech / name).unlink()
    missing = verified(speech)

    assert [(problem.kind, problem.name) for problem in changed.problems] == [(Kind.DAMAGED, name)]
    assert [(problem.kind, problem.name) for problem in missing.problems] == [(Kind.MISSING, name)]
    assert changed.proven == missing.proven == len(FILES)


def test_a_file_that_is_not_of_the_bundle_is_named_and_not_opened(speech: Path) -> None:
    """A pipe, which would block whoever opens it, a folder, a link to nowhere, another bundle's volume."""
    os.mkfifo(speech / "pipe")
    (speech / "folder").mkdir()
    (speech / "link").symlink_to("nowhere")
    (speech / "speech-002.tar").write_bytes(b"")
    sign(speech, make_key(speech.parent, "key"))

    report = verified(speech)

    assert report.foreign == tuple(str(speech / name) for name in ("folder", "link", "pipe", "speech-002.tar"))
    assert report.problems == ()


def test_a_name_that_is_no_text_is_told_all_the_same(speech: Path) -> None:
    """Stray bytes and escape sequences in a file's name reach neither the terminal nor a traceback."""
    (speech / os.fsdecode(b"stray-\xff\x1b[2J")).touch()

    shown = bundle("verify", speech, "--allow-unsigned")
    told = bundle("verify", speech, "--allow-unsigned", "--json")

    assert (shown.returncode, told.returncode) == (0, 0), shown.stderr + told.stderr
    assert "not of this bundle, not opened" in shown.stdout
    assert "stray-" in shown.stdout and "stray-" in told.stdout
    assert "\x1b" not in shown.stdout + told.stdout


def test_a_wrong_index_ends_it(speech: Path) -> None:
    """Without a right index there is nothing to hold the rest against."""
    flip_bit(speech / "index.json", at=100)

    with pytest.raises(DamagedBundleError, match="index.json has the SHA-256"):
        verified(speech)


def test_folders_of_two_bundles_are_not_mixed(speech: Path, wide: Path) -> None:
    """Nothing of either is called right."""
    with pytest.raises(FormatError, match="differ"):
        verified(speech, wide)


def test_copies_in_further_folders_are_checked_too(speech: Path, tmp_path: Path) -> None:
    """Whoever names two sticks hears of both: the second one's volume and script are not taken on trust."""
    shutil.copytree(speech, tmp_path / "second")
    whole = verified(speech, tmp_path / "second")
    for name in ("speech-001.tar", "restore.py"):
        flip_bit(tmp_path / "second" / name, at=600)

    report = verified(speech, tmp_path / "second")

    assert whole.problems == ()
    assert {problem.name for problem in report.problems} == {"speech-001.tar", "restore.py"}
    assert all(str(tmp_path / "second") in problem.reason for problem in report.problems)
    assert report.proven == len(FILES)


def test_a_medium_that_cannot_be_read_is_damage_and_not_the_end(wide: Path, tmp_path: Path) -> None:
    """A read error, as of a bad sector, is named with what is lost; the rest is proven."""
    shutil.copytree(wide, tmp_path / "wide")
    (tmp_path / "wide" / "wide-001.tar").unlink()
    (tmp_path / "wide" / "wide-001.tar").symlink_to("/proc/self/mem")  # its first page is not mapped: an I/O error

    report = verified(tmp_path / "wide")

    assert failure_of(report) is DamagedBundleError
    assert {problem.name for problem in report.problems} == {"wide-001.tar"}
    assert any("Input/output error" in problem.reason for problem in report.problems)
    assert (lost(report), report.proven) == ({"one.bin"}, 1)


def test_every_problem_is_named_not_the_first(speech: Path) -> None:
    """Three faults, three problems."""
    for part in open_bundle((speech,)).index.parts:
        flip_bit(_volume(speech), at=part.offset)
    (speech / "README.txt").unlink()

    report = verified(speech)

    assert len(report.problems) == 1 + len(open_bundle((speech,)).index.parts)
    assert lost(report) == {path for path, content in FILES.items() if content}
    assert report.proven == 1, "the empty one"


# --- Lies that were sealed


def test_a_blob_that_its_parts_do_not_make_up_is_not_proven(speech: Path) -> None:
    """The index is consistent in itself, every part is whole, and the file is another one: it is named."""
    index = open_bundle((speech,)).index
    number = next(number for number, blob in enumerate(index.blobs) if blob.size == len(FILES["model.bin"]))
    file = next(number for number, file in enumerate(index.snapshots[0].files) if file.path == "model.bin")
    wrong = sha256(b"something else")
    reseal(speech, put(wrong, "blobs", number, "sha256"), put(wrong, "snapshots", 0, "files", file, "sha256"),
           put(wrong, "snapshots", 0, "files", file, "etag"))

    report = verified(speech)

    problem, = report.problems
    assert (problem.kind, problem.name) == (Kind.DAMAGED, "index.json")
    assert f"blob {wrong}" in problem.reason
    assert (lost(report), report.proven) == ({"model.bin"}, len(FILES) - 1)


def test_a_git_id_that_is_not_the_contents_is_not_proven(speech: Path) -> None:
    """In the cache it would put this content in the place of another's."""
    reseal(speech, put("d" * 40, "snapshots", 0, "files", 0, "etag"))

    report = verified(speech)

    problem, = report.problems
    assert (problem.kind, problem.name) == (Kind.DAMAGED, "index.json")
    assert "d" * 40 in problem.reason
    assert (lost(report), report.proven) == ({"config.json"}, len(FILES) - 1)


def test_a_part_that_decodes_to_other_bytes_is_not_proven(tmp_path: Path) -> None:
    """Whole by its stored digest, and of the right size."""
    lying = hand_made(tmp_path / "lying", HandPart(codec="zstd", stored=FRAME, raw=bytes(len(TEXT))),
                      HandPart(codec="raw", stored=b"true", raw=b"true"))

    report = verified(lying)

    assert (lost(report), report.proven) == ({"file-0.bin"}, 1)
    assert "make up" in report.problems[0].reason


def test_bombs_are_refused_and_the_rest_is_proven(tmp_path: Path) -> None:
    """Frames that are larger than the index says, that lie about it, or are none: each part is named."""
    larger = zstandard.ZstdCompressor(write_content_size=True).compress(bytes(64 << 20))
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(TEXT)
    bombs = hand_made(tmp_path / "bombs", *(
        HandPart(codec="zstd", stored=stored, raw=bytes([number]) * 100) for number, stored in enumerate(
            (larger, silent, FRAME + FRAME, b"no frame"))
    ), HandPart(codec="raw", stored=b"true", raw=b"true"))

    report = verified(bombs)

    assert [problem.part for problem in report.problems] == [0, 1, 2, 3]
    assert (report.proven, failure_of(report)) == (1, DamagedBundleError)


def test_a_shared_part_that_is_damaged_names_all_who_lose(tmp_path: Path) -> None:
    """Two blobs with the same first 16 MiB: both files are lost with it, and a third is not."""
    start = bytes(16 << 20)
    both = make_bundle(tmp_path / "both", repos=[
        Repo(id="org/a", files={"one.bin": start + noise("1", 100), "two.bin": start + noise("2", 100), "c": b"c"})])
    index = open_bundle((both,)).index
    shared = {extent.part for extent in index.blobs[0].extents} & {extent.part for extent in index.blobs[1].extents}
    large = next(number for number in range(len(index.parts)) if index.parts[number].raw_size == len(start))
    flip_bit(both / "both-001.tar", at=index.parts[large].offset)

    report = verified(both)

    assert shared or len(index.parts) > 2
    assert lost(report) == {"one.bin", "two.bin"}
    assert report.proven == 1
    assert "`one.bin` of org/a, `two.bin` of org/a" in str(report.problems[0])


def test_shared_stored_bytes_that_are_damaged_name_all_who_lose(tmp_path: Path) -> None:
    """One member, two parts: as a frame it is one file, as it stands another."""
    twins = hand_made(tmp_path / "twins", HandPart(codec="zstd", stored=FRAME, raw=TEXT),
                      HandPart(codec="raw", stored=b"third", raw=b"third"))
    index = open_bundle((twins,)).index
    assert index.parts[0].sha256 == Digest.of(FRAME)
    _add_twin(twins)
    whole = verified(twins)
    flip_bit(twins / "twins-001.tar", at=index.parts[0].offset + 20)

    report = verified(twins)

    assert (whole.problems, whole.proven) == ((), 3)
    assert [(problem.name, problem.part) for problem in report.problems] == [("twins-001.tar", 0), ("twins-001.tar", 2)]
    assert (lost(report), report.proven) == ({"file-0.bin", "file-9.bin"}, 1)


def _add_twin(bundle_folder: Path) -> None:
    """Add a file that is, byte for byte, what the first part is stored as."""
    digest = sha256(FRAME)

    def add(index: dict[str, list[dict[str, object]]]) -> None:
        part = dict(index["parts"][0], codec="raw", raw_size=len(FRAME))
        index["parts"].append(part)
        extent = {"part": 2, "offset": 0, "length": len(FRAME)}
        index["blobs"].append({"sha256": digest, "size": len(FRAME), "extents": [extent]})
        files = index["snapshots"][0]["files"]
        assert isinstance(files, list)
        files.append({"path": "file-9.bin", "size": len(FRAME), "sha256": digest, "etag": digest})

    reseal(bundle_folder, add)


def test_a_volume_with_a_part_that_nobody_needs_is_still_checked_whole(tmp_path: Path) -> None:
    """Bytes of a volume that no file leads to count as well."""
    spare = hand_made(tmp_path / "spare", HandPart(codec="raw", stored=b"spare", raw=b"spare"),
                      HandPart(codec="raw", stored=b"true", raw=b"true"))

    def forget(index: dict[str, list[dict[str, object]]]) -> None:
        index["blobs"].pop(0)
        files = index["snapshots"][0]["files"]
        assert isinstance(files, list)
        files.pop(0)

    reseal(spare, forget)
    whole = verified(spare)
    flip_bit(spare / "spare-001.tar", at=512)

    report = verified(spare)

    assert whole.problems == ()
    assert [(problem.kind, problem.name) for problem in report.problems] == [(Kind.DAMAGED, "spare-001.tar")]


# --- What a report amounts to


def test_the_worst_is_what_counts(wide: Path, tmp_path: Path) -> None:
    """Damaged before incomplete, incomplete before unsigned: exit codes 40, 41, 70, and none."""
    shutil.copytree(wide, tmp_path / "wide")
    signed_off = verified(tmp_path / "wide")
    (tmp_path / "wide" / "wide-001.tar").unlink()
    incomplete = verified(tmp_path / "wide")
    flip_bit(tmp_path / "wide" / "wide-002.tar", at=1000)
    damaged = verified(tmp_path / "wide")

    codes = [(failure.exit_code if failure else 0) for report in (damaged, incomplete, signed_off)
             for failure in (report.failure(unsigned_is_fine=False), report.failure(unsigned_is_fine=True))]

    assert codes == [40, 40, 41, 41, 70, 0]


@pytest.mark.parametrize(("spoil", "code"), [
    (lambda b: None, 0),
    (lambda b: flip_bit(b / "speech-001.tar", at=600), 40),
    (lambda b: (b / "speech-001.tar").unlink(), 41),
    (lambda b: (b / "SHA256SUMS").unlink(), 41),
    (lambda b: (b / "SHA256SUMS").write_text("nonsense"), 50),
], ids=["good", "damaged", "incomplete", "no bundle", "no sums"])
def test_the_command_ends_with_what_it_found(speech: Path, spoil: Callable[[Path], object], code: int) -> None:
    """A script can tell, and the identity is printed where there is one."""
    identity = sha256((speech / "index.json").read_bytes())
    spoil(speech)

    done = bundle("verify", speech, "--allow-unsigned")

    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if (speech / "SHA256SUMS").exists() and code != 50:
        assert identity in done.stdout
        assert f"{len(FILES)} blobs proven" in done.stdout
