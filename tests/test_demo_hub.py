"""The demo hub keeps the hub's contract, as the real client sees it, and its faults do what they say."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import itertools
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError, RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile, RepoFolder

from bundler.demo.hub import Hub, InMemory
from bundler.demo.messages import Request, Response
from bundler.demo.server import HubServer
from tests.faulty_hub import (
    Corrupt, Cut, Fault, FaultyHubServer, Gzipped, Hang, Headers, HtmlPage, Late, NoRange, SharedLine, Slow,
    Status, WrongSize,
)

WEIGHTS = bytes(range(256)) * 400
README = b"---\ntags: [x]\nlicense: apache-2.0\n---\n# A model\n"
FILES: Mapping[str, bytes] = {
    "README.md": README, "config.json": b"{}\n", "model.safetensors": WEIGHTS, "unet/config.json": b"{1}\n",
}
NASTY = ("with space.txt", "unicode-日本é.txt", "100%.txt", "a+b#c?d&e.txt", "dir #1/50%25 [x];y.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What urllib saw."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: object) -> None:
        return None


def _ask(url: str, *, method: str = "GET", follow: bool = True, **headers: str) -> Answer:
    """Ask with urllib, without any proxy; keyword arguments are headers."""
    handlers = [] if follow else [_NoRedirects()]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *handlers)
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with opener.open(request, timeout=5) as response:
            return Answer(status=response.status, headers=dict(response.headers), body=response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(status=error.code, headers=dict(error.headers), body=error.read())


def _weights_url(server: HubServer) -> str:
    return f"{server.endpoint}/org/a/resolve/main/model.safetensors"


def _api(server: HubServer, token: str | None = None) -> HfApi:
    return HfApi(endpoint=server.endpoint, token=token or False)


def _download(
    server: HubServer, filename: str, cache: Path, *, repo_id: str = "org/a", revision: str | None = None,
    token: str | None = None,
) -> Path:
    return Path(hf_hub_download(
        repo_id, filename, revision=revision, endpoint=server.endpoint, cache_dir=cache,
        token=token or False))


@pytest.fixture
def published(hub: FaultyHubServer) -> FaultyHubServer:
    """A hub that holds `org/a`."""
    hub.publish("org/a", FILES)
    return hub


def test_tells_path_size_and_digests_of_every_file(published: FaultyHubServer) -> None:
    """One request for the information with blobs is enough to identify every byte."""
    info = _api(published).model_info("org/a", files_metadata=True)

    assert info.siblings is not None
    files = {sibling.rfilename: sibling for sibling in info.siblings}
    weights, config = files["model.safetensors"], files["config.json"]
    assert list(files) == sorted(FILES)
    assert (config.size, config.lfs) == (3, None)
    assert config.blob_id == hashlib.sha1(b"blob 3\0{}\n").hexdigest()
    assert weights.lfs is not None
    assert weights.lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert weights.size == weights.lfs.size == len(WEIGHTS)
    about = f"oid sha256:{weights.lfs.sha256}\nsize {weights.size}\n"
    pointer = f"version https://git-lfs.github.com/spec/v1\n{about}"
    named = f"blob {len(pointer)}\0{pointer}".encode()
    assert (weights.lfs.pointer_size, weights.blob_id) == (len(pointer), hashlib.sha1(named).hexdigest())


def test_tells_the_licence_of_the_readme(published: FaultyHubServer) -> None:
    """The front matter's licence is in the card, as an officer expects it."""
    info = _api(published).model_info("org/a")

    assert info.card_data is not None
    assert (info.card_data.license, info.gated, info.private) == ("apache-2.0", False, False)


def test_publishing_is_deterministic() -> None:
    """The same content has the same commit everywhere; another one, or another parent, has not."""
    first, second = Hub(), Hub()

    commit = first.publish("org/a", FILES)

    assert commit == second.publish("org/a", FILES)
    assert len({commit, first.publish("org/a", FILES), second.publish("org/a", {"x": b""})}) == 3


@pytest.mark.parametrize("repo_type", ["model", "dataset", "space"])
def test_a_snapshot_arrives_whole(
    hub: FaultyHubServer, tmp_path: Path, repo_type: str
) -> None:
    """snapshot_download gets every byte of every kind of repository, through the tree and the redirects."""
    commit = hub.publish("org/a", FILES, repo_type=repo_type)

    folder = Path(snapshot_download(
        "org/a", repo_type=repo_type, endpoint=hub.endpoint, cache_dir=tmp_path, token=False))

    assert folder.name == commit
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    assert {seen.path.split("/")[-1] for seen in hub.requests if seen.host == "cdn"} == {"model.safetensors"}


def test_patterns_select_files(published: FaultyHubServer, tmp_path: Path) -> None:
    """What the patterns do not let through is not asked for."""
    folder = snapshot_download(
        "org/a", allow_patterns=["*.json"], endpoint=published.endpoint, cache_dir=tmp_path, token=False)

    found = sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.*"))
    assert found == ["config.json", "unet/config.json"]
    assert not published.asked("model.safetensors")


def test_all_revisions_lead_to_their_commit(hub: FaultyHubServer) -> None:
    """Branches, tags, pull requests and commits resolve, quoted or not, full or short."""
    first = hub.publish("org/a", {"x": b"1"})
    hub.tag("org/a", "v1.0", first)
    branch = hub.publish("org/a", {"x": b"2"}, branch="feature/long name")
    request = hub.publish("org/a", {"x": b"3"}, branch=None, refs=["refs/pr/1"])
    api = _api(hub)
    expected = {
        "main": first, "v1.0": first, first: first, first[:7]: first, "feature/long name": branch,
        "refs/pr/1": request, "refs/heads/main": first,
    }

    shas = {revision: api.model_info("org/a", revision=revision).sha for revision in expected}
    unquoted = _ask(f"{hub.endpoint}/org/a/resolve/refs/pr/1/x")

    assert shas == expected
    assert (unquoted.body, unquoted.headers["X-Repo-Commit"]) == (b"3", request)
    assert api.model_info("org/a").sha == first
    with pytest.raises(RevisionNotFoundError):
        api.model_info("org/a", revision=first[:6])


def test_lists_refs(hub: FaultyHubServer) -> None:
    """Branches, tags, conversions and pull requests are told apart."""
    commit = hub.publish("org/a", FILES, refs=["refs/pr/1", "refs/convert/parquet"])
    hub.tag("org/a", "v1", commit)

    refs = _api(hub).list_repo_refs("org/a", include_pull_requests=True)

    assert [(ref.name, ref.ref, ref.target_commit) for ref in refs.branches] == [
        ("main", "refs/heads/main", commit)]
    assert [ref.ref for ref in refs.tags] == ["refs/tags/v1"]
    assert [ref.ref for ref in refs.converts] == ["refs/convert/parquet"]
    assert [ref.ref for ref in refs.pull_requests or []] == ["refs/pr/1"]


def test_downloads_from_a_pull_request(hub: FaultyHubServer, tmp_path: Path) -> None:
    """`refs/pr/1` works as a revision of hf_hub_download, and main stays where it was."""
    hub.publish("org/a", {"x.bin": b"main"})
    hub.publish("org/a", {"x.bin": b"request"}, branch=None, refs=["refs/pr/1"])

    got = [_download(hub, "x.bin", tmp_path, revision=revision) for revision in ("main", "refs/pr/1")]

    assert [path.read_bytes() for path in got] == [b"main", b"request"]


def test_nasty_names_survive(hub: FaultyHubServer, tmp_path: Path) -> None:
    """Names that need quoting come back as they are, small or LFS, listed or downloaded."""
    files = {name: name.encode() for name in NASTY}
    hub.publish("org/a", files)

    folder = Path(snapshot_download("org/a", endpoint=hub.endpoint, cache_dir=tmp_path, token=False))
    below = list(_api(hub).list_repo_tree("org/a", "dir #1"))

    assert {name: (folder / name).read_bytes() for name in NASTY} == files
    assert [entry.path for entry in below] == [NASTY[-1]]


def test_a_repository_without_an_organisation(hub: FaultyHubServer, tmp_path: Path) -> None:
    """Old ids such as `gpt2` have no slash."""
    hub.publish("gpt2", FILES)

    path = _download(hub, "unet/config.json", tmp_path, repo_id="gpt2")

    assert path.read_bytes() == FILES["unet/config.json"]
    assert len(list(_api(hub).list_repo_tree("gpt2"))) == 4


def test_the_tree_shows_folders(published: FaultyHubServer) -> None:
    """One level at a time, or everything; a folder is an entry of its own."""
    api = _api(published)

    top = list(api.list_repo_tree("org/a"))
    everything = list(api.list_repo_tree("org/a", recursive=True))
    all_files = [entry for entry in everything if isinstance(entry, RepoFile)]

    assert [entry.path for entry in top if isinstance(entry, RepoFolder)] == ["unet"]
    assert [entry.path for entry in all_files] == sorted(FILES)
    digests = [entry.lfs.sha256 for entry in all_files if entry.lfs]
    assert digests == [hashlib.sha256(WEIGHTS).hexdigest()]
    assert not any(entry.xet_hash for entry in all_files)
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree("org/a", "nowhere"))


@pytest.mark.parametrize("prefix", ["", "/hugging-face"])
def test_long_listings_come_in_pages(prefix: str) -> None:
    """1,500 files are two pages of the tree, with a prefix too; nothing is lost or told twice."""
    with FaultyHubServer(prefix=prefix) as hub:
        hub.publish("org/a", {f"shard-{number:05}.txt": b"%d" % number for number in range(1500)})

        listed = list(_api(hub).list_repo_tree("org/a", recursive=True))

        assert [entry.path for entry in listed] == [f"shard-{number:05}.txt" for number in range(1500)]
        assert len(hub.requests) == 2


def test_a_head_tells_what_the_client_needs(published: FaultyHubServer) -> None:
    """Commit, etag and size of a redirected file come from the hub, without a byte of it."""
    metadata = get_hf_file_metadata(_weights_url(published), endpoint=published.endpoint, token=False)

    assert metadata.etag == hashlib.sha256(WEIGHTS).hexdigest()
    assert metadata.size == len(WEIGHTS)
    assert metadata.commit_hash == _api(published).model_info("org/a").sha
    assert urlsplit(metadata.location).netloc == urlsplit(published.cdn.url).netloc
    assert [seen.sent for seen in published.requests if seen.method == "HEAD"] == [0]


def test_a_mirror_can_serve_large_files_itself(tmp_path: Path) -> None:
    """Without the second host the bytes come from the endpoint, with the same headers."""
    with FaultyHubServer(cdn=False) as hub:
        hub.publish("org/a", FILES)

        path = _download(hub, "model.safetensors", tmp_path)

        assert path.read_bytes() == WEIGHTS
        assert path.resolve().name == hashlib.sha256(WEIGHTS).hexdigest()
        assert {seen.host for seen in hub.requests} == {"hub"}


def test_large_files_are_served_from_disk(hub: FaultyHubServer, tmp_path: Path) -> None:
    """A published path is read where it lies, from any offset."""
    source = tmp_path / "weights"
    source.write_bytes(WEIGHTS * 10)
    hub.publish("org/a", {"model.safetensors": source})

    part = _ask(_weights_url(hub), Range="bytes=600000-600999")

    assert part.body == (WEIGHTS * 10)[600000:601000]


@pytest.mark.parametrize(("asked", "start", "stop"), [
    ("bytes=0-0", 0, 1), ("bytes=100-199", 100, 200), ("bytes=102300-", 102300, 102400),
    ("bytes=-10", 102390, 102400), ("bytes=5-999999999", 5, 102400),
])
def test_ranges(published: FaultyHubServer, asked: str, start: int, stop: int) -> None:
    """Every form of a single range gives exactly these bytes."""
    answer = _ask(_weights_url(published), Range=asked)

    assert (answer.status, answer.body) == (206, WEIGHTS[start:stop])
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(WEIGHTS)}"
    assert published.requests[-1].sent == stop - start


@pytest.mark.parametrize(("asked", "status"), [
    ("bytes=102400-", 416), ("bytes=-0", 416), ("bytes=9-3", 416), ("bytes=0-1,5-6", 200), ("lines=1-2", 200),
])
def test_ranges_that_cannot_be_served(published: FaultyHubServer, asked: str, status: int) -> None:
    """Beyond the end is an error, what is not understood gets the whole file."""
    answer = _ask(_weights_url(published), Range=asked)

    assert answer.status == status
    assert answer.headers.get("Content-Range") == ("bytes */102400" if status == 416 else None)


@pytest.mark.parametrize(("path", "status", "code"), [
    ("/api/models/org/none", 404, "RepoNotFound"),
    ("/api/datasets/org/a", 404, "RepoNotFound"),
    ("/org/none/resolve/main/config.json", 404, "RepoNotFound"),
    ("/api/models/org/a/revision/none", 404, "RevisionNotFound"),
    ("/api/models/org/a/tree/none", 404, "RevisionNotFound"),
    ("/org/a/resolve/none/config.json", 404, "RevisionNotFound"),
    ("/org/a/resolve/main/none.json", 404, "EntryNotFound"),
    ("/somewhere/else", 404, None),
    ("/", 404, None),
])
def test_errors_have_codes(published: FaultyHubServer, path: str, status: int, code: str | None) -> None:
    """The codes that clients tell errors by, and a JSON body."""
    answer = _ask(published.endpoint + path)

    assert (answer.status, answer.headers.get("X-Error-Code")) == (status, code)
    assert json.loads(answer.body)["error"]


def test_a_prefix_is_part_of_every_url() -> None:
    """An endpoint below a path answers there and nowhere else."""
    with HubServer(prefix="/hf") as server:
        server.hub.publish("org/a", FILES)

        inside = _ask(f"{server.endpoint}/org/a/resolve/main/config.json")
        outside = _ask(server.endpoint.removesuffix("/hf") + "/org/a/resolve/main/config.json")

        assert (inside.status, outside.status) == (200, 404)


def test_a_missing_file_is_remembered_with_its_commit(published: FaultyHubServer, tmp_path: Path) -> None:
    """The client learns at which commit a file is missing."""
    with pytest.raises(RemoteEntryNotFoundError):
        _download(published, "none.json", tmp_path)

    assert list(tmp_path.rglob(".no_exist/*/none.json"))


def test_a_gated_repository_opens_with_its_token(published: FaultyHubServer, tmp_path: Path) -> None:
    """What is in it can be seen, its files need the token, and the CDN never gets it."""
    published.gate("org/a", "secret")
    api = _api(published)

    with pytest.raises(GatedRepoError):
        _download(published, "config.json", tmp_path)
    path = _download(published, "model.safetensors", tmp_path, token="secret")

    assert api.model_info("org/a").gated == "manual"
    assert path.read_bytes() == WEIGHTS
    assert not [seen for seen in published.requests if seen.host == "cdn" and "authorization" in seen.headers]
    assert _ask(_weights_url(published), Authorization="Bearer wrong").status == 403


def test_a_private_repository_looks_like_a_missing_one(published: FaultyHubServer) -> None:
    """Without the token nobody can tell the difference."""
    published.gate("org/a", "secret", private=True)

    with pytest.raises(RepositoryNotFoundError):
        _api(published).model_info("org/a")

    assert _api(published, token="secret").model_info("org/a").private


def test_the_cdn_refuses_a_token(published: FaultyHubServer) -> None:
    """A client that sends its token on to where a redirect leads is caught, as by real object stores."""
    answer = _ask(_weights_url(published), Authorization="Bearer x")

    assert answer.status == 400


def test_links_expire(published: FaultyHubServer) -> None:
    """A signed link dies with time or on demand, cannot be forged, and the hub gives a new one."""
    location = _ask(_weights_url(published), method="HEAD", follow=False).headers["Location"]
    live = _ask(location).status
    forged = _ask(location.replace("Expires=", "Expires=9")).status
    published.expire_links()
    dead = _ask(location).status
    renewed = _ask(_weights_url(published)).status
    published.cdn.lifetime = -1

    assert (live, forged, dead, renewed) == (200, 403, 403, 200)
    assert _ask(_weights_url(published)).status == 403


def test_connections_are_kept(published: FaultyHubServer) -> None:
    """Many requests go over one connection, HEAD and errors among them."""
    connection = http.client.HTTPConnection(urlsplit(published.endpoint).netloc)
    connection.connect()
    socket = connection.sock

    for name, method in itertools.product(("config.json", "none", "model.safetensors"), ("GET", "HEAD")):
        connection.request(method, f"/org/a/resolve/main/{name}")
        connection.getresponse().read()

    assert connection.sock is socket
    connection.close()


def test_the_end_closes_connections() -> None:
    """A stopped hub neither answers nor keeps a client waiting."""
    with HubServer() as server:
        connection = http.client.HTTPConnection(urlsplit(server.endpoint).netloc, timeout=5)
        connection.request("GET", "/")
        connection.getresponse().read()
        url = server.endpoint

    with pytest.raises(urllib.error.URLError):
        _ask(url)
    with pytest.raises(ConnectionError):
        connection.request("GET", "/")
        connection.getresponse()
    connection.close()


def test_the_log_counts_what_was_sent(published: FaultyHubServer) -> None:
    """Every request is there with its host, status and bytes as soon as its answer is."""
    _ask(_weights_url(published))

    log = [(seen.host, seen.method, seen.status, seen.sent) for seen in published.asked("model.safetensors")]
    assert log[0][:3] == ("hub", "GET", 302)
    assert log[1] == ("cdn", "GET", 200, len(WEIGHTS))


@pytest.mark.parametrize(("asked", "start"), [("bytes=0-", 0), ("bytes=500-1499", 500)])
def test_corrupt_flips_one_byte_of_the_file(published: FaultyHubServer, asked: str, start: int) -> None:
    """The offset is the file's, whatever range is asked for; afterwards all is well."""
    published.fail(Corrupt(at=1000), path="model.safetensors", times=1)

    bad, good = (_ask(_weights_url(published), Range=asked) for _ in range(2))

    assert [n + start for n in range(len(bad.body)) if bad.body[n] != good.body[n]] == [1000]


def test_cut_ends_the_connection(published: FaultyHubServer) -> None:
    """The promised length is not reached; the log knows how far it went."""
    published.fail(Cut(after=5000), path="model.safetensors", times=1)
    url = _ask(_weights_url(published), method="HEAD", follow=False).headers["Location"]
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
    connection.request("GET", url.partition(urlsplit(url).netloc)[2])

    with pytest.raises(http.client.IncompleteRead) as caught:
        connection.getresponse().read()

    connection.close()
    assert len(caught.value.partial) == published.requests[-1].sent == 5000
    assert _ask(_weights_url(published)).body == WEIGHTS


@pytest.mark.parametrize("code", [403, 404, 429, 500, 503])
def test_status_strikes_as_often_as_told(published: FaultyHubServer, code: int) -> None:
    """Two failures, then the truth; other files are untouched."""
    published.fail(Status(code=code, retry_after=7), path="config.json", host="hub", times=2)
    url = f"{published.endpoint}/org/a/resolve/main/config.json"

    other = _ask(f"{published.endpoint}/org/a/resolve/main/README.md").status
    answers = [_ask(url) for _ in range(3)]

    assert [other, *(answer.status for answer in answers)] == [200, code, code, 200]
    assert answers[0].headers["Retry-After"] == "7"


@pytest.mark.parametrize(("fault", "expected"), [
    (HtmlPage(), lambda answer: answer.status == 200 and answer.body.startswith(b"<!DOCTYPE")),
    (WrongSize(by=-10), lambda answer: answer.body == WEIGHTS[:-10]),
    (WrongSize(by=10), lambda answer: answer.body == WEIGHTS + bytes(10)),
    (Gzipped(), lambda answer: gzip.decompress(answer.body) == WEIGHTS),
    (Gzipped(), lambda answer: answer.headers["Content-Encoding"] == "gzip"),
    (Headers(change={"ETag": None, "X-New": "1"}), lambda answer: "ETag" not in answer.headers),
    (Headers(change={"ETag": None, "X-New": "1"}), lambda answer: answer.headers["X-New"] == "1"),
])
def test_changed_answers(
    published: FaultyHubServer, fault: Fault, expected: Callable[[Answer], bool]
) -> None:
    """Bodies and headers that are not what was published, consistent in themselves."""
    published.fail(fault, path="model.safetensors", host="cdn")

    answer = _ask(_weights_url(published))

    assert expected(answer)
    assert int(answer.headers["Content-Length"]) == len(answer.body)


def test_no_range_gives_the_whole_file(published: FaultyHubServer) -> None:
    """The range is ignored, not refused."""
    published.fail(NoRange())

    answer = _ask(_weights_url(published), Range="bytes=5-9")

    assert (answer.status, answer.body) == (200, WEIGHTS)
    assert "Accept-Ranges" not in answer.headers


def test_late_answers_take_their_time(published: FaultyHubServer) -> None:
    """Latency is per request."""
    published.fail(Late(seconds=0.2), times=1)
    started = time.monotonic()

    _ask(published.endpoint)

    assert time.monotonic() - started >= 0.2


def test_slow_answers_take_as_long_as_the_rate_says(published: FaultyHubServer) -> None:
    """The bytes are all there in the end."""
    published.fail(Slow(rate=len(WEIGHTS) / 0.3), path="model.safetensors")
    started = time.monotonic()

    answer = _ask(_weights_url(published))

    assert answer.body == WEIGHTS
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize(("fault", "last"), [(Slow(rate=100), 9), (SharedLine(rate=100), 29)])
def test_what_a_limit_is_shared_by(fault: Fault, last: float) -> None:
    """Of three answers of ten seconds, the last one waits for the others only on a shared line."""
    request = Request(host="cdn", method="GET", target="/", headers={}, time=0)
    waits: list[float] = []

    for _ in range(3):
        answer = fault.spoil(request, Response(status=200, content=InMemory(raw=bytes(1000))), waits.append)
        assert b"".join(answer.content.chunks(0, 1000)) == bytes(1000)

    assert last < waits[-1] <= last + 1


@pytest.mark.parametrize("after", [None, 0, 1000])
def test_hang_keeps_the_client_waiting(published: FaultyHubServer, after: int | None) -> None:
    """Nothing more comes, the connection stays open; the end of the hub ends it."""
    published.fail(Hang(after=after), path="config.json" if after is None else "model.safetensors")
    url = f"{published.endpoint}/org/a/resolve/main/config.json"
    if after is not None:
        url = _ask(_weights_url(published), method="HEAD", follow=False).headers["Location"]
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=0.2)

    connection.request("GET", url.partition(urlsplit(url).netloc)[2])
    with pytest.raises(TimeoutError):
        response = connection.getresponse()
        assert len(response.read(after or 0)) == after
        response.read(1)
    connection.close()


def test_heal_ends_all_faults(published: FaultyHubServer) -> None:
    """Faults without a number of times last until then."""
    published.fail(Status(code=500))
    broken = _ask(_weights_url(published)).status
    published.heal()

    assert (broken, _ask(_weights_url(published)).status) == (500, 200)
