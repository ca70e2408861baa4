"""Digests: only real ones become one, and files are hashed as `sha256sum` and `git hash-object` do."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.digest import READ_SIZE, BlobHasher, Commit, Digest, GitOid, XetHash, hash_file, parse_etag
from tests.bundles import noise

SHA256 = "0123456789abcdef" * 4
SHA1 = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(("kind", "text"), [(Digest, SHA256), (XetHash, SHA256), (GitOid, SHA1), (Commit, SHA1)])
def test_takes_lower_case_hexadecimal_of_its_length(kind: type[str], text: str) -> None:
    """A digest is the text that tools print."""
    assert kind(text) == text


@pytest.mark.parametrize("kind", [Digest, GitOid, Commit, XetHash])
@pytest.mark.parametrize("change", [
    lambda text: "", lambda text: text[:-1], lambda text: text + "0", lambda text: text.upper(),
    lambda text: text[:-1] + "\n", lambda text: text[:-1] + "g", lambda text: " " + text[1:],
    lambda text: "٣" * len(text), lambda text: "../" + text[3:], lambda text: text[:-1] + "\0",
])
def test_refuses_anything_else(kind: type[Digest], change: object) -> None:
    """Short, long, upper case, other scripts' digits, and paths are no digests."""
    text = (SHA256 * 2)[:kind.length]
    assert callable(change)

    with pytest.raises(ValueError, match="hexadecimal"):
        kind(change(text))


def test_a_refusal_does_not_carry_control_characters() -> None:
    """What a hostile document says reaches the terminal only as text."""
    with pytest.raises(ValueError) as caught:
        Digest("\x1b[2J\r\n")

    assert str(caught.value).isprintable()


def test_an_etag_is_told_by_its_length() -> None:
    """SHA-256 for LFS files, git's id for the rest, and nothing between."""
    assert isinstance(parse_etag(SHA256), Digest)
    assert isinstance(parse_etag(SHA1), GitOid)
    with pytest.raises(ValueError):
        parse_etag(SHA1 + "00")


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4))
def test_a_blob_has_the_names_that_tools_give_it(content: bytes, cuts: list[int]) -> None:
    """However its bytes come in, both names are those of the whole."""
    hasher = BlobHasher(len(content), git=True)
    edges = sorted({0, len(content), *(min(cut, len(content)) for cut in cuts)})

    for start, end in zip(edges, edges[1:]):
        hasher.update(content[start:end])

    assert hasher.sha256 == Digest.of(content) == hashlib.sha256(content).hexdigest()
    assert hasher.git_oid == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    assert hasher.matches(hasher.sha256) and hasher.matches(hasher.git_oid)
    assert not hasher.matches(Digest(SHA256)) and not hasher.matches(GitOid(SHA1))


def test_a_git_id_that_was_not_asked_for_matches_nothing() -> None:
    """A hasher that did not look does not vouch."""
    hasher = BlobHasher(0, git=False)

    assert hasher.git_oid is None
    assert not hasher.matches(GitOid("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"))


@pytest.mark.parametrize("size", [0, 1, READ_SIZE - 1, READ_SIZE, READ_SIZE + 1, 3 * READ_SIZE + 7])
def test_a_file_is_hashed_as_the_stock_tools_do(tmp_path: Path, size: int) -> None:
    """The digests are those of `sha256sum` and git, and every byte is told once."""
    path = tmp_path / "file"
    path.write_bytes(noise("file", size))
    told: list[int] = []

    total, hasher = hash_file(path, git=True, on_bytes=told.append)

    printed = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout
    assert printed.startswith(f"{hasher.sha256}  ")
    assert total == sum(told) == size
    if git := shutil.which("git"):
        printed = subprocess.run([git, "hash-object", path], capture_output=True, text=True, check=True).stdout
        assert printed.strip() == hasher.git_oid
