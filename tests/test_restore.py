"""`restore.py` and `README.txt` open a bundle that was made by hand from FORMAT.md, without our writer."""

import ast
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zstandard

import bundler.format.readme
from bundler.format.readme import readme_text

Change = Callable[[dict[str, Any]], object]
Result = subprocess.CompletedProcess[str]

RESTORE = Path(bundler.format.readme.__file__).with_name("restore.py")
MODULES = ("compression.zstd", "backports.zstd", "zstandard")
MODULES_HERE = MODULES[::2] if sys.version_info >= (3, 14) else MODULES[1:]
"""Python 3.14 has the first; the second has the same interface, for those before."""
NAME = "hand-made_1.0"
C1, C2 = "1" * 40, "2" * 40
UNICODE_PATH = "weights/ü 重み [1].bin"


def sha256(content: bytes) -> str:
    """Return the SHA-256 as text."""
    return hashlib.sha256(content).hexdigest()


def noise(seed: str, size: int) -> bytes:
    """Return bytes that do not compress, always the same."""
    return hashlib.shake_256(seed.encode()).digest(size)


RAW_A = noise("a", 1500)
RAW_B = b"".join(b"line %d of something that compresses well\n" % number for number in range(200))
RAW_C = noise("c", 512) + bytes(20000)
SMALL, OTHER = RAW_B[:700], RAW_B[700:1700]
LARGE = RAW_A + RAW_B[1700:] + RAW_C + RAW_A[10:20]
FILES = {
    "org/name/config.json": SMALL,
    "org/name/empty.txt": b"",
    f"org/name/{UNICODE_PATH}": LARGE,
    "datasets/org/name/train.txt": OTHER,
    f"twice/{C1}/a": SMALL,
    f"twice/{C2}/a": RAW_A,
}


@dataclass(kw_only=True)
class HandMade:
    """A bundle before it is written: two volumes, parts of both codecs, a part that shares its bytes."""

    parts: list[tuple[str, bytes, bytes, int]] = field(default_factory=lambda: [
        ("raw", RAW_A, RAW_A, 0), zstd_part(RAW_B, 0), zstd_part(RAW_C, 1), ("raw", RAW_A, RAW_A, 0)])
    """Codec, raw bytes, stored bytes, volume."""

    blobs: list[tuple[bytes, list[tuple[int, int, int]]]] = field(default_factory=lambda: [
        (LARGE, [(0, 0, 1500), (1, 1700, len(RAW_B) - 1700), (2, 0, len(RAW_C)), (3, 10, 10)]),
        (SMALL, [(1, 0, 700)]), (OTHER, [(1, 700, 1000)]), (RAW_A, [(3, 0, 1500)]), (b"", [])])
    """Content, extents as (part, offset, length)."""

    snapshots: list[dict[str, Any]] = field(default_factory=lambda: [
        snapshot("dataset", "org/name", C1, {"train.txt": OTHER}),
        snapshot("model", "org/name", C2, {"config.json": SMALL, "empty.txt": b"", UNICODE_PATH: LARGE}),
        snapshot("model", "twice", C1, {"a": SMALL}), snapshot("model", "twice", C2, {"a": RAW_A}, "v1")])

    def volumes_and_index(self) -> tuple[list[bytes], dict[str, Any]]:
        """Lay the parts out as FORMAT.md says."""
        volumes = [b""] * (1 + max((part[3] for part in self.parts), default=-1))
        places: dict[str, int] = {}
        parts = []
        for codec, raw, stored, volume in self.parts:
            digest = sha256(stored)
            if digest not in places:
                places[digest] = len(volumes[volume]) + 512
                volumes[volume] += tar_header(digest, len(stored)) + stored + bytes(-len(stored) % 512)
            parts.append({"codec": codec, "sha256": digest, "size": len(stored), "raw_size": len(raw),
                          "volume": volume, "offset": places[digest]})
        volumes = [volume + bytes(1024) for volume in volumes]
        return volumes, {
            "format_version": "1.0", "requires": [], "name": NAME, "written_with": {"hands": "2"},
            "snapshots": self.snapshots, "parts": parts,
            "blobs": [{"sha256": sha256(content), "size": len(content),
                       "extents": [{"part": p, "offset": o, "length": n} for p, o, n in extents]}
                      for content, extents in self.blobs],
            "volumes": [{"name": f"{NAME}-{number:03}.tar", "size": len(volume), "sha256": sha256(volume),
                         "role": "parts"} for number, volume in enumerate(volumes, 1)]}

    def write(self, *folders: Path, change: Change = lambda index: None) -> None:
        """Write the bundle, volume after volume to the next of `folders`, with an index that `change` was let at."""
        volumes, index = self.volumes_and_index()
        change(index)
        content = json.dumps(index, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        names = [f"{NAME}-{number:03}.tar" for number in range(1, len(volumes) + 1)]
        files = {"README.txt": readme_text(NAME, names).encode("ascii"), "restore.py": RESTORE.read_bytes(),
                 "build-info.json": b"{}", "index.json": content, **dict(zip(names, volumes))}
        sums = "".join(f"{sha256(files[name])}  {name}\n" for name in sorted(files)).encode()
        for number, folder in enumerate(folders):
            folder.mkdir(exist_ok=True)
            (folder / "SHA256SUMS").write_bytes(sums)
            for name, file in files.items():
                if name not in names or names.index(name) % len(folders) == number:
                    (folder / name).write_bytes(file)


def zstd_part(raw: bytes, volume: int) -> tuple[str, bytes, bytes, int]:
    """Return a part in the codec zstd."""
    return "zstd", raw, zstandard.ZstdCompressor(write_content_size=True).compress(raw), volume


def snapshot(kind: str, repo: str, commit: str, files: dict[str, bytes], *refs: str) -> dict[str, Any]:
    """Return a snapshot of the index."""
    return {"id": repo, "type": kind, "commit": commit, "refs": refs or ("main", "refs/pr/1"),
            "agreed_by": [], "told_by": "https://hub.example", "differed": [], "files": [
                {"path": path, "size": len(content), "sha256": sha256(content),
                 "etag": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()}
                for path, content in sorted(files.items())]}


def tar_header(digest: str, size: int) -> bytes:
    """Return a member's header, field by field from the table in FORMAT.md."""
    header = bytearray(512)
    for at, text in ((0, f"parts/{digest}"), (100, "0000644\0"), (108, "0000000\0"), (116, "0000000\0"),
                     (124, f"{size:011o}\0"), (136, "00000000000\0"), (148, " " * 8), (156, "0"),
                     (257, "ustar\0" + "00")):
        header[at:at + len(text)] = text.encode()
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header)


def restore(*arguments: object, script: Path, flags: str = "-I", path: str | None = None) -> Result:
    """Run `restore.py` of a bundle as a user would."""
    environment = dict(os.environ, PATH=os.environ["PATH"] if path is None else path)
    command = [sys.executable, *flags.split(), str(script / "restore.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, timeout=60)


def files_below(folder: Path) -> dict[str, bytes]:
    """Return path → content of everything below `folder`."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(result: Result, *words: str) -> None:
    """Check that one line of error says all of `words`."""
    assert (result.returncode, result.stderr[:7], result.stderr.count("\n")) == (1, "error: ", 1), result.stderr
    for word in words:
        assert word in result.stderr


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A good bundle in one folder."""
    HandMade().write(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where to restore to; not there yet."""
    return tmp_path / "new" / "target"


# --- What a good bundle gives


def test_lists_what_is_inside(made: Path) -> None:
    """Without arguments it says what the bundle holds, and writes nothing."""
    before = files_below(made)

    result = restore(script=made)

    assert (result.returncode, result.stderr) == (0, "")
    assert sha256(before["index.json"]) in result.stdout
    for text in ("dataset org/name", "model org/name", C1, C2, "main, refs/pr/1", "https://hub.example", UNICODE_PATH,
                 f"{len(LARGE):,}", f"{NAME}-002.tar"):
        assert text in result.stdout
    assert "NOT HERE" not in result.stdout
    assert files_below(made) == before


def test_restores_all_files(made: Path, target: Path) -> None:
    """Every file comes back, in plain folders."""
    result = restore(target, script=made)

    assert (result.returncode, result.stderr) == (0, "")
    assert "6 files restored, 0 were there" in result.stdout
    assert files_below(target) == FILES


def test_restores_from_several_folders(tmp_path: Path, target: Path) -> None:
    """Folders that carry a volume each make one bundle."""
    HandMade().write(tmp_path / "one", tmp_path / "two")

    result = restore(target, tmp_path / "two", tmp_path / "one", script=tmp_path / "one")

    assert result.returncode == 0, result.stderr
    assert files_below(target) == FILES


def test_restores_what_one_folder_suffices_for(tmp_path: Path, target: Path) -> None:
    """`--only` needs only the volumes that its files are in, wherever it stands among the arguments."""
    HandMade().write(tmp_path / "one", tmp_path / "two")

    listing = restore(script=tmp_path / "one")
    wanted = restore(target, "--only", "twice", tmp_path / "one", script=tmp_path / "two")
    lacking = restore(target, "--only", "org/name", script=tmp_path / "one")

    assert re.search(rf"{NAME}-002.tar: [0-9,]+ bytes, NOT HERE", listing.stdout)
    assert wanted.returncode == 0, wanted.stderr
    assert_refused(lacking, f"volume {NAME}-002.tar is not in", str(tmp_path / "one"))
    assert files_below(target) == {path: content for path, content in FILES.items() if path.startswith("twice/")}


def test_only_takes_an_id_or_a_typed_id(made: Path, target: Path) -> None:
    """An id means all types that have it; with its type's folder it means one."""
    one = restore(target, "--only", "datasets/org/name", script=made)
    unknown = restore(target, "--only", "org/nam", script=made)

    assert one.returncode == 0
    assert list(files_below(target)) == ["datasets/org/name/train.txt"]
    assert_refused(unknown, "org/nam is not here", "datasets/org/name, org/name, twice")


def test_restores_a_bundle_of_empty_files(tmp_path: Path, target: Path) -> None:
    """No parts and no volumes are needed for empty files."""
    snapshots = [snapshot("space", "s", C1, {"a": b"", "b/c": b""})]
    HandMade(parts=[], blobs=[(b"", [])], snapshots=snapshots).write(tmp_path / "b")

    result = restore(target, script=tmp_path / "b")

    assert result.returncode == 0, result.stderr
    assert files_below(target) == {"spaces/s/a": b"", "spaces/s/b/c": b""}


def test_restores_parts_of_full_size(tmp_path: Path, target: Path) -> None:
    """Parts of 16 MiB, raw and zstd, make a file larger than a part."""
    first, second = noise("x", 16 << 20), bytes(16 << 20)
    content = first[1:] + second + first[:1]
    bundle = HandMade(parts=[("raw", first, first, 0), zstd_part(second, 0)],
                      blobs=[(content, [(0, 1, len(first) - 1), (1, 0, len(second)), (0, 0, 1)])],
                      snapshots=[snapshot("model", "m", C1, {"f": content})])
    bundle.write(tmp_path / "b")

    result = restore(target, script=tmp_path / "b")

    assert result.returncode == 0, result.stderr
    assert sha256((target / "m/f").read_bytes()) == sha256(content)


def test_ignores_fields_that_it_does_not_know(tmp_path: Path, target: Path) -> None:
    """A later minor version may add fields anywhere."""
    def add(index: dict[str, Any]) -> None:
        index.update(format_version="1.7", later={"a": [None, True]})
        for record in (index["snapshots"][0], index["snapshots"][0]["files"][0], index["blobs"][0], index["parts"][0],
                       index["blobs"][0]["extents"][0], index["volumes"][0]):
            record["later"] = "x"
    HandMade().write(tmp_path / "b", change=add)

    result = restore(target, script=tmp_path / "b")

    assert result.returncode == 0, result.stderr
    assert files_below(target) == FILES


# --- Each way to decode zstd


def bare_path(tmp_path: Path, *programs: str) -> str:
    """Return a PATH that leads to `programs` only."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in programs:
        found = shutil.which(program)
        if found is None:
            pytest.skip(f"no program {program} here")
        (folder / program).symlink_to(found)
    return str(folder)


@pytest.mark.parametrize("way", MODULES_HERE)
def test_decodes_zstd_by_a_module(way: str, made: Path, target: Path, tmp_path: Path) -> None:
    """Each Python module that decodes zstd will do, without the others and without the program."""
    hidden = [name for name in MODULES if name != way]
    code = (f"import runpy, sys; sys.modules.update(dict.fromkeys({hidden!r}))\n"
            f"sys.argv = ['restore.py', {str(target)!r}]\n"
            f"runpy.run_path({str(made / 'restore.py')!r}, run_name='__main__')")

    result = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, encoding="utf-8",
                            env={"PATH": bare_path(tmp_path)})

    assert (result.returncode, result.stderr) == (0, "")
    assert files_below(target) == FILES


def test_decodes_zstd_by_the_program(made: Path, target: Path, tmp_path: Path) -> None:
    """A bare interpreter (-S: without installed packages) uses the program."""
    result = restore(target, script=made, flags="-I -S", path=bare_path(tmp_path, "zstd"))

    assert (result.returncode, result.stderr) == (0, "")
    assert files_below(target) == FILES


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python decodes zstd itself")
def test_says_what_to_install_only_if_zstd_is_needed(made: Path, target: Path, tmp_path: Path) -> None:
    """Without any way to decode zstd nothing is written, unless only raw parts are needed."""
    path = bare_path(tmp_path)
    (tmp_path / "raw").mkdir()
    raw = HandMade(parts=[("raw", RAW_A, RAW_A, 0)], blobs=[(RAW_A, [(0, 0, 1500)])],
                   snapshots=[snapshot("model", "org/m", C1, {"f": RAW_A})])
    raw.write(tmp_path / "raw")

    listing = restore(script=made, flags="-I -S", path=path)
    refused = restore(target, script=made, flags="-I -S", path=path)
    there = target.exists()
    good = restore(target, script=tmp_path / "raw", flags="-I -S", path=path)

    assert listing.returncode == 0
    assert_refused(refused, "install the program `zstd`", "`zstandard`")
    assert not there
    assert (good.returncode, files_below(target)) == (0, {"org/m/f": RAW_A})


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python decodes zstd itself")
def test_runs_nothing_from_the_folder_of_the_bundle(made: Path, target: Path, tmp_path: Path) -> None:
    """Neither a module nor a program beside the script is run, even without -I."""
    for name in ("json.py", "zstandard.py", "zstd"):
        (made / name).write_text("#!/bin/sh\nraise SystemExit('ran')\n")
        (made / name).chmod(0o755)

    result = subprocess.run([sys.executable, "-S", "restore.py", str(target)], capture_output=True, encoding="utf-8",
                            cwd=made, env={"PATH": f"{bare_path(tmp_path)}:."})

    assert_refused(result, "install the program `zstd`")


# --- Damage: each is found, and named


def flip(path: Path, at: int) -> None:
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def assert_only_proven_files(target: Path) -> None:
    """Check that what is there is whole, and no temporary file remains."""
    for path, content in files_below(target).items():
        assert content == FILES[path]


STORED_B = zstd_part(RAW_B, 0)[2]


@pytest.mark.parametrize(("volume", "at", "words"), [
    (1, 512 + 700, (f"{NAME}-001.tar: part 0 at byte 512", sha256(RAW_A), "damaged, copy the volume again")),
    (1, 130, (f"{NAME}-001.tar: part 0", "tar header")),
    (1, 512 + 1500, (f"{NAME}-001.tar: part 0", "padding")),
    (1, 2048 + 512 + 100, (f"{NAME}-001.tar: part 1", sha256(STORED_B), "damaged")),
    (2, 600, (f"{NAME}-002.tar: part 2", UNICODE_PATH, "damaged")),
])
def test_names_the_damaged_part(volume: int, at: int, words: tuple[str, ...], made: Path, target: Path) -> None:
    """A changed byte before, in or after a part is found before the part is decoded."""
    flip(made / f"{NAME}-{volume:03}.tar", at)

    result = restore(target, script=made)

    assert_refused(result, *words)
    assert_only_proven_files(target)


def test_names_the_volume_that_is_cut_or_missing(made: Path, target: Path) -> None:
    """A volume of the wrong size, or none, is told before anything is written."""
    volume = made / f"{NAME}-002.tar"
    os.truncate(volume, volume.stat().st_size - 512)
    cut = restore(target, script=made)
    volume.unlink()
    missing = restore(target, script=made)

    assert_refused(cut, f"{NAME}-002.tar", "bytes and must have", "copy it again")
    assert_refused(missing, f"volume {NAME}-002.tar is not in {made}")
    assert not target.exists()


def test_names_a_damaged_index(made: Path, target: Path) -> None:
    """A changed byte of the index is found by SHA256SUMS."""
    flip(made / "index.json", 300)

    assert_refused(restore(target, script=made), f"{made}: index.json does not match SHA256SUMS")
    assert not target.exists()


@pytest.mark.parametrize("change", [
    lambda sums: b"", lambda sums: sums[:-1], lambda sums: sums + b"\n", lambda sums: sums.replace(b"  ", b" *", 1),
    lambda sums: sums.replace(b"  ", b" ", 1), lambda sums: b"".join(reversed(sums.splitlines(keepends=True))),
    lambda sums: sums.splitlines(keepends=True)[0] + sums, lambda sums: sums.replace(b"README.txt", b"../README.txt"),
    lambda sums: sums.replace(b"\n", b"\r\n"), lambda sums: sums.replace(b"README.txt", b"-README.txt"),
    lambda sums: sums.upper(), lambda sums: sums + b"0" * 64 + b"  " + b"z" * 101 + b"\n"])
def test_refuses_sums_that_break_the_grammar(change: Callable[[bytes], bytes], made: Path) -> None:
    """Only one spelling of SHA256SUMS is read."""
    (made / "SHA256SUMS").write_bytes(change((made / "SHA256SUMS").read_bytes()))

    assert_refused(restore(script=made), f"{made}: SHA256SUMS is damaged")


@pytest.mark.parametrize("name", ["SHA256SUMS", "index.json"])
def test_refuses_a_folder_without_a_bundle(name: str, made: Path) -> None:
    """SHA256SUMS is the commit point, and each folder carries the index."""
    (made / name).unlink()

    assert_refused(restore(script=made), f"{made}: no bundle here, {name} is missing")


def test_refuses_sums_that_lack_the_index_or_differ_about_a_volume(made: Path) -> None:
    """SHA256SUMS lists the index, and gives a volume the digest that the index gives it."""
    sums = (made / "SHA256SUMS").read_text()
    (made / "SHA256SUMS").write_text(re.sub(r".*index\.json\n", "", sums))
    lacking = restore(script=made)
    (made / "SHA256SUMS").write_text(re.sub(rf".*(  {NAME}-001.tar\n)", "0" * 64 + r"\1", sums))
    differing = restore(script=made)

    assert_refused(lacking, "index.json does not match SHA256SUMS")
    assert_refused(differing, f"differ about {NAME}-001.tar")


def test_refuses_folders_of_two_bundles(made: Path, tmp_path: Path, target: Path) -> None:
    """Folders make one bundle only if their SHA256SUMS are the same."""
    HandMade().write(tmp_path / "other", change=lambda index: index.update(written_with={}))

    result = restore(target, made, tmp_path / "other", script=made)

    assert_refused(result, str(made), str(tmp_path / "other"), "differ in SHA256SUMS")


# --- An index that breaks the rules, well signed


def refused_index(change: Change, tmp_path: Path, *words: str) -> None:
    """Check that a bundle with a changed index, its SHA256SUMS right, writes nothing."""
    HandMade().write(tmp_path / "b", change=change)

    result = restore(tmp_path / "target", script=tmp_path / "b")

    assert_refused(result, *words)
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "a\\b", "a\nb", "a\x7fb",
                                  "C:x", "c:/x", "é" * 128, "/".join(["a" * 200] * 6)])
def test_refuses_unsafe_paths(path: str, tmp_path: Path) -> None:
    """No path leads out of the target, or upsets it."""
    refused_index(lambda index: index["snapshots"][0]["files"][0].update(path=path), tmp_path, "unsafe path")


@pytest.mark.parametrize("repo", ["../x", "a/b/c", "a/..", ".restore", "/a", "", "a\\b", "C:"])
def test_refuses_unsafe_ids(repo: str, tmp_path: Path) -> None:
    """A repository's id is a part of paths too."""
    refused_index(lambda index: index["snapshots"][0].update(id=repo), tmp_path, "snapshots[0]: id must not be")


@pytest.mark.parametrize(("change", "word"), [
    (lambda i: i.update(format_version="2.0"), "format_version must not be '2.0'"),
    (lambda i: i.update(requires=["base-blobs"]), "needs ['base-blobs']"),
    (lambda i: i.pop("parts"), "parts must not be None"),
    (lambda i: i["parts"][1].update(codec="brotli"), "parts[1]: codec 'brotli' is not known"),
    (lambda i: i["parts"][1].update(raw_size=(16 << 20) + 1), "parts[1]: raw_size"),
    (lambda i: i["parts"][1].update(size=True), "parts[1]: size must not be True"),
    (lambda i: i["parts"][1].update(volume=2), "parts[1] is nowhere"),
    (lambda i: i["parts"][1].update(offset=-1), "parts[1]: offset must not be -1"),
    (lambda i: i["blobs"][0]["extents"][0].update(part=4), f"blob {sha256(LARGE)}: its extents"),
    (lambda i: i["blobs"][0]["extents"][0].update(length=1501), f"blob {sha256(LARGE)}: its extents"),
    (lambda i: i["blobs"][0]["extents"].pop(), f"blob {sha256(LARGE)}: its extents"),
    (lambda i: i["blobs"].pop(2), "'train.txt' has no blob"),
    (lambda i: i["snapshots"][0]["files"][0].update(size=7), "'train.txt' has no blob of its size"),
    (lambda i: i["snapshots"][0].update(type="bucket"), "snapshots[0]: type must not be 'bucket'"),
    (lambda i: i["snapshots"][0]["files"].append(i["snapshots"][0]["files"][0]), "two files at datasets/org/name"),
    (lambda i: i["snapshots"][1]["files"][1].update(path="config.json/x"), "would lie below another file"),
    (lambda i: i["volumes"][0].update(name="../b-001.tar"), "volumes[0]: name must not be"),
    (lambda i: i["volumes"][0].update(role="base"), "volumes[0]: role must not be"),
])
def test_refuses_an_index_that_breaks_a_rule(change: Change, word: str, tmp_path: Path) -> None:
    """Whatever decides what is written where is checked before the first write."""
    refused_index(change, tmp_path, word)


@pytest.mark.parametrize("spell", [
    lambda text: text.replace('"name":', '"name": ', 1), lambda text: text + "\n", lambda text: "\ufeff" + text,
    lambda text: text.replace('"requires":[]', '"requires":[],"requires":[]'),
    lambda text: text.replace("ü", "\\u00fc"),
    lambda text: text[:-1], lambda text: "[" * 100_000, lambda text: "[]"])
def test_refuses_an_index_that_is_not_canonical(spell: Callable[[str], str], made: Path) -> None:
    """Only one spelling of the index is read, though SHA256SUMS vouches for another."""
    old = (made / "index.json").read_bytes()
    new = spell(old.decode()).encode()
    (made / "index.json").write_bytes(new)
    (made / "SHA256SUMS").write_text((made / "SHA256SUMS").read_text().replace(sha256(old), sha256(new)))

    assert_refused(restore(script=made), "index.json")


def test_refuses_a_part_that_decodes_to_another_size(tmp_path: Path, target: Path) -> None:
    """Decoding stops at the size that the index gives, by module and by program."""
    bomb = zstandard.ZstdCompressor().compress(bytes(200 << 20))
    plain = zstandard.ZstdCompressor().compress(RAW_B)
    garbage = b"no frame at all"
    path = bare_path(tmp_path, "zstd")
    for number, stored in enumerate((bomb, plain[:-20], garbage)):
        bundle = HandMade(parts=[("zstd", RAW_B, stored, 0)], blobs=[(RAW_B, [(0, 0, len(RAW_B))])],
                          snapshots=[snapshot("model", "m", C1, {"f": RAW_B})])
        bundle.write(tmp_path / f"b{number}")

        for flags in ("-I", "-I -S"):
            result = restore(target, script=tmp_path / f"b{number}", flags=flags, path=path)

            assert_refused(result, f"m/f: {tmp_path}/b{number}/{NAME}-001.tar: part 0", "decode it")
            assert files_below(target) == {}


def test_refuses_good_parts_that_make_another_file(tmp_path: Path, target: Path) -> None:
    """A wrong index is told apart from a damaged part."""
    bundle = HandMade(parts=[("raw", RAW_A, RAW_A, 0)], blobs=[(RAW_A, [(0, 750, 750), (0, 0, 750)])],
                      snapshots=[snapshot("model", "m", C1, {"f": RAW_A})])
    bundle.write(tmp_path / "b")

    assert_refused(restore(target, script=tmp_path / "b"), "m/f: parts are right", "wrong index.json")
    assert files_below(target) == {}


def test_shows_no_control_characters(tmp_path: Path) -> None:
    """Text from the index cannot steer the terminal."""
    HandMade().write(tmp_path / "b", change=lambda index: index["snapshots"][0].update(told_by="x\x1b[2Jy\ny"))

    result = restore(script=tmp_path / "b")

    assert "told_by x?[2Jy?y" in result.stdout


# --- The target


def test_goes_on_where_a_run_ended(made: Path, target: Path) -> None:
    """Files that are there and the same are left alone."""
    restore(target, "--only", "twice", script=made)
    before = (target / f"twice/{C1}/a").stat()

    result = restore(target, script=made)
    after = (target / f"twice/{C1}/a").stat()

    assert "4 files restored, 2 were there" in result.stdout
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert files_below(target) == FILES


@pytest.mark.parametrize("content", [b"mine", bytes(len(SMALL))])
def test_never_overwrites_another_file(content: bytes, made: Path, target: Path) -> None:
    """A file that differs stops the run before anything is written."""
    (target / "org/name").mkdir(parents=True)
    (target / "org/name/config.json").write_bytes(content)

    result = restore(target, script=made)

    assert_refused(result, str(target / "org/name/config.json"), "differs from the bundle's")
    assert files_below(target) == {"org/name/config.json": content}


@pytest.mark.parametrize("place", ["org", "org/name/config.json"])
def test_follows_no_symbolic_link(place: str, made: Path, target: Path, tmp_path: Path) -> None:
    """A link in the target, to a folder or a file, leads nowhere."""
    (tmp_path / "elsewhere").mkdir()
    (target / place).parent.mkdir(parents=True)
    (target / place).symlink_to(tmp_path / "elsewhere")

    assert_refused(restore(target, script=made), f"{target / place}: a symbolic link")
    assert files_below(tmp_path / "elsewhere") == {}


def test_refuses_a_target_that_is_too_small(tmp_path: Path, target: Path) -> None:
    """The space is checked before anything is written."""
    zeros = bytes(16 << 20)
    count = shutil.disk_usage(tmp_path).free // len(zeros) + 100
    bundle = HandMade(parts=[zstd_part(zeros, 0)], blobs=[(b"", [])],
                      snapshots=[snapshot("model", "m", C1, {"f": b""})])

    def enlarge(index: dict[str, Any]) -> None:
        extents = [{"part": 0, "offset": 0, "length": len(zeros)}] * count
        index["blobs"][0].update(extents=extents, size=count * len(zeros))
        index["snapshots"][0]["files"][0].update(size=count * len(zeros))
    bundle.write(tmp_path / "b", change=enlarge)

    assert_refused(restore(target, script=tmp_path / "b"), f"{count * len(zeros):,} bytes are needed", "are free")
    assert not target.exists()


@pytest.mark.skipif(os.name != "posix", reason="needs ulimit")
def test_leaves_nothing_of_a_file_that_cannot_be_written(made: Path, target: Path) -> None:
    """When the system stops a write, the file is named and its beginning removed."""
    command = f"ulimit -f 16; exec {shlex.join([sys.executable, '-I', str(made / 'restore.py'), str(target)])}"

    result = subprocess.run(["sh", "-c", command], capture_output=True, encoding="utf-8")

    assert_refused(result, f"org/name/{UNICODE_PATH}: ", "File too large")
    assert_only_proven_files(target)


def test_refuses_to_restore_into_a_bundle(made: Path) -> None:
    """Naming the bundle where the target belongs does not fill the stick."""
    assert_refused(restore(made, script=made), f"{made} holds a bundle")


@pytest.mark.parametrize("arguments", [["--only", "org/name"], ["--unknown"]])
def test_exits_with_2_on_a_wrong_command_line(arguments: list[str], made: Path) -> None:
    """A usage error is told apart from a bad bundle."""
    result = restore(*arguments, script=made)

    assert (result.returncode, result.stderr[:6]) == (2, "usage:")


def test_is_written_for_python_3_8_and_the_standard_library() -> None:
    """The script parses as Python 3.8 and imports nothing that has to be installed."""
    tree = ast.parse(RESTORE.read_text(encoding="utf-8"), feature_version=(3, 8))

    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert modules <= sys.stdlib_module_names


# --- README.txt


def blocks() -> list[str]:
    """Return the commands of README.txt: what is indented by four spaces, an empty line between two."""
    text = readme_text(NAME, [f"{NAME}-001.tar", f"{NAME}-002.tar"]).rstrip()
    return [block for block in re.split(r"\n\s*\n", text) if all(line.startswith("    ") for line in block.split("\n"))]


def follow(word: str, folder: Path, **values: object) -> str:
    """Run, by a shell, the block of README.txt with `word`, with `values` in place of its examples."""
    [command] = [block for block in blocks() if word in block]
    for name, value in values.items():
        command, count = re.subn(rf"\b{name}=\S+", lambda match: f"{name}={shlex.quote(str(value))}", command, count=1)
        assert count == 1, f"no {name}= in {command}"
    assert set(re.findall(r"\b([A-Z0-9]+)=", command)) <= set(values), "an example would be used as if it were a value"
    lead = "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in SHELL.items())
    SHELL.update(values)
    done = subprocess.run(["sh", "-c", lead + command], cwd=folder, capture_output=True, encoding="utf-8",
                          env=dict(os.environ, LC_ALL="C"), timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), (command, done.stderr)
    return done.stdout


SHELL: dict[str, object] = {}
"""The variables of the one shell in which a reader of README.txt types."""


@pytest.fixture
def shell() -> None:
    """A new shell."""
    for program in ("tar", "zstd", "dd", "sha256sum", "grep", "sed"):
        if shutil.which(program) is None:
            pytest.skip(f"no program {program} here")
    SHELL.clear()


@pytest.mark.usefixtures("shell")
@pytest.mark.parametrize(("path", "content"), [
    ("config.json", SMALL), ("train.txt", OTHER), ("empty.txt", b""), (UNICODE_PATH.replace("[", "."), LARGE)])
def test_readme_leads_to_a_file_by_hand(path: str, content: bytes, made: Path, tmp_path: Path) -> None:
    """The commands of README.txt, followed to the letter, give a file back with stock tools alone."""
    out = tmp_path / "by hand"
    [record] = map(json.loads, follow('"path"', made, FILE=path).splitlines())
    extents = json.loads("{" + follow('"extents"', made, SHA256=record["sha256"]) + "}")["extents"]
    follow(': > "$OUT"', made, OUT=out)
    for extent in extents:
        part = json.loads(follow('"parts"', made, NUMBER=extent["part"]))
        volume = f"{NAME}-{part['volume'] + 1:03}.tar"
        assert follow("| sha256sum", made, V=volume, PART=part["sha256"]) == f"{part['sha256']}  -\n"
        word = "zstd -dc" if part["codec"] == "zstd" else '"parts/$PART" |\n        dd'
        follow(word, made, SKIP=extent["offset"], COUNT=extent["length"])
    proof = follow('sha256sum "$OUT"', made)

    assert record["size"] == len(content)
    assert proof.startswith(sha256(content))
    assert out.read_bytes() == content


@pytest.mark.usefixtures("shell")
def test_stock_tools_accept_a_bundle(made: Path) -> None:
    """`sha256sum -c` proves it, `tar` lists its volumes without a word."""
    sums = follow("sha256sum -c SHA256SUMS", made)
    listing = subprocess.run(["tar", "-tvf", f"{NAME}-001.tar"], cwd=made, capture_output=True, encoding="utf-8")

    assert set(sums.splitlines()) == {f"{name}: OK" for name in os.listdir(made) if name != "SHA256SUMS"}
    assert (listing.returncode, listing.stderr) == (0, "")
    assert re.findall(r"^-rw-r--r-- 0/0 +(\d+) 1970-01-01 \d\d:\d\d parts/([0-9a-f]{64})$", listing.stdout, re.M) == [
        (str(len(stored)), sha256(stored)) for stored in (RAW_A, STORED_B)]


def test_readme_tells_how_to_verify_the_signature(made: Path, tmp_path: Path) -> None:
    """The command for a signed bundle accepts a good signature and nothing else."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("no program ssh-keygen here")
    key, signers = tmp_path / "key", tmp_path / "signers"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    signers.write_text(f"me@example.org {key.with_suffix('.pub').read_text()}")
    sign = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", "bundler-v1", "SHA256SUMS"]
    subprocess.run(sign, cwd=made, check=True)
    [command] = [block for block in blocks() if "ssh-keygen" in block]
    command = command.replace("ALLOWED_SIGNERS", str(signers)).replace("SIGNER ", "me@example.org ")

    good = subprocess.run(["sh", "-c", command], cwd=made, capture_output=True, encoding="utf-8")
    flip(made / "SHA256SUMS", 0)
    bad = subprocess.run(["sh", "-c", command], cwd=made, capture_output=True)

    assert (good.returncode, good.stdout[:4]) == (0, "Good")
    assert bad.returncode != 0


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_readme_is_plain(count: int) -> None:
    """The text fits any terminal, says the same for the same bundle, and names its volumes."""
    name = "n" * 64
    volumes = [f"{name}-{number:03}.tar" for number in range(1, count + 1)]

    text = readme_text(name, volumes)

    assert text == readme_text(name, volumes)
    assert text.isascii() and text.endswith("\n") and "\r" not in text and "{{" not in text
    assert max(len(line) for line in text.splitlines()) <= 78
    assert not [line for line in text.splitlines() if line != line.rstrip()]
    assert text.count("\n") < 250
    for volume in volumes[:2] + volumes[-1:]:
        assert f"    {volume}\n" in text
    assert "bundle install DIR" in text and "python3 -I restore.py" in text
