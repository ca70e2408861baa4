"""The index: FORMAT.md's rules, broken one by one."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.digest import Commit, Digest, GitOid
from bundler.errors import FormatError, UnsupportedVersionError
from bundler.format.index import (
    MAX_PART_SIZE, MAX_STORED_SIZE, Blob, Codec, Extent, Index, Part, Snapshot, Volume, canonical_json, index_text,
    parse_index, volume_name
)
from bundler.format.volume import END_SIZE, HEADER_SIZE, padded
from bundler.lock import Identity, LockedFile
from bundler.manifest import EndpointUrl
from bundler.names import BundleName, RefName, RelPath, RepoId, RepoType
from tests.documents import Change, Document, at, both, put, remove


def digest(text: str) -> str:
    """Return a SHA-256, another for each text."""
    return hashlib.sha256(text.encode()).hexdigest()


def oid(text: str) -> str:
    """Return a git blob id, another for each text."""
    return hashlib.sha1(text.encode()).hexdigest()


EMPTY = hashlib.sha256(b"").hexdigest()
FIRST = 512
SECOND = FIRST + 1024 + 512
"""The first part has 700 bytes, which take up two blocks."""


def document() -> Document:
    """Return a good index as JSON values: two repositories, three blobs, two volumes, a part that shares its bytes."""
    return {
        "format_version": "1.0",
        "requires": [],
        "name": "speech",
        "written_with": {"bundler": "1.0", "libzstd": "1.5.7"},
        "snapshots": [
            {
                "id": "org/a", "type": "model", "commit": oid("a"), "refs": ["main", "v1"],
                "told_by": "https://hub.example", "agreed_by": ["https://mirror.example/hf"], "differed": [],
                "files": [
                    {"path": "config.json", "size": 300, "sha256": digest("small"), "etag": oid("small")},
                    {"path": "empty.txt", "size": 0, "sha256": EMPTY, "etag": oid("empty")},
                    {"path": "model.safetensors", "size": 1900, "sha256": digest("large"), "etag": digest("large"),
                     "pointer": oid("pointer"), "xet_hash": digest("xet")},
                ],
            },
            {
                "id": "org/a", "type": "dataset", "commit": oid("a"), "refs": [],
                "told_by": "https://hub.example", "agreed_by": [], "differed": [],
                "files": [{"path": "重み/a", "size": 300, "sha256": digest("small"), "etag": oid("small")}],
            },
        ],
        "blobs": [
            {"sha256": digest("small"), "size": 300, "extents": [{"part": 0, "offset": 0, "length": 300}]},
            {"sha256": EMPTY, "size": 0, "extents": []},
            {"sha256": digest("large"), "size": 1900, "extents": [
                {"part": 0, "offset": 300, "length": 400}, {"part": 1, "offset": 0, "length": 1000},
                {"part": 2, "offset": 0, "length": 500},
            ]},
        ],
        "parts": [
            {"codec": "raw", "sha256": digest("0"), "size": 700, "raw_size": 700, "volume": 0, "offset": FIRST},
            {"codec": "zstd", "sha256": digest("1"), "size": 512, "raw_size": 1000, "volume": 0, "offset": SECOND},
            {"codec": "zstd", "sha256": digest("2"), "size": 1, "raw_size": 500, "volume": 1, "offset": FIRST},
            {"codec": "zstd", "sha256": digest("0"), "size": 700, "raw_size": 900, "volume": 0, "offset": FIRST},
        ],
        "volumes": [
            {"name": "speech-001.tar", "size": SECOND + 512 + 1024, "sha256": digest("volume 0"), "role": "parts"},
            {"name": "speech-002.tar", "size": FIRST + 512 + 1024, "sha256": digest("volume 1"), "role": "parts"},
        ],
    }


def spell(values: object) -> bytes:
    """Spell a document as FORMAT.md says, without the code under test."""
    return json.dumps(values, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def refuse(text: bytes) -> str:
    """Check that an index is refused, and return why."""
    with pytest.raises(FormatError) as caught:
        parse_index(text)
    assert len(str(caught.value)) < 1000
    return str(caught.value)


def test_a_good_index_is_understood() -> None:
    """Everything that it says is there, and it is spelled the same again."""
    text = spell(document())

    index = parse_index(text)

    assert index_text(index) == text
    assert (index.name, index.raw_size) == ("speech", 2200)
    assert index.stored_size == SECOND + 512 + 1024 + FIRST + 512 + 1024
    assert [str(snapshot.repo) for snapshot in index.snapshots] == ["org/a", "datasets/org/a"]
    assert index.snapshots[0].refs == ("main", "v1")
    assert index.git_oids == {digest("small"): oid("small"), EMPTY: oid("empty")}
    assert index.written_with == (("bundler", "1.0"), ("libzstd", "1.5.7"))


def test_an_index_may_hold_nothing() -> None:
    """No snapshots, no blobs, no parts and no volumes are an index, if a useless one."""
    values = document() | {"snapshots": [], "blobs": [], "parts": [], "volumes": []}

    assert parse_index(spell(values)).raw_size == 0


# --- Any index that can be written can be read


@st.composite
def indexes(draw: st.DrawFn) -> Index:
    """Draw an index that keeps all rules, laid out here by the rules of FORMAT.md."""
    sizes = draw(st.lists(st.tuples(st.integers(1, MAX_STORED_SIZE), st.integers(1, MAX_PART_SIZE)), max_size=6))
    parts, volume, end = [], 0, 0
    ends = []
    for number, (size, raw_size) in enumerate(sizes):
        if number and draw(st.booleans()):
            ends.append(end)
            volume, end = volume + 1, 0
        sha256 = Digest(digest(f"part {number}"))
        raw = size <= MAX_PART_SIZE and draw(st.booleans())
        parts.append(Part(
            codec=Codec.RAW if raw else Codec.ZSTD, sha256=sha256, size=size, volume=volume, offset=end + HEADER_SIZE,
            raw_size=size if raw else raw_size,
        ))
        end += HEADER_SIZE + padded(size)
    if sizes:
        ends.append(end)
    name = draw(st.from_regex(r"[a-z0-9_][a-z0-9._-]{0,20}", fullmatch=True))
    volumes = tuple(
        Volume(name=volume_name(name, number), size=end + END_SIZE, sha256=Digest(digest(f"volume {number}")))
        for number, end in enumerate(ends)
    )
    blobs = []
    for number in range(draw(st.integers(0, 4))):
        extents = []
        for _ in range(draw(st.integers(0, 3)) if parts else 0):
            part = draw(st.integers(0, len(parts) - 1))
            # At least half of each part, or the index would ask for far more decoding than it gives.
            offset = draw(st.integers(0, parts[part].raw_size // 2))
            least = (parts[part].raw_size + 1) // 2
            extents.append(Extent(part, offset, draw(st.integers(least, parts[part].raw_size - offset))))
        size = sum(extent.length for extent in extents)
        blobs.append(Blob(sha256=Digest(digest(f"blob {number}")), size=size, extents=tuple(extents)))
    files = tuple(
        LockedFile(path=RelPath(f"{number}-{draw(st.sampled_from(['x', 'ü/重']))}"), size=blob.size, sha256=blob.sha256,
                   etag=blob.sha256 if number % 2 else GitOid(oid(f"blob {number}")))
        for number, blob in enumerate(blobs)
    )
    endpoint = EndpointUrl("https://hub.example")
    snapshots = tuple(
        Snapshot(repo=RepoId(kind, f"org/{draw(st.sampled_from('abc'))}"), commit=Commit(oid(str(number))),
                 refs=tuple(map(RefName, draw(st.sets(st.sampled_from(["main", f"v{number}"]), max_size=2))))
                 if number == 0 else (),
                 identity=Identity(told_by=endpoint, differed=(endpoint,) * number), files=files)
        for number, kind in enumerate(draw(st.lists(st.sampled_from(RepoType), max_size=3)))
    )
    programs = draw(st.dictionaries(st.from_regex("[a-z]{1,5}", fullmatch=True), st.text(st.characters(codec="utf-8"))))
    return Index(name=BundleName(name), written_with=tuple(sorted(programs.items())), snapshots=snapshots,
                 blobs=tuple(blobs), parts=tuple(parts), volumes=volumes)


@given(indexes())
def test_an_index_comes_back_as_it_was_written(index: Index) -> None:
    """Without a loss, and in the same bytes."""
    text = index_text(index)

    assert parse_index(text) == index
    assert index_text(parse_index(text)) == text


# --- Versions


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.999999"])
def test_reads_any_minor_version(version: str) -> None:
    """A later minor version only adds what may be ignored."""
    assert parse_index(spell(document() | {"format_version": version})).name == "speech"


@pytest.mark.parametrize(("version", "major"), [("2.0", "2"), ("2.7", "2"), ("10.0", "10"), ("999999.0", "999999")])
def test_refuses_another_major_version_with_the_one_that_is_needed(version: str, major: str) -> None:
    """Whoever stands on the far side learns what to bring, whatever else that version changed."""
    with pytest.raises(UnsupportedVersionError, match=f"format {version}") as caught:
        parse_index(spell({"format_version": version, "parts": "of another kind", "fraction": 1}))

    assert f"reads format {major}" in caught.value.hint
    assert caught.value.exit_code == 51


@pytest.mark.parametrize("version", [
    "", "1", "1.", ".0", "1.0.0", "01.0", "1.00", "1.01", "0.1", "-1.0", "1.0 ", "1.0\n", "x", "١.٠", "9" * 100 + ".0",
    1, 1.0, True, None, ["1.0"],
])
def test_refuses_what_is_no_version(version: object) -> None:
    """One spelling for a version as well."""
    assert "format_version" in refuse(json.dumps({"format_version": version}).encode()) or isinstance(version, float)


def test_refuses_a_feature_that_it_does_not_have() -> None:
    """The words are named, and the way out."""
    with pytest.raises(UnsupportedVersionError, match="base-blobs, later") as caught:
        parse_index(spell(document() | {"requires": ["later", "base-blobs"]}))

    assert "newer release" in caught.value.hint


# --- One spelling

SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "white space": lambda text: text.replace(b",", b", ", 1),
    "a line feed at the end": lambda text: text + b"\n",
    "a space at the start": lambda text: b" " + text,
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "names in another order": lambda text: json.dumps(document(), separators=(",", ":"), ensure_ascii=False).encode(),
    "an escape that is not needed": lambda text: text.replace(b'"speech"', b'"speec\\u0068"'),
    "an escaped slash": lambda text: text.replace(b"org/a", b"org\\/a", 1),
    "an escape instead of UTF-8": lambda text: json.dumps(
        document(), sort_keys=True, separators=(",", ":")).encode(),
    "upper-case in an escape": lambda text: spell(document() | {"later": "\x1f"}).replace(b"\\u001f", b"\\u001F"),
    "a long escape where there is a short one": lambda text: spell(document() | {"later": "\n"}).replace(
        b"\\n", b"\\u000a"),
    "half a surrogate pair": lambda text: text.replace(b'"speech"', b'"\\ud800"'),
    "a name twice": lambda text: text.replace(b'"name":"speech"', b'"name":"speech","name":"speech"'),
    "a fraction for a whole number": lambda text: text.replace(b'"size":300', b'"size":300.0', 1),
    "an exponent": lambda text: text.replace(b'"size":300', b'"size":3e2', 1),
    "a minus before zero": lambda text: text.replace(b'"offset":0', b'"offset":-0', 1),
    "UTF-16": lambda text: text.decode().encode("utf-16"),
    "text that is no UTF-8": lambda text: text.replace("重".encode(), b"\xff\xff"),
    "nothing": lambda text: b"",
    "half of it": lambda text: text[:len(text) // 2],
    "something behind it": lambda text: text + b"{}",
    "a list of it": lambda text: b"[" + text + b"]",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_refuses_any_other_spelling(spelling: str) -> None:
    """One set of facts has one text, or it would have several identities."""
    text = spell(document())
    other = SPELLINGS[spelling](text)

    assert other != text
    refuse(other)


@pytest.mark.parametrize("value", ["1.0", "1.5", "-1", "1e3", "9007199254740992", "NaN", "1" * 5000, '{"ä":1}'])
def test_refuses_odd_values_in_fields_that_it_does_not_know(value: str) -> None:
    """What is ignored has one spelling as well: whole numbers, ASCII names."""
    refuse(spell(document() | {"later": "HERE"}).replace(b'"HERE"', value.encode()))


@pytest.mark.parametrize("depth", [10, 300, 900, 950, 970, 980, 985, 990, 995, 1000, 5000, 100_000])
def test_a_deep_document_is_read_or_refused(depth: int) -> None:
    """Depth is no way to a traceback."""
    text = spell(document() | {"later": "HERE"}).replace(b'"HERE"', b"[" * depth + b"]" * depth)

    try:
        parse_index(text)
    except FormatError:
        assert depth > 100


@given(st.integers(0, 40), st.sampled_from([
    ("parts", 0), ("blobs", 0), ("blobs", 2, "extents", 0), ("volumes", 1), ("snapshots", 0), ("written_with",), (),
    ("snapshots", 0, "files", 0),
]), st.text(st.characters(codec="utf-8")))
def test_ignores_fields_that_it_does_not_know(number: int, place: tuple[Any, ...], text: str) -> None:
    """A later minor version may add fields to any object."""
    values = document()
    value: object = text if place == ("written_with",) else {"deep": [None, True, False, number, text]}
    put(value, *place, "later")(values)

    index = parse_index(spell(values))

    assert (index.snapshots, index.blobs, index.parts, index.volumes) == (
        (known := parse_index(spell(document()))).snapshots, known.blobs, known.parts, known.volumes)


# --- Each rule, broken alone

FILE, LFS = ("snapshots", 0, "files", 0), ("snapshots", 0, "files", 2)
BLOB, LARGE, EXTENT = ("blobs", 0), ("blobs", 2), ("blobs", 2, "extents", 1)
RAW, ZSTD, LAST, SHARING = ("parts", 0), ("parts", 1), ("parts", 2), ("parts", 3)


def swap(values: Document, *place: Any) -> None:
    """Put the first and the second of a list in each other's place."""
    pair = at(values, *place)
    pair[0], pair[1] = pair[1], pair[0]


BREACHES: dict[str, Change] = {
    # names
    "a name that leaves": put("../x", "name"),
    "a name in upper case": put("Speech", "name"),
    "volumes of another name": put("other", "name"),
    "programs as a list": put([], "written_with"),
    "a program's version as a number": put({"x": 1}, "written_with"),
    "a feature that is no text": put([1], "requires"),
    # snapshots
    "an id that leaves": put("../../x", "snapshots", 0, "id"),
    "an unknown type": put("models", "snapshots", 0, "type"),
    "a short commit": put("abcdef", "snapshots", 0, "commit"),
    "a ref that leaves": put(["../x"], "snapshots", 0, "refs"),
    "a ref that is a commit": put([oid("b")], "snapshots", 0, "refs"),
    "a ref that is its own commit": put([oid("a")], "snapshots", 0, "refs"),
    "a ref twice": put(["main", "main"], "snapshots", 0, "refs"),
    "a ref for two commits": both(put("model", "snapshots", 1, "type"), put(oid("b"), "snapshots", 1, "commit"),
                                  put(["v1"], "snapshots", 1, "refs")),
    "a commit twice": put("model", "snapshots", 1, "type"),
    "a teller that is no URL": put("hub.example", "snapshots", 0, "told_by"),
    "a teller with a password": put("https://u:p@hub.example", "snapshots", 0, "told_by"),
    "a witness that is no text": put([1], "snapshots", 0, "agreed_by"),
    "a dissenter that is no URL": put(["x"], "snapshots", 0, "differed"),
    # files
    "a path that leaves": put("../x", *FILE, "path"),
    "a path from the root": put("/x", *FILE, "path"),
    "a path with a backslash": put("a\\x", *FILE, "path"),
    "a path on a drive": put("C:x", *FILE, "path"),
    "a path with a control character": put("a\x1b", *FILE, "path"),
    "an overlong name": put("a" * 256, *FILE, "path"),
    "an overlong path": put("/".join(["a" * 200] * 6), *FILE, "path"),
    "files out of order": put("z", *FILE, "path"),
    "a path twice": put("empty.txt", *FILE, "path"),
    "a file as a folder": put("config.json/x", "snapshots", 0, "files", 1, "path"),
    "a file as a folder, further up": both(put("a", *FILE, "path"), put("a.txt", "snapshots", 0, "files", 1, "path"),
                                           put("a/b/c", *LFS, "path")),
    "a file of another size": put(301, *FILE, "size"),
    "a file without a blob": put(digest("none"), *FILE, "sha256"),
    "two SHA-256 of a file": put(digest("none"), *LFS, "etag"),
    "an etag of another kind": put("abc", *FILE, "etag"),
    "a pointer of another kind": put(digest("x"), *LFS, "pointer"),
    "a Xet hash of another kind": put(oid("x"), *LFS, "xet_hash"),
    "two contents for a git id": put(oid("small"), "snapshots", 0, "files", 1, "etag"),
    "two git ids for a content": put(oid("another"), "snapshots", 1, "files", 0, "etag"),
    # blobs
    "a blob twice": put(digest("small"), *LARGE, "sha256"),
    "a blob without a digest": put("", *BLOB, "sha256"),
    "extents that are less than the blob": put(1000, *LARGE, "size"),
    "an extent that is left out": remove(*LARGE, "extents", 2),
    "an extent of a part that is not there": put(4, *EXTENT, "part"),
    "an extent of a part before the first": put(-1, *EXTENT, "part"),
    "an extent that starts before its part": put(-1, *EXTENT, "offset"),
    "an extent that ends behind its part": put(1, *EXTENT, "offset"),
    "an extent that is longer than its part": both(put(1001, *EXTENT, "length"), put(1901, *LARGE, "size"),
                                                   put(1901, *LFS, "size")),
    "an extent that wraps around": both(put(2**53 - 1, *EXTENT, "offset"), put(1, *EXTENT, "length")),
    "an empty extent": put([{"part": 0, "offset": 0, "length": 0}], "blobs", 1, "extents"),
    "an empty extent at the end of a part": put([{"part": 0, "offset": 700, "length": 0}], "blobs", 1, "extents"),
    "an extent that is a blob": put([{"base": digest("small"), "offset": 0, "length": 300}], *BLOB, "extents"),
    # parts
    "an unknown codec": put("lz4", *ZSTD, "codec"),
    "a codec in upper case": put("ZSTD", *ZSTD, "codec"),
    "a raw part of another size": put(701, *RAW, "raw_size"),
    "a part that is too large": put(MAX_PART_SIZE + 1, *ZSTD, "raw_size"),
    "stored bytes that are too large": put(MAX_STORED_SIZE + 1, *ZSTD, "size"),
    "a negative stored size": put(-1, *ZSTD, "size"),
    "a part in a volume that is not there": put(2, *LAST, "volume"),
    "a part in a volume before the first": put(-1, *LAST, "volume"),
    "a part in a volume before the last one": both(put(0, *LAST, "volume"), put(SECOND, *LAST, "offset"),
                                                   put(1, *ZSTD, "volume"), put(FIRST, *ZSTD, "offset")),
    "a part over another": put(FIRST, *ZSTD, "offset"),
    "a part that overlaps the one before": put(SECOND - 512, *ZSTD, "offset"),
    "a gap before a part": put(SECOND + 512, *ZSTD, "offset"),
    "a part off its block": put(SECOND + 1, *ZSTD, "offset"),
    "a part at the start of a volume": put(0, *RAW, "offset"),
    "a part behind its volume": put(2**53 - 1, *LAST, "offset"),
    "a part that is larger than its place": put(1025, *RAW, "size"),
    "shared bytes in two places": put(SECOND, *SHARING, "offset"),
    "shared bytes in two volumes": put(1, *SHARING, "volume"),
    "shared bytes of two sizes": put(701, *SHARING, "size"),
    "parts in another order": lambda values: swap(values, "parts"),
    # volumes
    "a volume of another name": put("speech-1.tar", "volumes", 0, "name"),
    "a volume that leaves": put("../speech-001.tar", "volumes", 0, "name"),
    "volumes in another order": lambda values: swap(values, "volumes"),
    "a volume that is longer": put(SECOND + 512 + 1024 + 512, "volumes", 0, "size"),
    "a volume that is shorter": put(SECOND + 512 + 512, "volumes", 0, "size"),
    "a volume of another role": put("repair", "volumes", 0, "role"),
    "a volume too few": remove("volumes", 1),
}


def test_what_the_breaches_start_from_is_good() -> None:
    """Without a change the index is taken, so each change is what is refused."""
    assert parse_index(spell(document())).name == "speech"


@pytest.mark.parametrize("breach", BREACHES)
def test_refuses_an_index_that_breaks_a_rule(breach: str) -> None:
    """Each rule of FORMAT.md alone."""
    values = document()
    BREACHES[breach](values)
    assert values != document()

    refuse(spell(values))


def _fields(value: object, *steps: Any) -> list[tuple[Any, ...]]:
    """Return where every field of a document is; of lists, the first."""
    if isinstance(value, dict):
        return [place for key, inner in value.items() for place in [(*steps, key), *_fields(inner, *steps, key)]]
    if isinstance(value, list) and value:
        return _fields(value[0], *steps, 0)
    return []


FIELDS = [place for place in _fields(document()) if place[0] != "written_with" or len(place) == 1]


@pytest.mark.parametrize("place", FIELDS, ids=lambda place: ".".join(map(str, place)))
def test_refuses_an_index_without_a_field(place: tuple[Any, ...]) -> None:
    """What FORMAT.md names must be there, lists as well; only what it calls optional may be left out."""
    values = document()
    remove(*place)(values)

    assert place[-1] in refuse(spell(values))


@pytest.mark.parametrize(
    "value", [None, True, False, 1, -1, 2**53, "x", "", [], {}, [[]], [{}], {"a": 1}, [1]], ids=repr)
@pytest.mark.parametrize("place", FIELDS, ids=lambda place: ".".join(map(str, place)))
def test_a_field_of_a_wrong_type_is_never_a_bug(place: tuple[Any, ...], value: object) -> None:
    """Whatever stands in a field: it is refused, or it is a value that the field may have."""
    values = document()
    put(copy.deepcopy(value), *place)(values)

    try:
        index = parse_index(spell(values))
    except FormatError:
        return

    assert type(value) is type(at(document(), *place))
    assert parse_index(index_text(index)) == index


def test_an_optional_field_may_be_left_out() -> None:
    """Not every hub tells pointer and Xet hash."""
    values = document()
    both(remove(*LFS, "pointer"), remove(*LFS, "xet_hash"))(values)

    file = parse_index(spell(values)).snapshots[0].files[2]

    assert (file.pointer, file.xet_hash) == (None, None)


def test_the_volumes_are_numbered_with_three_digits_or_more() -> None:
    """The thousandth has four."""
    assert [volume_name("a.b", number) for number in (0, 8, 99, 998, 999)] == [
        "a.b-001.tar", "a.b-009.tar", "a.b-100.tar", "a.b-999.tar", "a.b-1000.tar"]


@given(st.dictionaries(st.from_regex("[a-z]{1,3}", fullmatch=True),
                       st.integers(0, 2**53 - 1) | st.text(st.characters(codec="utf-8")) | st.none()))
def test_the_canonical_spelling_is_that_of_the_standard(values: dict[str, object]) -> None:
    """RFC 8785 for what we write: sorted, no space, only the escapes that must be."""
    text = canonical_json(values)

    assert json.loads(text) == values
    for short, character in (("b", 8), ("t", 9), ("n", 10), ("f", 12), ("r", 13)):
        assert canonical_json(chr(character)) == f'"\\{short}"'.encode()
    assert canonical_json("\x1f\x7f\u2028ü/") == '"\\u001f\x7f\u2028ü/"'.encode()


def test_refuses_blobs_that_make_a_reader_decode_far_more_than_it_gets() -> None:
    """Single bytes of two large parts in turn would cost hours for a few kilobytes."""
    values = document()
    for part in values["parts"][1:3]:
        part["raw_size"] = MAX_PART_SIZE
    extents = [{"part": 1 + number % 2, "offset": 0, "length": 1} for number in range(1900)]
    put(extents, *LARGE, "extents")(values)

    assert "to read" in refuse(spell(values))


def test_refuses_an_index_of_very_many_empty_things_before_parsing_it() -> None:
    """A list of empty lists takes thirty times its size in memory."""
    assert "entries" in refuse(b'{"a":[' + b",".join([b"[]"] * 8_000_001) + b"]}")
