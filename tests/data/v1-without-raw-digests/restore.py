"""Unpack a bundle with nothing but Python 3.8 or later: no package, no network.

    python3 -I restore.py                                               list what the bundle holds
    python3 -I restore.py TARGET_DIR [--only REPO_ID] [BUNDLE_DIR ...]  restore the files

BUNDLE_DIR is where this script lies unless given; name every folder (stick) that the wanted files are spread over.
Files become TARGET_DIR/org/name/path for a model, TARGET_DIR/datasets/org/name/path for a dataset and
TARGET_DIR/spaces/org/name/path for a space; a repository with several commits has a folder for each,
TARGET_DIR/org/name/COMMIT/path. These are plain files, not the Hugging Face cache.

Proven: index.json by SHA256SUMS, each stored part by the index before it is decoded, each file before it gets its name
(until then it is TARGET_DIR/.restore-*.tmp; a killed run may leave one, to be deleted). Not proven: SHA256SUMS itself
and bytes that the wanted files do not need; README.txt tells how. A file that is there is never overwritten: it must
be the same. The exit code is 0, 1 on anything wrong, 2 for a wrong command line.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.isolated:
    del sys.path[0]  # without -I, any file beside this script could pose as one of Python's modules

import argparse
import hashlib
import importlib
import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
from typing import Any, Callable, Dict

Record = Dict[str, Any]

TYPE_FOLDERS = {"model": "", "dataset": "datasets/", "space": "spaces/"}
WINDOWS_REFUSES = re.compile(r'[<>:"|?*]|[. ](/|$)|(^|/)(con|prn|aux|nul|com\d|lpt\d)(\.|/|$)', re.IGNORECASE)

# What is needed of the index: field → a pattern for its text, or the largest number, or the shape of a list's items.
SHA256, TEXT, NUMBER = "[0-9a-f]{64}", "(?s:.*)", (1 << 53) - 1
STEP = "[A-Za-z0-9_][A-Za-z0-9._-]*"
FILE = {"path": TEXT, "size": NUMBER, "sha256": SHA256}
EXTENT = {"part": NUMBER, "offset": NUMBER, "length": NUMBER}
SNAPSHOT = {"id": f"{STEP}(/{STEP})?", "type": "|".join(TYPE_FOLDERS), "commit": "[0-9a-f]{40}", "told_by": TEXT,
            "refs": [TEXT], "files": [FILE]}
PART = {"codec": TEXT, "sha256": SHA256, "size": (16 << 20) + (64 << 10), "raw_size": 16 << 20, "volume": NUMBER,
        "offset": NUMBER}
VOLUME = {"name": "[a-z0-9_][a-z0-9._-]*-[0-9]{3,}[.]tar", "size": NUMBER, "sha256": SHA256, "role": "parts"}
INDEX = {"format_version": "1[.](0|[1-9][0-9]*)", "name": TEXT, "requires": [TEXT], "snapshots": [SNAPSHOT],
         "parts": [PART],
         "blobs": [{"sha256": SHA256, "size": NUMBER, "extents": [EXTENT]}], "volumes": [VOLUME]}


class Refused(Exception):
    """Something that is not as it must be."""


def refuse_unless(good: object, message: str) -> None:
    """Raise `message` unless `good`."""
    if not good:
        raise Refused(message)


# --- Codecs. To add one: write a function and name it in CODECS. It must stop after raw_size + 1 bytes, whatever the
# stored bytes claim; its caller checks the size, and the SHA-256 of the file that the bytes go to.

def decode_raw(stored: bytes, raw_size: int) -> bytes:
    """Return the stored bytes."""
    return stored


def decode_zstd(stored: bytes, raw_size: int) -> bytes:
    """Decode one zstd frame by whatever this machine has."""
    name, way = find_zstd()
    if name == "zstandard":
        return bytes(way.ZstdDecompressor().stream_reader(stored).read(raw_size + 1))
    if name != "program":
        return bytes(way.ZstdDecompressor().decompress(stored, raw_size + 1))
    with tempfile.TemporaryFile() as source:
        source.write(stored)
        source.seek(0)
        command = [way, "--decompress", "--stdout", "--quiet"]
        with subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            return process.stdout.read(raw_size + 1) if process.stdout else b""


def find_zstd() -> tuple[str, Any]:
    """Return what decodes zstd here: a module's name and the module, or "program" and its path."""
    for name in ("compression.zstd", "backports.zstd", "zstandard"):
        try:
            return name, importlib.import_module(name)
        except ImportError:
            pass
    program = shutil.which("zstd")
    if program and os.path.isabs(program):  # a relative one lies in the current folder, which may be the stick
        return "program", program
    raise Refused("parts are compressed with zstd, and nothing here decodes it: install the program `zstd`, "
                  "Python 3.14, or the Python package `backports.zstd` or `zstandard`")


def decode_planes(stored: bytes, raw_size: int) -> bytes:
    """Decode runs of numbers that were taken apart into byte planes; FORMAT.md has the table of `planes`."""
    (count,), position, runs = struct.unpack_from("<H", stored), 2, []
    for _ in range(count):
        length, width = struct.unpack_from("<IB", stored, position)
        streams = [struct.unpack_from("<BI", stored, position + 5 + 5 * plane) for plane in range(width)]
        refuse_unless(width in (1, 2, 4, 8) and length % width == 0, "a run of no whole elements")
        runs.append((length, width, streams))
        position += 5 + 5 * width
    refuse_unless(sum(length for length, _, _ in runs) == raw_size, "runs of another length than the part's")
    raw = bytearray()
    for length, width, streams in runs:
        planes = []
        for method, size in streams:
            content = stored[position:position + size]
            planes.append(decode_zstd(content, length // width) if method == 1 else content)
            refuse_unless(method in (0, 1) and len(planes[-1]) == length // width, "a plane of a wrong kind or length")
            position += size
        raw += planes[0] if width == 1 else merge_planes(planes, length)
    refuse_unless(position == len(stored), "bytes that belong to no plane")
    return bytes(raw)


def merge_planes(planes: list[bytes], length: int) -> bytes:
    """Put planes, the highest byte's first, together to elements, and turn their upper 16 bits right by one.

    All bytes of a plane are turned at once, as one large number; masks keep neighbours apart.
    """
    size, width = len(planes[0]), len(planes)
    high, low = (int.from_bytes(plane, "little") for plane in planes[:2])
    ones = int.from_bytes(b"\x01" * size, "little")
    turned_high = (high >> 1 & ones * 0x7F) | (low & ones) << 7
    turned_low = (low >> 1 & ones * 0x7F) | (high & ones) << 7
    raw = bytearray(length)
    raw[width - 1::width], raw[width - 2::width] = (n.to_bytes(size, "little") for n in (turned_high, turned_low))
    for position, plane in enumerate(planes[2:], start=3):
        raw[width - position::width] = plane
    return bytes(raw)


CODECS: dict[str, Callable[[bytes, int], bytes]] = {"raw": decode_raw, "zstd": decode_zstd, "planes": decode_planes}
NEED_ZSTD = ("zstd", "planes")


# --- From SHA256SUMS down; nothing is parsed before it is proven.

def read_index(folders: list[str]) -> tuple[Record, str]:
    """Return the index that all folders carry, and its SHA-256."""
    sums = read(folders[0], "SHA256SUMS")
    line = rb"([0-9a-f]{64})  ([A-Za-z0-9_][A-Za-z0-9._-]{0,99})\n"
    names = [name.decode() for _, name in re.findall(line, sums)]
    refuse_unless(re.fullmatch(rb"(%s)+" % line, sums) and names == sorted(set(names)),
                  f"{folders[0]}: SHA256SUMS is damaged: a line is not `SHA-256, two spaces, name`, or out of order")
    digests = {name.decode(): digest.decode() for digest, name in re.findall(line, sums)}
    for folder in folders:
        refuse_unless(read(folder, "SHA256SUMS") == sums, f"{folder} and {folders[0]} differ in SHA256SUMS")
        content = read(folder, "index.json")
        refuse_unless(hashlib.sha256(content).hexdigest() == digests.get("index.json"),
                      f"{folder}: index.json does not match SHA256SUMS: damaged")
    index = parse_index(content)
    for volume in index["volumes"]:
        refuse_unless(digests.get(volume["name"]) == volume["sha256"],
                      f"SHA256SUMS and index.json differ about {volume['name']}")
    return index, digests["index.json"]


def read(folder: str, name: str) -> bytes:
    """Return the content of a file that each folder of a bundle has."""
    refuse_unless(os.path.isfile(os.path.join(folder, name)), f"{folder}: no bundle here, {name} is missing")
    with open(os.path.join(folder, name), "rb") as stream:
        return stream.read()


def parse_index(content: bytes) -> Record:
    """Return the index after checking its spelling, and everything in it that decides what is written where."""
    try:
        index: Record = json.loads(content.decode("utf-8"))
        spelling = json.dumps(index, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise Refused(f"index.json: {error}") from None
    refuse_unless(spelling == content, "index.json: not canonical JSON")
    check_shape(index, INDEX, "index.json")
    refuse_unless(not index["requires"], f"index.json: needs {index['requires']!a}, not known to this script")
    parts = index["parts"]
    for number, part in enumerate(parts):
        where = f"index.json: parts[{number}]"
        refuse_unless(part["codec"] in CODECS, f"{where}: codec {part['codec']!a} is not known to this script")
        refuse_unless(part["volume"] < len(index["volumes"]) and part["offset"] >= 512, f"{where} is nowhere")
    for blob in index["blobs"]:
        good = all(e["part"] < len(parts) and e["offset"] + e["length"] <= parts[e["part"]]["raw_size"]
                   for e in blob["extents"])
        refuse_unless(good and sum(e["length"] for e in blob["extents"]) == blob["size"],
                      f"index.json: blob {blob['sha256']}: its extents are not within their parts, or not its size")
    sizes = {blob["sha256"]: blob["size"] for blob in index["blobs"]}
    for snapshot in index["snapshots"]:
        for file in snapshot["files"]:
            where = f"index.json: {snapshot['id']}: {file['path']!a}"
            refuse_unless(is_safe(file["path"]), f"{where} is an unsafe path")
            refuse_unless(sizes.get(file["sha256"]) == file["size"], f"{where} has no blob of its size")
    return index


def check_shape(value: Any, shape: Any, where: str) -> None:
    """Check that `value` is a text, number, list or object as `shape` says."""
    if isinstance(shape, str):
        good = isinstance(value, str) and re.fullmatch(shape, value) is not None
    elif isinstance(shape, int):
        good = type(value) is int and 0 <= value <= shape
    else:
        good = isinstance(value, type(shape))
    refuse_unless(good, f"{where} must not be {ascii(value)[:60]}")
    if isinstance(shape, list):
        for number, item in enumerate(value):
            check_shape(item, shape[0], f"{where}[{number}]")
    elif isinstance(shape, dict):
        for name, inner in shape.items():
            check_shape(value.get(name), inner, f"{where}: {name}")


def is_safe(path: str) -> bool:
    """Tell whether `path` stays below the folder that it is put in."""
    steps = path.split("/")
    return not (any(step in ("", ".", "..") or len(step.encode()) > 255 for step in steps) or len(path.encode()) > 1024
                or re.search(r"[\\\x00-\x1f\x7f]|^[A-Za-z]:", path) or os.name == "nt" and WINDOWS_REFUSES.search(path))


# --- Listing and restoring

def list_bundle(index: Record, identity: str, folders: list[str]) -> None:
    """Print what the bundle holds."""
    print(f"bundle {printable(index['name'])}, format {index['format_version']}, identity (SHA-256 of index.json):")
    print(identity)
    for snapshot in index["snapshots"]:
        files = snapshot["files"]
        print(f"\n{snapshot['type']} {snapshot['id']}: {len(files)} files, {sum(f['size'] for f in files):,} bytes")
        print(f"  commit  {snapshot['commit']}\n  refs    {printable(', '.join(snapshot['refs']))}")
        print(f"  told_by {printable(snapshot['told_by'])}")
        for file in files:
            print(f"  {file['size']:>19,}  {printable(file['path'])}")
    print()
    for volume in index["volumes"]:
        there = any(os.path.isfile(os.path.join(folder, volume["name"])) for folder in folders)
        print(f"{volume['name']}: {volume['size']:,} bytes{'' if there else ', NOT HERE'}")


def printable(text: str) -> str:
    """Return `text` without what could steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def restore(index: Record, folders: list[str], target: str, only: list[str]) -> None:
    """Write the files of the wanted repositories below `target`; check all that can be before the first is written."""
    refuse_unless(not os.path.lexists(os.path.join(target, "SHA256SUMS")), f"{target} holds a bundle: name another")
    extents = {blob["sha256"]: blob["extents"] for blob in index["blobs"]}
    wanted = lay_out(index["snapshots"], only)
    missing = [(path, file) for path, file in wanted.items() if not is_there(target, path, file)]
    missing.sort(key=lambda item: [extent["part"] for extent in extents[item[1]["sha256"]][:1]])  # read in one go
    parts = Parts(index, folders, {extent["part"] for _, file in missing for extent in extents[file["sha256"]]})
    place, needed = os.path.abspath(target), sum(file["size"] for _, file in missing)
    while not os.path.exists(place):
        place = os.path.dirname(place)
    free = shutil.disk_usage(place).free
    refuse_unless(free >= needed, f"{target}: {needed:,} bytes are needed and {free:,} are free")
    os.makedirs(target, exist_ok=True)
    for path, file in missing:
        try:
            write_file(parts, extents[file["sha256"]], target, path, file)
        except (Refused, OSError) as error:
            raise Refused(f"{printable(path)}: {error}") from None
        print(f"restored {printable(path)}")
    print(f"{len(missing)} files restored, {len(wanted) - len(missing)} were there and are the same")


def lay_out(snapshots: list[Record], only: list[str]) -> dict[str, Record]:
    """Return path below the target → file, for the repositories in `only`, or for all."""
    repos = [TYPE_FOLDERS[snapshot["type"]] + snapshot["id"] for snapshot in snapshots]
    for name in only:
        refuse_unless(name in repos + [s["id"] for s in snapshots], f"{name} is not here, but {', '.join(repos)}")
    files: Dict[str, Record] = {}
    for repo, snapshot in zip(repos, snapshots):
        if not only or repo in only or snapshot["id"] in only:
            folder = repo if repos.count(repo) == 1 else f"{repo}/{snapshot['commit']}"
            for file in snapshot["files"]:
                refuse_unless(f"{folder}/{file['path']}" not in files, f"two files at {folder}/{file['path']!a}")
                files[f"{folder}/{file['path']}"] = file
    for path in files:
        refuse_unless(files.keys().isdisjoint(parents(path)), f"{path!a} would lie below another file")
    return files


def parents(path: str) -> list[str]:
    """Return the folders above `path`."""
    return [path[:match.start()] for match in re.finditer("/", path)]


def is_there(target: str, path: str, file: Record) -> bool:
    """Tell whether `file` is restored already; refuse if something else is in its place."""
    full = os.path.join(target, path)
    for place in parents(path) + [path]:
        refuse_unless(not os.path.islink(os.path.join(target, place)), f"{target}/{printable(place)}: a symbolic link")
    if not os.path.lexists(full):
        return False
    digest = hashlib.sha256()
    if os.path.isfile(full) and os.path.getsize(full) == file["size"]:
        with open(full, "rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    refuse_unless(os.path.isfile(full) and digest.hexdigest() == file["sha256"],
                  f"{printable(full)} is there and differs from the bundle's: move it away")
    return True


def write_file(parts: Parts, extents: list[Record], target: str, path: str, file: Record) -> None:
    """Write a file under a temporary name, and give it its own when its SHA-256 is right."""
    temporary = os.path.join(target, f".restore-{os.urandom(8).hex()}.tmp")
    digest = hashlib.sha256()
    try:
        with open(temporary, "xb") as stream:
            for extent in extents:
                piece = memoryview(parts.decode(extent["part"]))[extent["offset"]:][:extent["length"]]
                digest.update(piece)
                stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())
        refuse_unless(digest.hexdigest() == file["sha256"], "parts are right, but make another file: wrong index.json")
        os.makedirs(os.path.dirname(os.path.join(target, path)), exist_ok=True)
        if not is_there(target, path, file):  # again, as some systems take two paths for one
            os.replace(temporary, os.path.join(target, path))
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)


class Parts:
    """The needed parts, decoded when asked for; the last few are kept, as files share them."""

    def __init__(self, index: Record, folders: list[str], needed: set[int]) -> None:
        """Refuse if a needed volume is not there, or if zstd is needed and nothing decodes it."""
        self.parts = index["parts"]
        self.kept: Dict[int, bytes] = {}
        self.paths: Dict[int, str] = {}
        if any(self.parts[number]["codec"] in NEED_ZSTD for number in needed):
            find_zstd()
        for number in sorted({self.parts[part]["volume"] for part in needed}):
            name, size = index["volumes"][number]["name"], index["volumes"][number]["size"]
            found = [path for path in (os.path.join(folder, name) for folder in folders) if os.path.isfile(path)]
            refuse_unless(found, f"volume {name} is not in {', '.join(folders)}: name its folder too")
            there = os.path.getsize(found[0])
            refuse_unless(there == size, f"{found[0]} has {there:,} bytes and must have {size:,}: copy it again")
            self.paths[number] = found[0]

    def decode(self, number: int) -> bytes:
        """Return the raw bytes of a part."""
        if number not in self.kept:
            part = self.parts[number]
            path = self.paths[part["volume"]]
            where = f"{path}: part {number} at byte {part['offset']:,} (parts/{part['sha256']})"
            stored = read_stored(part, path, where)
            try:
                raw = CODECS[part["codec"]](stored, part["raw_size"])
            except Exception as error:  # each decoder has its own
                raise Refused(f"{where}: {part['codec']} cannot decode it: {error}") from None
            refuse_unless(len(raw) == part["raw_size"],
                          f"{where}: {part['codec']} does not decode it to {part['raw_size']:,} bytes")
            self.kept = dict([*self.kept.items()][-3:])
            self.kept[number] = raw
        return self.kept[number]


def read_stored(part: Record, path: str, where: str) -> bytes:
    """Return a part's stored bytes, proven, as are the tar header before them and the padding after."""
    try:
        with open(path, "rb") as volume:
            volume.seek(part["offset"] - 512)
            header, stored, padding = (volume.read(size) for size in (512, part["size"], -part["size"] % 512))
    except OSError as error:
        raise Refused(f"{where}: {error}") from None
    start = f"parts/{part['sha256']}".encode().ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2
    start += b"%011o\0" % part["size"] + b"%011o\0" % 0
    end = b"0".ljust(101, b"\0") + b"ustar\00000"
    expected = (start + b"%06o\0 " % sum(start + b" " * 8 + end) + end).ljust(512, b"\0")
    refuse_unless(header == expected, f"{where}: the tar header before it is damaged")
    refuse_unless(hashlib.sha256(stored).hexdigest() == part["sha256"], f"{where}: damaged, copy the volume again")
    refuse_unless(padding == bytes(-part["size"] % 512), f"{where}: the padding after it is damaged")
    return stored


def main() -> int:
    """Do what the command line asks for and return the exit code."""
    parser = argparse.ArgumentParser(usage="restore.py [TARGET_DIR [--only REPO_ID] [BUNDLE_DIR ...]]",
                                     description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?")
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--only", action="append", default=[])
    arguments = parser.parse_intermixed_args()
    if arguments.only and not arguments.target:
        parser.error("--only needs a TARGET_DIR")
    for output in (sys.stdout, sys.stderr):
        output.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # it is a TextIOWrapper
    folders = arguments.folders or [os.path.dirname(os.path.abspath(__file__))]
    try:
        index, identity = read_index(folders)
        if arguments.target:
            restore(index, folders, arguments.target, arguments.only)
        else:
            list_bundle(index, identity, folders)
        return 0
    except (Refused, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
