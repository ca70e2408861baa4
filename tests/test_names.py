"""Names from outside: what is let in is safe to use, and what is not says why."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.names import BundleName, RefName, RelPath, RepoId, RepoType, refs_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"

GOOD_PATHS = [
    "a", "config.json", "onnx/model.onnx", ".gitattributes", "a b", "...", "..a", "a..", "-rf", "~", "$HOME", "ab:c",
    "C/x", "weights/ü 重み [1].bin", "x" * 255, "/".join(["x" * 127] * 8), "con", "a/.hidden/b", "é" * 127,
]
BAD_PATHS = [
    "", "/", "/etc/passwd", "..", ".", "../a", "a/..", "a/../b", "./a", "a/.", "a//b", "a/", "//a", "C:", "c:\\x",
    "C:x", "C:/x", "\\\\host\\share", "a\\b", "..\\a", "a\0", "\0", "a\nb", "\x1b[2J", "a\x7f", "x" * 256, "é" * 128,
    "/".join(["x" * 128] * 8), "a/" * 600 + "b", "\ud800", "a/\udfff",
]


@pytest.mark.parametrize("text", GOOD_PATHS)
def test_takes_any_path_that_repositories_have(text: str) -> None:
    """A path is taken as it is, in any script."""
    path = RelPath(text)

    assert path == text
    assert path.parts == tuple(text.split("/"))


@pytest.mark.parametrize("text", BAD_PATHS)
def test_refuses_a_path_that_could_lead_elsewhere(text: str) -> None:
    """Traversal, roots, drives, control characters and overlong names never become a `RelPath`."""
    with pytest.raises(ValueError, match="is not a path inside a repository") as caught:
        RelPath(text)

    assert str(caught.value).isascii() or str(caught.value).isprintable()


@given(st.text())
def test_a_path_never_leaves_its_folder(text: str) -> None:
    """Whatever the text: what is let in stays below the folder it is put in, on any system, and can be encoded."""
    try:
        path = RelPath(text)
    except ValueError:
        return

    assert Path("/cache", path).is_relative_to("/cache")
    assert ".." not in PurePosixPath(path).parts
    assert ".." not in PureWindowsPath(path).parts
    assert not PureWindowsPath(path).anchor and not PureWindowsPath(path).drive
    assert len(path.encode()) <= 1024
    assert "\0" not in path


@pytest.mark.parametrize(("kind", "name", "folder"), [
    (RepoType.MODEL, "org/name", "models--org--name"),
    (RepoType.MODEL, "gpt2", "models--gpt2"),
    (RepoType.DATASET, "Org_1/a.b-C", "datasets--Org_1--a.b-C"),
    (RepoType.SPACE, "org/" + "x" * 96, "spaces--org--" + "x" * 96),
])
def test_a_repository_has_its_folder_in_the_cache(kind: RepoType, name: str, folder: str) -> None:
    """The id as callers pass it, case and all, gives the folder that huggingface_hub looks in, and back."""
    assert RepoId(kind, name).cache_folder == folder
    assert RepoId.of_cache_folder(folder) == RepoId(kind, name)


@pytest.mark.parametrize("folder", [
    "models", "models--", "models--a--b--c", "blobs--a", "model--a", ".locks", "version.txt", "models--..--b", "",
])
def test_other_folders_are_no_repositories(folder: str) -> None:
    """What else stands in a cache is told from repositories by its name."""
    with pytest.raises(ValueError):
        RepoId.of_cache_folder(folder)


@pytest.mark.parametrize("name", [
    "", "/", "org/", "/name", "a/b/c", "org//name", "..", ".", "../name", "org/..", "org/.name", "-org/name",
    "org/-name", "org/name-", "org/name.", "org/na--me", "org--name", "a..b/c", "org/name.git", "org/na me",
    "org/name\n", "org/ñame", "org\\name", "org/" + "x" * 97, "x" * 97, "x" * 150 + "/" + "y" * 90, "org/name\0",
    "\ud800/x", "C:/x", "https://huggingface.co/org/name",
])
def test_refuses_what_is_no_repository_id(name: str) -> None:
    """The hub's own rule; nothing that could name another folder."""
    with pytest.raises(ValueError, match="is not a repository id"):
        RepoId(RepoType.MODEL, name)


@given(st.from_regex(r"[A-Za-z0-9_.-]{1,5}(/[A-Za-z0-9_.-]{1,5})?", fullmatch=True),
       st.from_regex(r"[A-Za-z0-9_.-]{1,5}(/[A-Za-z0-9_.-]{1,5})?", fullmatch=True))
def test_two_repositories_never_share_a_folder(one: str, other: str) -> None:
    """Different ids have different folders, and a folder is one name."""
    try:
        ids = [RepoId(RepoType.MODEL, one), RepoId(RepoType.MODEL, other)]
    except ValueError:
        return

    assert (ids[0].cache_folder == ids[1].cache_folder) == (one == other)
    assert "/" not in ids[0].cache_folder


def test_a_repository_is_called_with_its_type() -> None:
    """What is not a model says so: a dataset may have a model's id."""
    assert str(RepoId(RepoType.MODEL, "org/a")) == "org/a"
    assert str(RepoId(RepoType.DATASET, "org/a")) == "datasets/org/a"
    assert RepoId(RepoType.MODEL, "org/a") != RepoId(RepoType.DATASET, "org/a")


@pytest.mark.parametrize("kind", RepoType)
@pytest.mark.parametrize("name", ["org/name", "gpt2"])
def test_reads_a_repository_as_it_is_called(kind: RepoType, name: str) -> None:
    """What users read they may write: `org/name`, `datasets/org/name`."""
    assert RepoId.parse(str(RepoId(kind, name))) == RepoId(kind, name)


@pytest.mark.parametrize("text", [
    "main", "v1.0", "refs/pr/1", "feature/x", "a-b_c", COMMIT, COMMIT[:7], "x" * 255, "ß", "release.2", "HEAD"
])
def test_takes_what_git_takes_as_a_ref(text: str) -> None:
    """Branches, tags, pull requests and commits."""
    assert RefName(text) == text


@pytest.mark.parametrize("text", [
    "", "/", "a/", "/a", "a//b", ".", "..", "../main", "a/../b", "a..b", ".main", "a/.b", "-x", "a b", "a~1", "a^",
    "a:b", "a?", "a*", "a[b", "a\\b", "a@{1}", "a.lock", "a.lock/b", "main.", "a\n", "a\0", "\x7f", "x" * 256, "\ud800",
    "main\n",
])
def test_refuses_what_git_refuses_as_a_ref(text: str) -> None:
    """What is let in can be a file below `refs/`, and nothing that a client would take for something else."""
    with pytest.raises(ValueError):
        RefName(text)


def test_a_full_commit_needs_no_ref() -> None:
    """A revision is the ref that users ask for, unless it is a commit, which resolves by itself."""
    assert refs_of(RefName("main")) == ("main",)
    assert refs_of(RefName(COMMIT[:7])) == (COMMIT[:7],)
    assert refs_of(RefName(COMMIT)) == ()


@pytest.mark.parametrize("text", ["a", "speech", "all-minilm-l6-v2", "x" * 64, "_", "1.0", "a..b"])
def test_takes_a_bundle_name_that_fits_any_file_system(text: str) -> None:
    """The name and all that is made of it."""
    assert BundleName(text) == text


@pytest.mark.parametrize("text", [
    "", ".", "..", ".a", "-a", "A", "Speech", "a/b", "a\\b", "a b", "ä", "x" * 65, "a\n", "a\0", "a:b", "../a", "a*",
])
def test_refuses_a_bundle_name_that_some_system_would_not_take(text: str) -> None:
    """No case to fold, no hidden file, no option, no path."""
    with pytest.raises(ValueError, match="is not a bundle's name"):
        BundleName(text)


@pytest.mark.parametrize("make", [RelPath, RefName, BundleName, lambda text: RepoId(RepoType.MODEL, text)])
def test_an_overlong_name_does_not_flood_the_screen(make: type[str]) -> None:
    """A message quotes the beginning of what it refuses."""
    with pytest.raises(ValueError) as caught:
        make("/\x1b" * (1 << 20))

    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("make", [RelPath, RefName, BundleName, lambda text: RepoId(RepoType.MODEL, text)])
def test_a_refusal_does_not_carry_control_characters(make: type[str]) -> None:
    """What a hostile document says reaches the terminal only as text."""
    with pytest.raises(ValueError) as caught:
        make("/a\x1b[2J\r\n\x07/")

    assert re.search(r"[\x00-\x1f\x7f]", str(caught.value)) is None
