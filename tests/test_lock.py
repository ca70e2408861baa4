"""Locks: one spelling that a review in git can read, and no other text is taken for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.digest import Commit, Digest, Etag, GitOid, XetHash
from bundler.errors import FileSystemError, LockError
from bundler.lock import (
    Identity, Lock, LockedFile, LockedRepo, lock_path, lock_text, parse_lock, read_lock, write_lock
)
from bundler.manifest import EndpointEntry, EndpointUrl, Manifest, Request
from bundler.names import BundleName, RefName, RelPath, RepoId, RepoType
from tests.documents import Change, Document, at, put, remove

HUB, MIRROR = EndpointUrl("https://huggingface.co"), EndpointUrl("https://mirror.example/hf")
COMMIT = Commit("c" * 40)
SHA256, OID = Digest("a" * 64), GitOid("b" * 40)

FILES = (
    LockedFile(path=RelPath("config.json"), size=2, etag=OID),
    LockedFile(path=RelPath("model.safetensors"), size=1 << 40, etag=SHA256, sha256=SHA256, pointer=GitOid("d" * 40),
               xet_hash=XetHash("e" * 64)),
    LockedFile(path=RelPath("重み/ü \"x\".bin"), size=0, etag=OID, sha256=Digest("f" * 64)),
)


def request(name: str = "org/a", **values: Any) -> Request:
    """Return a request for a model."""
    return Request(repo=RepoId(RepoType.MODEL, name), **values)


def lock(*requests: Request) -> Lock:
    """Return a lock of these requests, all with the same files."""
    identity = Identity(told_by=HUB, agreed_by=(MIRROR,))
    return Lock(name=BundleName("speech"), repos=tuple(
        LockedRepo(request=each, commit=COMMIT, identity=identity, files=FILES) for each in requests
    ))


def document() -> Document:
    """Return a good lock as JSON values."""
    values: Document = json.loads(lock_text(lock(request(), request("org/b"))))
    return values


paths = st.lists(
    st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\\/:."), min_size=1, max_size=8),
    min_size=1, max_size=3,
).map("/".join)
etags: st.SearchStrategy[Etag] = st.sampled_from([SHA256, OID])


@st.composite
def file_lists(draw: st.DrawFn) -> tuple[LockedFile, ...]:
    """Draw the files of a snapshot: sorted, none below another."""
    chosen = sorted(draw(st.sets(paths, max_size=5)))
    files = []
    for path in chosen:
        if any(other.startswith(f"{path}/") for other in chosen):
            continue
        etag = draw(etags)
        sha256 = SHA256 if etag == SHA256 else draw(st.none() | st.just(SHA256))
        files.append(LockedFile(path=RelPath(path), size=draw(st.integers(0, 2**53 - 1)), etag=etag, sha256=sha256))
    return tuple(files)


@given(st.lists(file_lists(), max_size=3), st.lists(st.text(st.characters(codec="utf-8")), max_size=2))
def test_a_lock_comes_back_as_it_was_written(lists: list[tuple[LockedFile, ...]], patterns: list[str]) -> None:
    """Any lock, with names in any script, is read from its text without a loss."""
    identity = Identity(told_by=HUB, agreed_by=(MIRROR,), differed=(HUB,))
    written = Lock(name=BundleName("speech"), repos=tuple(
        LockedRepo(request=request(f"org/{number}", include=tuple(patterns), revision=RefName("refs/pr/1")),
                   commit=COMMIT, identity=identity, files=files)
        for number, files in enumerate(lists)
    ))

    assert parse_lock(lock_text(written)) == written


def test_a_file_is_a_line() -> None:
    """A review in git shows which files changed, and nothing else moves."""
    before = lock_text(lock(request())).decode().splitlines()
    other = LockedFile(path=RelPath("config.json"), size=3, etag=GitOid("0" * 40))
    repo = LockedRepo(request=request(), commit=COMMIT, identity=Identity(told_by=HUB, agreed_by=(MIRROR,)),
                      files=(other, *FILES[1:]))

    after = lock_text(Lock(name=BundleName("speech"), repos=(repo,))).decode().splitlines()

    assert [line for line in before if '"path"' in line] == [line for line in before if line.startswith("    {")]
    assert sum('"path"' in line for line in before) == len(FILES)
    assert [(one, two) for one, two in zip(before, after) if one != two] == [
        ('    {"path": "config.json", "size": 2, "etag": "' + "b" * 40 + '"},',
         '    {"path": "config.json", "size": 3, "etag": "' + "0" * 40 + '"},'),
    ]


def test_a_lock_is_a_text_file() -> None:
    """UTF-8 that people can read, and a line feed at the end."""
    text = lock_text(lock(request()))

    assert "重み/ü".encode() in text
    assert text.endswith(b"}\n")


def test_a_lock_stands_beside_its_manifest(tmp_path: Path) -> None:
    """Written and read under the manifest's name; an older one is replaced, and nothing is left over."""
    path = lock_path(tmp_path / "speech.toml")
    path.write_text("an older lock")

    write_lock(lock(request()), path)

    assert path == tmp_path / "speech.lock.json"
    assert read_lock(path) == lock(request())
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The path is in the error."""
    with pytest.raises(FileSystemError, match="speech.lock.json cannot be read"):
        read_lock(tmp_path / "speech.lock.json")


FIRST = ("repos", 0)
BREACHES: dict[str, tuple[Change, str]] = {
    "no version": (remove("lock_version"), "`lock_version` is missing"),
    "a later version": (put(2, "lock_version"), "`lock_version` is 2; this release reads 1"),
    "the version as text": (put("1", "lock_version"), "`lock_version` is not a whole number"),
    "the version as a truth value": (put(True, "lock_version"), "`lock_version` is not a whole number"),
    "an unknown field": (put(1, "later"), "`later` is not a known field"),
    "no name": (remove("name"), "`name` is missing"),
    "a name that is a path": (put("../x", "name"), "`name` is not valid"),
    "repositories that are no list": (put({}, "repos"), "`repos` is not a list"),
    "a repository that is no object": (put([], *FIRST), "`repos[0]` is not an object"),
    "an id that is a path": (put("../..", *FIRST, "id"), "`repos[0].id` is not valid"),
    "an unknown type": (put("bucket", *FIRST, "type"), "`repos[0].type` is not valid"),
    "a short commit": (put("abc", *FIRST, "commit"), "`repos[0].commit` is not valid"),
    "an upper-case commit": (put("C" * 40, *FIRST, "commit"), "`repos[0].commit` is not valid"),
    "a revision that leaves": (put("../x", *FIRST, "revision"), "`repos[0].revision` is not valid"),
    "a teller with a password": (put("https://u:p@h", *FIRST, "told_by"), "`repos[0].told_by` is not valid"),
    "nobody who told it": (remove(*FIRST, "told_by"), "`repos[0].told_by` is missing"),
    "files that are no list": (put("x", *FIRST, "files"), "`repos[0].files` is not a list"),
    "a path that leaves": (put("../x", *FIRST, "files", 0, "path"), "`repos[0].files[0].path` is not valid"),
    "a path from the root": (put("/etc/passwd", *FIRST, "files", 0, "path"), "`repos[0].files[0].path` is not valid"),
    "a path with NUL": (put("a\0", *FIRST, "files", 0, "path"), "`repos[0].files[0].path` is not valid"),
    "a path with a surrogate": (put("\ud800", *FIRST, "files", 0, "path"), "`repos[0].files[0].path` is not"),
    "a negative size": (put(-1, *FIRST, "files", 0, "size"), "`repos[0].files[0].size` is not a whole number"),
    "a giant size": (put(2**53, *FIRST, "files", 0, "size"), "`repos[0].files[0].size` is not a whole number"),
    "a truth value as size": (put(True, *FIRST, "files", 0, "size"), "`repos[0].files[0].size` is not a whole number"),
    "a fraction as size": (put(1.0, *FIRST, "files", 0, "size"), "`repos[0].files[0].size` is not a whole number"),
    "no etag": (remove(*FIRST, "files", 0, "etag"), "`repos[0].files[0].etag` is missing"),
    "an etag that is a path": (put("../../x", *FIRST, "files", 0, "etag"), "`repos[0].files[0].etag` is not valid"),
    "two SHA-256": (put("0" * 64, *FIRST, "files", 1, "sha256"), "`repos[0].files[1]` is not valid"),
    "an LFS file without SHA-256": (remove(*FIRST, "files", 1, "sha256"), "`repos[0].files[1]` is not valid"),
    "a pointer of another kind": (put("0" * 64, *FIRST, "files", 1, "pointer"), "`repos[0].files[1].pointer` is not"),
    "a Xet hash of another length": (put("0" * 40, *FIRST, "files", 1, "xet_hash"), "`repos[0].files[1].xet_hash` is"),
    "files out of order": (put("z", *FIRST, "files", 0, "path"), "is not sorted by path"),
    "a path twice": (put("model.safetensors", *FIRST, "files", 0, "path"), "holds `model.safetensors` twice"),
    "a file as a folder": (put("model.safetensors/x", *FIRST, "files", 2, "path"), "and its folder as a file"),
    "a repository twice": (put("org/b", *FIRST, "id"), "`repos` holds a repository at the same revision twice"),
    "a pattern that is no text": (put([1], *FIRST, "include"), "`repos[0].include[0]` is not valid"),
    "a pattern with a surrogate": (put(["\ud800"], *FIRST, "include"), "`repos[0].include[0]` is not valid"),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_refuses_a_lock_that_breaks_a_rule(breach: str) -> None:
    """Each rule alone, with the place in the error."""
    change, message = BREACHES[breach]
    values = document()
    change(values)

    with pytest.raises(LockError) as caught:
        parse_lock(json.dumps(values).encode(), document="speech.lock.json")

    assert message in str(caught.value)
    assert str(caught.value).startswith("speech.lock.json")


def test_what_the_breaches_start_from_is_good() -> None:
    """Without a change the lock is taken, so each change is what is refused."""
    values = document()

    assert parse_lock(json.dumps(values).encode()) == lock(request(), request("org/b"))
    assert at(values, "repos", 0, "id") == "org/a"


@given(st.binary(max_size=60) | st.text().map(lambda text: json.dumps(text).encode()))
def test_any_bytes_are_a_lock_or_refused(text: bytes) -> None:
    """Nothing that stands in a file is a bug."""
    with pytest.raises(LockError):
        parse_lock(text)


@pytest.mark.parametrize(("requests", "reason"), [
    ((request(),), ""),
    ((request(revision=RefName("v1")),), "it does not hold `org/a` at `v1`"),
    ((request(), request("org/b")), "it does not hold `org/b` at `main`"),
    ((request(include=("*.json",)),), "`org/a` has other patterns in the manifest"),
    ((request(exclude=("*.bin",)),), "`org/a` has other patterns in the manifest"),
])
def test_says_why_a_lock_does_not_fit_its_manifest(requests: tuple[Request, ...], reason: str) -> None:
    """Whoever reads it knows what was changed."""
    manifest = Manifest(name=BundleName("speech"), endpoints=(EndpointEntry(url=MIRROR),), requests=requests)

    assert lock(request()).why_stale(manifest) == reason


def test_a_lock_may_hold_neither_more_nor_another_order_nor_another_name() -> None:
    """The lock is of this very manifest; the endpoints only carry."""
    both = (request(), request("org/b"))
    manifest = Manifest(name=BundleName("speech"), endpoints=(EndpointEntry(url=HUB),), requests=both)

    assert lock(*both, request("org/c")).why_stale(manifest) == (
        "it holds `org/c` at `main`, which the manifest does not ask for"
    )
    assert lock(*reversed(both)).why_stale(manifest) == "the manifest lists the repositories in another order"
    other = Manifest(name=BundleName("other"), endpoints=(EndpointEntry(url=HUB),), requests=both)
    assert lock(*both).why_stale(other) == "it is named `speech`, the manifest `other`"


def test_an_identity_says_how_many_vouch_for_it() -> None:
    """"Alone" is a fact that an officer must see."""
    alone = Identity(told_by=MIRROR)
    agreed = Identity(told_by=HUB, agreed_by=(MIRROR,))
    differed = Identity(told_by=HUB, differed=(MIRROR,))

    assert str(alone) == "told by https://mirror.example/hf alone"
    assert str(agreed) == "told by https://huggingface.co (agreed: https://mirror.example/hf)"
    assert str(differed) == "told by https://huggingface.co (differed: https://mirror.example/hf)"
