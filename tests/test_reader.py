"""Bundles into blobs: a bundle is opened from the top down, and no wrong byte is given as a right one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bundler.digest import Digest
from bundler.errors import (
    BundlerError, DamagedBundleError, FormatError, IncompleteBundleError, UnsupportedVersionError
)
from bundler.format.reader import open_bundle
from bundler.format.volume import MIN_VOLUME_SIZE
from tests.bundles import Repo, flip_bit, make_bundle, noise, read_blobs
from tests.sealing import HandPart, hand_made, sha256, write_index

FILES = {"config.json": b'{"a": 1}', "empty.txt": b"", "model.bin": noise("model", 3 << 20), "notes.txt": b"a\n" * 9000}


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """A good bundle of one volume."""
    return make_bundle(tmp_path / "speech", repos=[Repo(id="org/a", files=FILES)])


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good bundle of two volumes; not to be changed."""
    files = {"one.bin": noise("one", 12 << 20), "two.bin": noise("two", 9 << 20)}
    folder = tmp_path_factory.mktemp("wide") / "wide"
    return make_bundle(folder, repos=[Repo(id="org/a", files=files)], volume_size=MIN_VOLUME_SIZE)


def spread(bundle: Path, *folders: Path) -> None:
    """Copy a bundle to sticks: each has index and sums, and every volume is on one of them."""
    volumes = sorted(bundle.glob("*.tar"))
    for number, folder in enumerate(folders):
        folder.mkdir()
        for name in ("index.json", "SHA256SUMS"):
            shutil.copy(bundle / name, folder)
        for volume in volumes[number::len(folders)]:
            shutil.copy(volume, folder)


# --- What a good bundle gives


def test_every_blob_comes_back(speech: Path) -> None:
    """All bytes of all files, and the bundle is as it was."""
    before = {path.name: path.read_bytes() for path in speech.iterdir()}

    read = read_blobs(open_bundle((speech,)))

    assert read == {Digest.of(content): content for content in FILES.values()}
    assert {path.name: path.read_bytes() for path in speech.iterdir()} == before


def test_blobs_come_in_any_order_and_any_choice(speech: Path) -> None:
    """What is there already need not be read."""
    bundle = open_bundle((speech,))
    backwards = bundle.index.blobs[::-1]

    assert read_blobs(bundle, backwards) == {Digest.of(content): content for content in FILES.values()}
    assert list(read_blobs(bundle, backwards[:1])) == [backwards[0].sha256]
    assert read_blobs(bundle, []) == {}


def test_a_bundle_on_several_sticks_is_one(wide: Path, tmp_path: Path) -> None:
    """Its volumes are found wherever they are, in whatever order the sticks are named."""
    spread(wide, tmp_path / "one", tmp_path / "two")

    bundle = open_bundle((tmp_path / "two", tmp_path / "one"))

    assert len(bundle.index.volumes) == 2
    assert read_blobs(bundle) == read_blobs(open_bundle((wide,)))


def test_the_identity_is_that_of_the_index(speech: Path) -> None:
    """What an officer compares over the telephone is `sha256sum index.json`."""
    bundle = open_bundle((speech,))

    assert bundle.identity == sha256((speech / "index.json").read_bytes())
    assert not bundle.verdict.good
    assert [name for name, _ in bundle.sums] == sorted(path.name for path in speech.iterdir()
                                                       if path.name != "SHA256SUMS")


def test_other_files_are_not_opened(speech: Path) -> None:
    """A bundle's folder may hold what else is on the stick, even what could not be read."""
    (speech / "speech-002.tar").symlink_to("/dev/zero")
    (speech / "photos").mkdir()

    assert len(read_blobs(open_bundle((speech,)))) == len(FILES)


# --- What is no bundle


@pytest.mark.parametrize("name", ["SHA256SUMS", "index.json"])
def test_a_folder_without_its_commit_point_holds_no_bundle(speech: Path, name: str) -> None:
    """What an interrupted build left, or a careless copy, is told as that."""
    (speech / name).unlink()

    with pytest.raises(IncompleteBundleError, match=f"there is no complete bundle in .*{name} is missing") as caught:
        open_bundle((speech,))

    assert "SHA256SUMS" in caught.value.hint


def test_a_folder_in_the_place_of_a_file_is_no_bundle(speech: Path) -> None:
    """Nor is anything else that is not a regular file."""
    (speech / "index.json").unlink()
    (speech / "index.json").mkdir()

    with pytest.raises(IncompleteBundleError):
        open_bundle((speech,))


def _sum_up(bundle: Path) -> None:
    files = sorted(path for path in bundle.iterdir() if path.name != "SHA256SUMS")
    (bundle / "SHA256SUMS").write_text("".join(f"{sha256(path.read_bytes())}  {path.name}\n" for path in files))


def _summed_up(spoil: Callable[[Path], object]) -> Callable[[Path], object]:
    """Return damage that SHA256SUMS agrees with."""
    def change(bundle: Path) -> None:
        spoil(bundle)
        _sum_up(bundle)
    return change


DAMAGE: dict[str, tuple[Callable[[Path], object], type[BundlerError], str]] = {
    "a changed index": (lambda b: flip_bit(b / "index.json", at=50), DamagedBundleError, "index.json has the SHA-256"),
    "a cut index": (lambda b: (b / "index.json").write_bytes(b""), DamagedBundleError, "index.json has the SHA-256"),
    "sums of nothing": (lambda b: (b / "SHA256SUMS").write_bytes(b""), DamagedBundleError, "SHA256SUMS says None"),
    "half of the sums": (
        lambda b: (b / "SHA256SUMS").write_bytes((b / "SHA256SUMS").read_bytes()[:100]), FormatError, "SHA256SUMS"),
    "sums that are something else": (lambda b: (b / "SHA256SUMS").write_bytes(b"\xff\0"), FormatError, "SHA256SUMS"),
    "sums that are too large": (
        lambda b: (b / "SHA256SUMS").write_bytes(bytes((16 << 20) + 1)), FormatError, "is larger than"),
    "an index that is none": (
        _summed_up(lambda b: (b / "index.json").write_text("{}")), FormatError, "format_version"),
    "an index that is no text": (
        _summed_up(lambda b: (b / "index.json").write_bytes(b"\xff")), FormatError, "not readable JSON"),
    "an index from the future": (
        _summed_up(lambda b: (b / "index.json").write_text('{"format_version":"2.0"}')), UnsupportedVersionError,
        "format 2.0"),
    "sums and index that differ about a volume": (
        _summed_up(lambda b: flip_bit(b / "speech-001.tar", at=600)), FormatError, "speech-001.tar the same digest"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_wrong_at_the_top_is_told_before_anything_else(speech: Path, damage: str) -> None:
    """Damage from what is no bundle, that from what is newer; nothing is parsed before it is proven."""
    spoil, kind, words = DAMAGE[damage]
    spoil(speech)

    with pytest.raises(BundlerError, match=words) as caught:
        open_bundle((speech,))

    assert type(caught.value) is kind


def test_an_index_larger_than_any_is_not_read(speech: Path) -> None:
    """A file of terabytes, sparse on the stick, takes no memory."""
    with (speech / "index.json").open("wb") as stream:
        stream.truncate(1 << 40)

    with pytest.raises(FormatError, match="index.json is larger than"):
        open_bundle((speech,))


def test_folders_of_two_bundles_are_not_mixed(speech: Path, wide: Path) -> None:
    """Which files differ, and that these are two bundles."""
    with pytest.raises(FormatError, match="SHA256SUMS and .*SHA256SUMS differ") as caught:
        open_bundle((speech, wide))

    assert "different bundles" in caught.value.hint


def test_a_second_index_that_differs_is_noticed(speech: Path, tmp_path: Path) -> None:
    """Each stick carries the same index, byte for byte."""
    spread(speech, tmp_path / "one", tmp_path / "two")
    flip_bit(tmp_path / "two" / "index.json", at=70)

    with pytest.raises(FormatError, match="index.json and .*index.json differ"):
        open_bundle((tmp_path / "one", tmp_path / "two"))


# --- What is missing or damaged below


def test_a_missing_volume_is_known_before_anything_is_read(wide: Path, tmp_path: Path) -> None:
    """Which of the volumes are in none of the folders follows from the index."""
    spread(wide, tmp_path / "one", tmp_path / "two")

    bundle = open_bundle((tmp_path / "two",))

    assert [volume.name for volume in bundle.absent_volumes()] == ["wide-001.tar"]


def test_a_volume_that_is_gone_when_it_is_read_is_told_as_damage(wide: Path, tmp_path: Path) -> None:
    """A stick may be pulled at any moment."""
    shutil.copytree(wide, tmp_path / "wide")
    bundle = open_bundle((tmp_path / "wide",))
    (tmp_path / "wide" / "wide-002.tar").unlink()

    with pytest.raises(DamagedBundleError, match="wide-002.tar, part 1: its volume is no longer in the folder"):
        read_blobs(bundle)


@pytest.mark.parametrize("change", [-1, 1, -600])
def test_a_cut_volume_is_named_before_anything_is_read(speech: Path, change: int) -> None:
    """By its size alone: the usual fault of a stick that was pulled too early."""
    path = speech / "speech-001.tar"
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.truncate(size + change)

    with pytest.raises(DamagedBundleError, match=f"speech-001.tar has {size + change:,} bytes") as caught:
        open_bundle((speech,)).require_uncut()

    assert caught.value.hint == "copy speech-001.tar from the gateway again"


def _places(bundle: Path) -> Iterator[tuple[str, int]]:
    index = open_bundle((bundle,)).index
    for number, part in enumerate(index.parts):
        yield f"header of part {number}", part.offset - 512
        yield f"end of the header of part {number}", part.offset - 1
        yield f"first byte of part {number}", part.offset
        yield f"last byte of part {number}", part.offset + part.size - 1
        if part.size % 512:
            yield f"padding of part {number}", part.offset + part.size


def test_one_wrong_bit_anywhere_in_a_part_is_noticed(speech: Path) -> None:
    """In header, stored bytes or padding: the volume, the part and the files are named."""
    for _, at in list(_places(speech)):
        flip_bit(speech / "speech-001.tar", at=at)

        with pytest.raises(DamagedBundleError, match=r"^speech-001.tar, part \d+: .*; it is of `.*` of org") as caught:
            read_blobs(open_bundle((speech,)))

        assert "copy speech-001.tar" in caught.value.hint
        flip_bit(speech / "speech-001.tar", at=at)
    assert len(read_blobs(open_bundle((speech,)))) == len(FILES)


def test_a_medium_that_cannot_be_read_is_told_as_damage(speech: Path) -> None:
    """A read error of the system, as of a bad sector, names the volume and what is lost."""
    (speech / "speech-001.tar").unlink()
    (speech / "speech-001.tar").symlink_to("/proc/self/mem")  # its first page is not mapped: reading is an I/O error

    with pytest.raises(DamagedBundleError, match="speech-001.tar, part 0: cannot be read from byte 0 on: Input/output"):
        read_blobs(open_bundle((speech,)))


@pytest.mark.parametrize(("part", "words"), [
    (HandPart(codec="zstd", stored=b"no frame", raw=b"x" * 10), "part 0 "),
    (HandPart(codec="zstd", stored=b"", raw=b"x"), "part 0 "),
    (HandPart(codec="planes", stored=b"\xff" * 50, raw=b"x" * 10), "part 0 "),
])
def test_a_part_that_never_was_right_is_the_builders_fault(tmp_path: Path, part: HandPart, words: str) -> None:
    """With a true digest and a false content: not the medium is wrong."""
    bundle = hand_made(tmp_path / "bomb", part)

    with pytest.raises(FormatError, match=words):
        read_blobs(open_bundle((bundle,)))


def test_an_index_that_was_changed_by_hand_is_no_longer_the_one(speech: Path) -> None:
    """However well it is spelled."""
    write_index(speech, {"format_version": "1.0"})

    with pytest.raises(DamagedBundleError):
        open_bundle((speech,))
