"""From a manifest to a lock: what hubs say, who said it, and hubs that say nonsense."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bundler.demo.hub import InMemory
from bundler.demo.messages import Request, Response
from bundler.errors import (
    AccessDeniedError, HubError, HubUnreachableError, LockError, NothingSelectedError, RepoNotFoundError,
    RevisionNotFoundError, StaleLockError
)
from bundler.gateway.build import lock_manifest
from bundler.lock import lock_path, lock_text, parse_lock, read_lock
from bundler.manifest import read_manifest
from tests.bundle_command import Result, bundle
from tests.faulty_hub import FaultyHubServer, HtmlPage, Pause, Status
from tests.gateway_side import Gateway, Repo, endpoint, lock_of

TOKEN = "hf_secret"
FILES = {"config.json": b"{}", "model.safetensors": b"weights", "onnx/model.onnx": b"graph"}
API = "/api/*"


@pytest.fixture
def mirror() -> Iterator[FaultyHubServer]:
    """A second hub."""
    with FaultyHubServer() as server:
        yield server


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """A connected machine with nothing on it."""
    return Gateway(tmp_path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A fault: the same bytes to whatever was asked."""

    raw: bytes

    def hits(self, request: Request, response: Response) -> bool:
        """Say that it always makes a difference."""
        return True

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        """Return the bytes."""
        return Response(status=200, headers={"Content-Type": "application/json"}, content=InMemory(raw=self.raw))


@dataclass(frozen=True, slots=True, kw_only=True)
class Retold:
    """A fault: the true answer with something in its JSON changed."""

    change: Callable[[dict[str, Any]], object]

    def hits(self, request: Request, response: Response) -> bool:
        """Say that errors stay as they are."""
        return response.status == 200

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        """Return the changed answer."""
        values = json.loads(b"".join(response.content.chunks(0, response.content.size)))
        self.change(values)
        return replace(response, content=InMemory(raw=json.dumps(values).encode()))


# what is written


def test_pins_every_file_to_size_and_digest(hub: FaultyHubServer) -> None:
    """A lock says what `main` is now: the commit, and each file's path, size and digest; LFS ones by SHA-256."""
    commit = hub.publish("org/a", FILES)

    (repo,) = lock_of("org/a", endpoints=(endpoint(hub),)).repos

    assert repo.commit == commit and repo.refs == ("main",)
    assert [(file.path, file.size) for file in repo.files] == [(path, len(FILES[path])) for path in sorted(FILES)]
    assert [len(file.etag) for file in repo.files] == [40, 64, 64]
    assert [file.sha256 == file.etag for file in repo.files] == [False, True, True]


def test_the_lock_has_one_spelling_and_a_line_for_each_file(hub: FaultyHubServer) -> None:
    """The same hub gives the same text again, which is read back as what it was, and shows a changed file as a line."""
    hub.publish("org/a", FILES)
    before = lock_of("org/a", endpoints=(endpoint(hub),))
    again = lock_of("org/a", endpoints=(endpoint(hub),))
    hub.publish("org/a", {**FILES, "config.json": b"{ }"})
    after = lock_of("org/a", endpoints=(endpoint(hub),))

    old, new = (lock_text(lock).decode().splitlines() for lock in (before, after))

    assert lock_text(again) == lock_text(before)
    assert parse_lock(lock_text(before)) == before
    assert all(sum(f'"{path}"' in line for line in old) == 1 for path in FILES)
    changed = [(one, other) for one, other in zip(old, new, strict=True) if one != other]
    assert len(changed) == 2
    assert '"commit"' in changed[0][0] and '"config.json"' in changed[1][0]


def test_the_command_writes_the_lock_beside_the_manifest(hub: FaultyHubServer, gateway: Gateway) -> None:
    """`bundle lock` says commit and provenance, and what it wrote is what the library reads."""
    commit = hub.publish("org/a", FILES)
    manifest = gateway.manifest("org/a", hubs=(hub,))

    locked = bundle("lock", manifest)

    assert locked.returncode == 0, locked.stderr
    assert commit in locked.stdout and f"told by {hub.endpoint} alone" in locked.stdout
    assert read_lock(gateway.place / "gift.lock.json").repos[0].commit == commit
    assert sorted(path.name for path in gateway.place.iterdir()) == ["gift.lock.json", "gift.toml"]


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_locks_repositories_of_every_kind(hub: FaultyHubServer, kind: str) -> None:
    """Models, datasets and spaces of the same name are three repositories."""
    commit = hub.publish("org/a", {"kind.txt": kind.encode()}, repo_type=kind)

    (repo,) = lock_of({"id": "org/a", "type": kind}, endpoints=(endpoint(hub),)).repos

    assert repo.commit == commit and repo.request.repo.type == kind


def test_resolves_whatever_names_a_commit(hub: FaultyHubServer) -> None:
    """A tag, a pull request, a full and a short commit are all pinned to the full commit."""
    first = hub.publish("org/a", {"a.txt": b"1"})
    hub.tag("org/a", "v1.0", first)
    second = hub.publish("org/a", {"a.txt": b"2"}, refs=["refs/pr/7"])
    revisions = ("main", "v1.0", "refs/pr/7", first, first[:8])

    lock = lock_of(*({"id": "org/a", "revision": revision} for revision in revisions), endpoints=(endpoint(hub),))

    assert [repo.commit for repo in lock.repos] == [second, first, second, first, first]
    assert [repo.refs for repo in lock.repos] == [("main",), ("v1.0",), ("refs/pr/7",), (), (first[:8],)]


@pytest.mark.parametrize(("patterns", "paths"), [
    ({"include": ["*.json"]}, ["config.json"]),
    ({"include": ["onnx/"]}, ["onnx/model.onnx"]),
    ({"exclude": ["*.onnx"]}, ["config.json", "model.safetensors"]),
    ({"include": ["*model*"], "exclude": ["onnx/*"]}, ["model.safetensors"]),
])
def test_patterns_choose_files(hub: FaultyHubServer, patterns: dict[str, object], paths: list[str]) -> None:
    """`include` and `exclude` mean what the hub's own `allow_patterns` and `ignore_patterns` mean."""
    hub.publish("org/a", FILES)

    lock = lock_of({"id": "org/a", **patterns}, endpoints=(endpoint(hub),))

    assert [file.path for file in lock.repos[0].files] == paths


# who said it


def test_two_hubs_that_agree_are_both_named(hub: FaultyHubServer, mirror: FaultyHubServer) -> None:
    """The first tells, the second is noted as agreeing."""
    for each in (hub, mirror):
        each.publish("org/a", FILES)

    (repo,) = lock_of("org/a", endpoints=(endpoint(hub), endpoint(mirror))).repos

    assert repo.identity.told_by == hub.endpoint
    assert (repo.identity.agreed_by, repo.identity.differed) == ((mirror.endpoint,), ())


def test_a_mirror_that_lags_is_named(hub: FaultyHubServer, mirror: FaultyHubServer) -> None:
    """A mirror whose `main` is an older commit does not change the lock; that it differed stands in it."""
    for each in (hub, mirror):
        each.publish("org/a", FILES)
    commit = hub.publish("org/a", {**FILES, "config.json": b"{ }"})

    (repo,) = lock_of("org/a", endpoints=(endpoint(hub), endpoint(mirror))).repos

    assert repo.commit == commit
    assert (repo.identity.agreed_by, repo.identity.differed) == ((), (mirror.endpoint,))


def test_a_mirror_that_tells_another_digest_of_the_same_commit_is_named(
    hub: FaultyHubServer, mirror: FaultyHubServer
) -> None:
    """The same commit with another digest in it is not agreement."""
    for each in (hub, mirror):
        each.publish("org/a", FILES)
    mirror.fail(Retold(change=lambda values: values["siblings"][1]["lfs"].update(sha256="0" * 64)), path=API)

    (repo,) = lock_of("org/a", endpoints=(endpoint(hub), endpoint(mirror))).repos

    assert (repo.identity.agreed_by, repo.identity.differed) == ((), (mirror.endpoint,))


def test_what_differs_stands_in_all_reports(
    hub: FaultyHubServer, mirror: FaultyHubServer, gateway: Gateway
) -> None:
    """Who said that these are the files is repeated by lock, inspect and verify."""
    for each in (hub, mirror):
        each.publish("org/a", FILES)
    hub.publish("org/a", {**FILES, "config.json": b"{ }"})
    manifest = gateway.manifest("org/a", hubs=(hub, mirror))
    told = f"told by {hub.endpoint} (differed: {mirror.endpoint})"

    locked = bundle("lock", manifest)
    assert gateway.build(manifest).returncode == 0
    inspected = bundle("inspect", gateway.bundle)
    verified = bundle("verify", gateway.bundle, "--allow-unsigned")

    assert all(told in done.stdout for done in (locked, inspected, verified))


@pytest.mark.parametrize("status", [404, 500, 503])
def test_the_second_tells_where_the_first_does_not(
    hub: FaultyHubServer, mirror: FaultyHubServer, status: int
) -> None:
    """A hub that does not answer is passed by, and neither agrees nor differs."""
    hub.publish("org/a", FILES)
    mirror.fail(Status(code=status))

    (repo,) = lock_of("org/a", endpoints=(endpoint(mirror), endpoint(hub))).repos

    assert str(repo.identity) == f"told by {hub.endpoint} alone"


def test_the_second_tells_where_the_first_is_down(hub: FaultyHubServer) -> None:
    """A refused connection is passed by in the same way."""
    hub.publish("org/a", FILES)
    with FaultyHubServer() as gone:
        down = endpoint(gone)

    (repo,) = lock_of("org/a", endpoints=(down, endpoint(hub))).repos

    assert str(repo.identity) == f"told by {hub.endpoint} alone"


# what a lock keeps


def test_an_added_repository_leaves_the_other_pins_alone(hub: FaultyHubServer) -> None:
    """A branch that has moved since stays where the lock has pinned it."""
    pinned = hub.publish("org/a", FILES)
    old = lock_of("org/a", endpoints=(endpoint(hub),))
    hub.publish("org/a", {"config.json": b"moved"})
    added = hub.publish("org/b", FILES)

    new = lock_of("org/b", "org/a", endpoints=(endpoint(hub),), keep=old)

    assert [repo.commit for repo in new.repos] == [added, pinned]
    assert new.repos[1] == old.repos[0]


def test_a_removed_repository_leaves_the_lock(hub: FaultyHubServer) -> None:
    """What the manifest no longer asks for is no longer locked, and nobody is asked about the rest."""
    for name in ("org/a", "org/b"):
        hub.publish(name, FILES)
    old = lock_of("org/a", "org/b", endpoints=(endpoint(hub),))
    asked = len(hub.requests)

    new = lock_of("org/b", endpoints=(endpoint(hub),), keep=old)

    assert new.repos == old.repos[1:]
    assert len(hub.requests) == asked


def test_other_patterns_are_looked_up_anew(hub: FaultyHubServer) -> None:
    """Patterns choose among all files, of which the lock holds only those chosen before."""
    hub.publish("org/a", FILES)
    old = lock_of({"id": "org/a", "include": ["*.json"]}, endpoints=(endpoint(hub),))

    new = lock_of({"id": "org/a", "include": ["*.json", "*.onnx"]}, endpoints=(endpoint(hub),), keep=old)

    assert [file.path for file in new.repos[0].files] == ["config.json", "onnx/model.onnx"]


def test_lock_refreshes_everything(hub: FaultyHubServer, gateway: Gateway) -> None:
    """`bundle lock` asks what every branch is now, whatever the old lock says."""
    hub.publish("org/a", FILES)
    manifest = gateway.manifest("org/a", hubs=(hub,))
    lock_manifest(manifest, (endpoint(hub),))
    moved = hub.publish("org/a", {"config.json": b"moved"})

    lock_manifest(manifest, (endpoint(hub),))

    assert read_lock(lock_path(manifest)).repos[0].commit == moved


def test_build_mends_a_stale_lock_and_says_so(hub: FaultyHubServer, gateway: Gateway) -> None:
    """A repository that was added to the manifest is locked by the build; the pins of the others hold."""
    pinned = hub.publish("org/a", FILES)
    manifest = gateway.manifest("org/a", hubs=(hub,))
    lock_manifest(manifest, (endpoint(hub),))
    hub.publish("org/a", {"config.json": b"moved"})
    hub.publish("org/b", {"b.txt": b"b"})
    gateway.manifest("org/a", "org/b", hubs=(hub,))

    built = gateway.build(manifest)

    assert built.returncode == 0, built.stderr
    assert "does not fit its manifest" in built.stderr and "org/b" in built.stderr
    assert read_lock(lock_path(manifest)).repos[0].commit == pinned


@pytest.mark.parametrize("repos", [
    ["org/a", "org/b"], [{"id": "org/a", "include": ["*.json"]}], [{"id": "org/a", "revision": "v1"}], ["org/b"],
], ids=["added", "patterns", "revision", "other"])
def test_locked_refuses_a_lock_that_does_not_fit(
    hub: FaultyHubServer, gateway: Gateway, repos: list[Repo]
) -> None:
    """With `--locked` nothing is asked, and the lock stays as it was reviewed."""
    hub.publish("org/a", FILES)
    manifest = gateway.manifest("org/a", hubs=(hub,))
    lock_manifest(manifest, (endpoint(hub),))
    asked, before = len(hub.requests), lock_path(manifest).read_bytes()
    gateway.manifest(*repos, hubs=(hub,))

    refused = gateway.build(manifest, "--locked")

    assert refused.returncode == StaleLockError.exit_code
    assert "does not fit its manifest" in refused.stderr and "hint: run `bundle lock" in refused.stderr
    assert lock_path(manifest).read_bytes() == before
    assert len(hub.requests) == asked
    assert not gateway.bundle.exists()


def test_locked_refuses_to_make_a_lock(hub: FaultyHubServer, gateway: Gateway) -> None:
    """Without a lock, `--locked` makes none."""
    hub.publish("org/a", FILES)
    manifest = gateway.manifest("org/a", hubs=(hub,))

    refused = gateway.build(manifest, "--locked")

    assert refused.returncode == StaleLockError.exit_code
    assert not lock_path(manifest).exists()
    assert not hub.requests


# what goes wrong


def assert_told(refused: Result, code: int, *texts: str) -> None:
    """Look for the exit code, for texts in the error, and for the absence of a traceback."""
    assert refused.returncode == code, refused.stderr
    assert "error: " in refused.stderr and "Traceback" not in refused.stderr
    for text in texts:
        assert text in refused.stderr


def test_an_error_of_a_hub_ends_the_command_in_its_exit_code(hub: FaultyHubServer, gateway: Gateway) -> None:
    """What the library raises, the command prints, and nothing is written."""
    manifest = gateway.manifest("org/absent", hubs=(hub,))

    refused = bundle("lock", manifest)

    assert_told(refused, RepoNotFoundError.exit_code, hub.endpoint, "org/absent", "hint: check id and type")
    assert not lock_path(manifest).exists()


def test_a_private_repository_looks_like_a_missing_one(hub: FaultyHubServer) -> None:
    """The hub does not tell the two apart, and the hint says so."""
    hub.publish("org/a", FILES)
    hub.gate("org/a", TOKEN, private=True)

    with pytest.raises(RepoNotFoundError, match="org/a") as caught:
        lock_of("org/a", endpoints=(endpoint(hub),))

    assert "private" in caught.value.hint
    assert lock_of("org/a", endpoints=(endpoint(hub, token=TOKEN),)).repos[0].files


def test_a_gated_listing_says_what_to_do(hub: FaultyHubServer) -> None:
    """Where even the list of files is refused, the hint names the terms and the token."""
    hub.publish("org/a", FILES)

    class Gated(Status):
        def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
            return replace(super(Gated, self).spoil(request, response, pause), headers={"X-Error-Code": "GatedRepo"})

    hub.fail(Gated(code=403), path=API)

    with pytest.raises(AccessDeniedError, match="gated") as caught:
        lock_of("org/a", endpoints=(endpoint(hub),))

    assert "HF_TOKEN" in caught.value.hint


def test_a_missing_revision_is_named(hub: FaultyHubServer) -> None:
    """The repository is there, the branch is not: an error of its own."""
    hub.publish("org/a", FILES)

    with pytest.raises(RevisionNotFoundError, match="`nightly`"):
        lock_of({"id": "org/a", "revision": "nightly"}, endpoints=(endpoint(hub),))


def test_patterns_that_choose_nothing_are_an_error(hub: FaultyHubServer) -> None:
    """A typing error in a pattern is found here, not on the other side."""
    hub.publish("org/a", FILES)

    with pytest.raises(NothingSelectedError, match="none of the 3 files"):
        lock_of({"id": "org/a", "include": ["*.safetensor"]}, endpoints=(endpoint(hub),))


def test_a_hub_that_is_down_is_named() -> None:
    """Nobody listens: the error names the endpoint."""
    with FaultyHubServer() as gone:
        down = endpoint(gone)

    with pytest.raises(HubUnreachableError, match=down.url):
        lock_of("org/a", endpoints=(down,))


@pytest.mark.parametrize("code", [400, 429, 500, 503])
def test_an_error_of_the_api_is_told(hub: FaultyHubServer, code: int) -> None:
    """The status is in the error."""
    hub.publish("org/a", FILES)
    hub.fail(Status(code=code), path=API)

    with pytest.raises(HubError, match=str(code)):
        lock_of("org/a", endpoints=(endpoint(hub),))


def test_of_several_failures_the_one_that_says_most_is_told(hub: FaultyHubServer, mirror: FaultyHubServer) -> None:
    """A missing repository matters more than a mirror that is down."""
    mirror.fail(Status(code=500))

    with pytest.raises(RepoNotFoundError):
        lock_of("org/a", endpoints=(endpoint(mirror), endpoint(hub)))


def test_a_web_page_is_not_the_hubs_api(hub: FaultyHubServer) -> None:
    """A captive portal, or a server of another kind, answers all with a page."""
    hub.publish("org/a", FILES)
    hub.fail(HtmlPage(), path=API)

    with pytest.raises(HubError, match="is not the hub's API") as caught:
        lock_of("org/a", endpoints=(endpoint(hub),))

    assert hub.endpoint in str(caught.value)
    assert type(caught.value) is HubError


@pytest.mark.parametrize("raw", [
    b"", b"null", b"[]", b"7", b'"text"', b"{}", b'{"id": "org/a"}', b'{"id": "org/a", "sha": null, "siblings": null}',
    b'{"id": "org/a", "sha": 5, "siblings": [{}]}', b'{"id": "org/a", "sha": "main", "siblings": []}',
    b'{"id": "org/a", "siblings": 5}', b'{"id": "org/a", "siblings": {"a": 1}}', b"\xff\xfe", b"[" * 100_000, b"{" * 9,
    b'{"id": "org/a", "sha": "' + b"0" * 40 + b'", "siblings": ["config.json"]}',
], ids=range(16))
def test_json_of_another_kind_is_not_the_hubs_api(hub: FaultyHubServer, raw: bytes) -> None:
    """Whatever is answered: an error that names the hub, never a traceback, and no file that was not listed."""
    hub.publish("org/a", FILES)
    hub.fail(Answer(raw=raw), path=API)

    with pytest.raises(HubError) as caught:
        lock_of("org/a", endpoints=(endpoint(hub),))

    assert hub.endpoint in str(caught.value) and "not the hub's API" in str(caught.value)


def _config(**changes: object) -> Callable[[dict[str, Any]], object]:
    """Change what is said of `config.json`."""
    return lambda values: values["siblings"][0].update(changes)


def _weights(**changes: object) -> Callable[[dict[str, Any]], object]:
    """Change what is said of the LFS file `model.safetensors`."""
    return lambda values: values["siblings"][1]["lfs"].update(changes)


@pytest.mark.parametrize("change", [
    _config(rfilename="../evil"), _config(rfilename="/etc/passwd"), _config(rfilename="a\\..\\b"),
    _config(rfilename=""), _config(rfilename="a//b"), _config(rfilename="x" * 300), _config(rfilename=7),
    _config(rfilename="a\nb"), _config(rfilename="\ud800"), _config(rfilename="model.safetensors"),
    _config(rfilename="onnx"), _config(size=-1), _config(size=1 << 60), _config(size=1.5), _config(size="2"),
    _config(size=None), _config(size=True), _config(size=[]), _config(blobId="xyz"), _config(blobId=None),
    _config(blobId="A" * 40), _config(blobId=7), _config(lfs="yes"), _config(lfs=[1]),
    _weights(sha256="xyz"), _weights(sha256=None), _weights(sha256="0" * 40), _weights(size=-1),
    _weights(size=1 << 60), _weights(size=None), _weights(size="7"),
    lambda values: values.update(sha="main"), lambda values: values.update(sha=None),
    lambda values: values.update(sha="0" * 39), lambda values: values["siblings"][0].pop("rfilename"),
    lambda values: [values["siblings"][0].pop(key) for key in ("size", "blobId")],
], ids=range(36))
def test_a_listing_that_cannot_be_is_refused(
    hub: FaultyHubServer, change: Callable[[dict[str, Any]], object]
) -> None:
    """Paths that lead out, names that stand twice, sizes and digests that are none: nothing of it gets into a lock."""
    hub.publish("org/a", FILES)
    hub.fail(Retold(change=change), path=API)

    with pytest.raises(HubError, match="is not the hub's API") as caught:
        lock_of("org/a", endpoints=(endpoint(hub),))

    assert hub.endpoint in str(caught.value) and "org/a" in str(caught.value)


def _forget_contents(values: Any) -> None:
    """Leave nothing but the paths, in the facts about a revision as in a tree."""
    for entry in values if isinstance(values, list) else values["siblings"]:
        for key in ("size", "blobId", "oid", "lfs"):
            entry.pop(key, None)


def test_one_digest_with_two_sizes_is_found_before_anything_is_fetched(hub: FaultyHubServer, gateway: Gateway) -> None:
    """A hub that lists one digest with two sizes is broken or lies: both files are named, and none is asked for."""
    hub.publish("org/a", FILES)

    def confuse(values: dict[str, Any]) -> None:
        weights, graph = (sibling["lfs"] for sibling in values["siblings"][1:])
        graph.update(sha256=weights["sha256"])

    hub.fail(Retold(change=confuse), path=API)

    refused = gateway.build(gateway.manifest("org/a", hubs=(hub,)))

    assert_told(refused, LockError.exit_code, "`model.safetensors` of org/a", "`onnx/model.onnx` of org/a")
    assert not hub.asked("model.safetensors") and not hub.asked("model.onnx")


def test_files_that_were_not_chosen_may_have_any_name(hub: FaultyHubServer) -> None:
    """A repository with a file whose name cannot be used is fine as long as the patterns leave it out."""
    hub.publish("org/a", {**FILES, "a\\b.txt": b"x"})

    lock = lock_of({"id": "org/a", "include": ["config.json"]}, endpoints=(endpoint(hub),))

    assert [file.path for file in lock.repos[0].files] == ["config.json"]


def test_a_lock_can_be_made_for_a_manifest_as_it_was_read(hub: FaultyHubServer, gateway: Gateway) -> None:
    """What fits once fits again: the lock that was just made is not stale."""
    hub.publish("org/a", FILES)
    manifest = gateway.manifest({"id": "org/a", "include": ["*.json"], "revision": "main"}, hubs=(hub,))

    path, lock = lock_manifest(manifest, (endpoint(hub),))

    assert lock.why_stale(read_manifest(manifest)) == ""
    assert read_lock(path) == lock
