"""Manifests: what people write is understood, and what has no meaning is refused with its place."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.errors import FileSystemError, ManifestError
from bundler.manifest import MAX_MANIFEST_SIZE, OFFICIAL_ENDPOINT, EndpointUrl, parse_manifest, read_manifest
from bundler.names import RepoId, RepoType

EXAMPLES = sorted((Path(__file__).parent.parent / "manifests").glob("*.toml"))
HEAD = 'name = "speech"\n'
REPO = '[[repo]]\nid = "org/a"\n'


def refuse(text: str | bytes) -> str:
    """Check that a manifest is refused, and return why."""
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text.encode() if isinstance(text, str) else text, document="speech.toml")
    assert str(caught.value).startswith("speech.toml")
    return str(caught.value)


def test_there_are_examples() -> None:
    """A newcomer has something to start from."""
    assert len(EXAMPLES) >= 3


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.name))
def test_every_example_is_a_manifest(path: Path) -> None:
    """The examples that come with the project are read, and named as their file."""
    manifest = read_manifest(path)

    assert manifest.name == path.stem
    assert manifest.requests


def test_understands_all_that_a_manifest_can_say() -> None:
    """Every field, and the order that things were written in."""
    manifest = parse_manifest(b"""
        name = "speech"
        endpoints = ["https://mirror.example/hf/", "https://huggingface.co"]
        [[repo]]
        id = "org/b"
        revision = "refs/pr/1"
        include = ["*.json", "onnx/*"]
        exclude = ["*.bin"]
        [[repo]]
        id = "squad"
        type = "dataset"
    """)

    assert manifest.name == "speech"
    assert [entry.url for entry in manifest.endpoints] == ["https://mirror.example/hf", "https://huggingface.co"]
    first, second = manifest.requests
    assert (first.repo, first.revision) == (RepoId(RepoType.MODEL, "org/b"), "refs/pr/1")
    assert (first.include, first.exclude) == (("*.json", "onnx/*"), ("*.bin",))
    assert (second.repo, second.revision) == (RepoId(RepoType.DATASET, "squad"), "main")
    assert (second.include, second.exclude) == ((), ())


def test_asks_the_official_hub_where_nothing_is_said() -> None:
    """A manifest needs a name and a repository, no more."""
    manifest = parse_manifest((HEAD + REPO).encode())

    assert [(entry.url, entry.token_from) for entry in manifest.endpoints] == [(OFFICIAL_ENDPOINT, "user")]


@pytest.mark.parametrize(("text", "place"), [
    ("", "`repo` is missing"),
    (HEAD, "`repo` is missing"),
    (HEAD + "repo = []", "`repo` is missing"),
    (REPO, "`name` is missing"),
    ("name = 1\n" + REPO, "`name` is not text"),
    ('name = "../up"\n' + REPO, "`name` is not valid"),
    ('name = "Speech"\n' + REPO, "`name` is not valid"),
    (HEAD + "colour = 1\n" + REPO, "`colour` is not a known field"),
    (HEAD + 'endpoints = "https://a"\n' + REPO, "`endpoints` is not a list"),
    (HEAD + 'endpoints = ["https://a", 1]\n' + REPO, "`endpoints[1]` is not valid"),
    (HEAD + 'endpoints = ["file:///etc"]\n' + REPO, "`endpoints[0]` is not valid"),
    (HEAD + '[repo]\nid = "org/a"', "`repo` is not a list, such as TOML's [[repo]]"),
    (HEAD + "repo = [1]", "`repo[0]` is not an object"),
    (HEAD + "[[repo]]\n", "`repo[0].id` is missing"),
    (HEAD + REPO + "[[repo]]\nid = 7", "`repo[1].id` is not text"),
    (HEAD + "[[repo]]\nid = true", "`repo[0].id` is not text"),
    (HEAD + '[[repo]]\nid = "../../etc"', "`repo[0].id` is not valid"),
    (HEAD + REPO + 'revison = "main"', "`repo[0].revison` is not a known field"),
    (HEAD + REPO + 'revision = "../main"', "`repo[0].revision` is not valid"),
    (HEAD + REPO + "revision = 2026-01-01", "`repo[0].revision` is not text"),
    (HEAD + REPO + "revision = 1", "`repo[0].revision` is not text"),
    (HEAD + REPO + 'type = "modle"', "`repo[0].type` is not valid"),
    (HEAD + REPO + 'include = "*.json"', "`repo[0].include` is not a list"),
    (HEAD + REPO + "include = [1]", "`repo[0].include[0]` is not valid"),
    (HEAD + REPO + 'exclude = [["*"]]', "`repo[0].exclude[0]` is not valid"),
    (HEAD + REPO + REPO, "`org/a` at `main` stands in it twice"),
    (HEAD + REPO + REPO + 'revision = "main"', "`org/a` at `main` stands in it twice"),
])
def test_refuses_what_has_no_meaning(text: str, place: str) -> None:
    """The error names the field, so that the author finds it."""
    assert place in refuse(text)


@pytest.mark.parametrize("text", [
    b"\xff", b"\xef\xbb\xbf" + HEAD.encode(), b"name", b"name = ", HEAD.encode() * 2, b"a = " + b"[" * 100_000,
    b"a = " + b"9" * 5000, b'name = "a\0b"', "name = 1".encode("utf-16"), b'name = "\\ud800"',
    b"[repo.x]\n[repo]\n[repo]",
], ids=lambda text: repr(text[:12]))
def test_refuses_what_is_not_toml(text: bytes) -> None:
    """Broken or endless: one kind of error, in a line that fits on a screen."""
    assert len(refuse(text)) < 300


@given(st.text() | st.from_regex(r"(name|repo|id|\[\[repo\]\]|[=\"\[\]{}a1.,\n ])*", fullmatch=True))
def test_any_text_is_a_manifest_or_refused(text: str) -> None:
    """Nothing that stands in a file is a bug."""
    try:
        manifest = parse_manifest(text.encode(errors="surrogatepass"))
    except ManifestError:
        return

    assert manifest.requests


def test_the_same_repository_may_be_wanted_at_several_revisions() -> None:
    """Only the same revision twice has no meaning."""
    manifest = parse_manifest((HEAD + REPO + REPO + 'revision = "v1"\n' + REPO + 'type = "dataset"').encode())

    assert [request.revision for request in manifest.requests] == ["main", "v1", "main"]


def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Absent, or far too large for what a person writes."""
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (MAX_MANIFEST_SIZE + 1))

    with pytest.raises(FileSystemError, match="absent.toml cannot be read"):
        read_manifest(tmp_path / "absent.toml")
    with pytest.raises(ManifestError, match="large.toml is larger than"):
        read_manifest(large)


@pytest.mark.parametrize(("text", "url"), [
    ("https://huggingface.co", "https://huggingface.co"),
    ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
    ("https://mirrors.example/hugging-face", "https://mirrors.example/hugging-face"),
    ("https://host/artifactory/api/huggingfaceml/REPO//", "https://host/artifactory/api/huggingfaceml/REPO"),
    ("http://[::1]:80/hf", "http://[::1]:80/hf"),
])
def test_takes_the_base_url_of_a_hub(text: str, url: str) -> None:
    """With a port or a path where a mirror has one; slashes at the end make no difference."""
    assert EndpointUrl(text) == url


@pytest.mark.parametrize("text", [
    "", "huggingface.co", "//huggingface.co", "ftp://huggingface.co", "file:///etc/passwd", "javascript:alert(1)",
    "https://", "https:///path", "https://:80", "https://host name", "https://host\n.example", " https://host",
    "https://host\0", "https://[::1", "https://host:99999", "https://host:port", "https://host:0", "https://hö.example",
    "https://host\\path", "https://host/\x1b[2J", "https://host/\ud800", "https://host/a b",
    "https://host?", "https://host#", "https://host?token=x", "https://host#part", "https://@host", "https://:@host",
])
def test_refuses_what_is_no_base_url(text: str) -> None:
    """Nothing to which a path could not be added, nothing that would be sent elsewhere than it looks."""
    with pytest.raises(ValueError) as caught:
        EndpointUrl(text)

    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", [
    "https://user:hunter2@host.example", "https://hunter2@host.example/hf", "ftp://user:hunter2@host.example",
    "https://user:hunter2@ho st", "https://host.example/?token=hunter2", "https://user:hunter2@", "user:hunter2@host",
])
def test_a_password_in_a_url_is_refused_and_not_repeated(text: str) -> None:
    """A token has its own place; a manifest is kept in git, and errors end up in logs."""
    message = refuse(HEAD + f"endpoints = ['{text}']\n" + REPO)

    assert "`endpoints[0]` is not valid" in message
    assert "hunter2" not in message


@given(st.text(alphabet=st.characters(codec="utf-8")) | st.from_regex(r"https?://[ -~]{0,20}", fullmatch=True))
def test_an_endpoint_can_have_a_path_added(text: str) -> None:
    """Whatever was let in: what is put behind it stays a path of the same host."""
    try:
        url = EndpointUrl(text)
    except ValueError:
        return

    whole = urlsplit(f"{url}/api/models/org/a")

    assert whole.path.endswith("/api/models/org/a")
    assert whole.netloc == urlsplit(url).netloc
    assert not whole.query and not whole.fragment and whole.username is None
