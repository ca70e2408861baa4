"""ModelScope as a source of bytes and, where no hub can be reached, as the origin of a lock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from bundler.errors import FetchError, HubError, NothingSelectedError, RepoNotFoundError, RevisionNotFoundError
from bundler.gateway.endpoint import Endpoint
from bundler.gateway.modelscope import ModelScopeSource, Place, list_modelscope
from bundler.gateway.resolve import resolve_manifest
from bundler.gateway.sources import Wanted, wanted_blobs
from bundler.gateway.web import Web
from bundler.lock import Lock, read_lock
from bundler.manifest import EndpointKind, EndpointUrl, Request, parse_manifest
from bundler.names import RefName, RepoId, RepoType
from tests.bundle_command import bundle, succeed
from tests.faulty_hub import FaultyHubServer
from tests.gateway_side import MIB, Gateway, endpoint, lock_of, noise
from tests.modelscope_server import ModelScopeServer

TOKEN = "ms_secret"
FILES = {"config.json": b"{}", "README.md": b"here", "model.safetensors": noise("weights", 2 * MIB)}
MAPPED = RepoId(RepoType.MODEL, "LLM-Research/a")


@pytest.fixture
def modelscope() -> Iterator[ModelScopeServer]:
    """A running ModelScope with nothing in it."""
    with ModelScopeServer() as server:
        yield server


def place(server: ModelScopeServer, *, token: str | None = None) -> Endpoint:
    """Return it as a place to ask."""
    return Endpoint(url=EndpointUrl(server.endpoint), kind=EndpointKind.MODELSCOPE, token=token)


def listed(server: ModelScopeServer, *, kind: RepoType = RepoType.MODEL, **wanted: str) -> list[str]:
    """Return the paths that a request for `org/a` gives."""
    request = Request(
        repo=RepoId(kind, "org/a"), modelscope=RepoId(kind, MAPPED.name),
        revision=RefName(wanted.get("revision", "main")), include=(wanted.get("include", "*"),),
    )
    with Web(connections=1) as web:
        return [file.path for file in list_modelscope(place(server), request, web).files]


# as the origin of a lock


def write_manifest(folder: Path, *endpoints: str, mapped: bool = True) -> Path:
    """Write gift.toml for `org/a`; endpoints are spelled as in TOML."""
    path = folder / "gift.toml"
    mapping = f'modelscope = "{MAPPED.name}"\n' if mapped else ""
    path.write_text(f'name = "gift"\nendpoints = [{", ".join(endpoints)}]\n[[repo]]\nid = "org/a"\n{mapping}')
    return path


def as_table(server: ModelScopeServer) -> str:
    """Spell it for a manifest."""
    return f'{{ url = "{server.endpoint}", kind = "modelscope" }}'


def nobody_there() -> str:
    """Return a hub that is gone."""
    with FaultyHubServer() as gone:
        return gone.endpoint


def test_where_no_hub_can_be_reached_it_tells_and_installs(modelscope: ModelScopeServer, tmp_path: Path) -> None:
    """The lock says who told it, and its own commit; the model is found offline under its hub's id."""
    commit = modelscope.publish(MAPPED.name, FILES)
    gateway, cache = Gateway(tmp_path), tmp_path / "cache"
    manifest = write_manifest(tmp_path, f'"{nobody_there()}"', as_table(modelscope))

    locked = succeed("lock", manifest)
    assert gateway.build(manifest).returncode == 0
    succeed("install", gateway.bundle, "--cache-dir", cache)

    assert f"told by {modelscope.endpoint} alone" in locked.stdout
    (repo,) = read_lock(tmp_path / "gift.lock.json").repos
    assert repo.commit == commit
    assert {file.path: file.sha256 for file in repo.files} == {
        path: sha256(raw).hexdigest() for path, raw in FILES.items()
    }
    snapshot = cache / "models--org--a" / "snapshots" / commit
    assert {path.name: path.read_bytes() for path in snapshot.iterdir()} == FILES
    assert (cache / "models--org--a" / "refs" / "main").read_text() == commit


def test_a_hub_that_answers_goes_before_it(
    hub: FaultyHubServer, modelscope: ModelScopeServer, tmp_path: Path
) -> None:
    """Its commits are its own: it is not even asked."""
    commit = hub.publish("org/a", FILES)
    modelscope.publish(MAPPED.name, FILES)

    lock = lock_of("org/a", endpoints=(place(modelscope), endpoint(hub)))

    assert lock.repos[0].commit == commit
    assert not modelscope.requests


def test_a_hub_that_knows_better_is_believed(hub: FaultyHubServer, modelscope: ModelScopeServer) -> None:
    """A repository that the hub does not know is not taken from elsewhere under its name."""
    modelscope.publish(MAPPED.name, FILES)
    manifest = parse_manifest(b'name = "m"\n[[repo]]\nid = "org/a"\nmodelscope = "LLM-Research/a"')

    with pytest.raises(RepoNotFoundError, match=hub.endpoint):
        resolve_manifest(manifest, (endpoint(hub), place(modelscope)))


def test_without_an_id_it_is_no_origin(modelscope: ModelScopeServer, tmp_path: Path) -> None:
    """The error says what to write into the manifest."""
    modelscope.publish("org/a", FILES)

    refused = bundle("lock", write_manifest(tmp_path, as_table(modelscope), mapped=False))

    assert refused.returncode == RepoNotFoundError.exit_code
    assert "nothing says what org/a is called" in refused.stderr and 'modelscope = "org/name"' in refused.stderr


def test_without_a_commit_there_is_no_lock(modelscope: ModelScopeServer) -> None:
    """A snapshot needs a commit's name: where none is told, that is refused, and nothing is made up."""
    modelscope.publish(MAPPED.name, FILES)
    modelscope.tells_commits = False

    with pytest.raises(RevisionNotFoundError, match="has no LLM-Research/a at `master`"):
        listed(modelscope)


def test_an_error_with_status_200_is_an_error(modelscope: ModelScopeServer) -> None:
    """`Success: false` says what is wrong in words of its own."""
    with pytest.raises(RepoNotFoundError, match="record not found"):
        listed(modelscope)


def test_patterns_choose_files(modelscope: ModelScopeServer) -> None:
    """As they do on the hub."""
    modelscope.publish(MAPPED.name, FILES)

    assert listed(modelscope, include="*.json") == ["config.json"]
    with pytest.raises(NothingSelectedError, match="none of the 3 files"):
        listed(modelscope, include="*.gguf")


def test_a_model_of_more_files_than_are_listed_is_walked_folder_by_folder(modelscope: ModelScopeServer) -> None:
    """A list that is cut off without a word is noticed by its length."""
    files = {f"{number // 1500}/{number % 7}/{number}.json": b"{}" for number in range(7000)} | {"top.json": b"{}"}
    modelscope.publish(MAPPED.name, files)

    assert listed(modelscope) == sorted(files)


def test_a_folder_of_more_files_than_are_listed_is_refused(modelscope: ModelScopeServer) -> None:
    """There is no way to the rest, and no lock without it."""
    modelscope.publish(MAPPED.name, {f"{number}.json": b"{}" for number in range(3001)})

    with pytest.raises(HubError, match="does not list all files"):
        listed(modelscope)


@pytest.mark.parametrize("count", [1, 199, 200, 201, 450])
def test_a_dataset_comes_in_pages(modelscope: ModelScopeServer, count: int) -> None:
    """As many as there are, to the last one."""
    files = {f"{number:04}.json": b"{}" for number in range(count)}
    modelscope.publish(MAPPED.name, files, kind="datasets")

    assert listed(modelscope, kind=RepoType.DATASET) == sorted(files)


# as a source


def lock_at(hub: FaultyHubServer) -> Lock:
    """Lock what the hub has."""
    hub.publish("org/a", FILES)
    return lock_of("org/a", endpoints=(endpoint(hub),))


def addresses(server: ModelScopeServer, lock: Lock, *, token: str | None = None) -> dict[str, bool]:
    """Return of which files it says that it has them."""
    with Web(connections=1) as web:
        source = ModelScopeSource(place(server, token=token), {lock.repos[0].request.repo: Place(
            repo=MAPPED, revision="master")}, web)
        return {wanted.file.path: source.address(wanted) is not None for wanted in wanted_blobs(lock)}


def test_offers_what_has_the_locks_size_and_digest(hub: FaultyHubServer, modelscope: ModelScopeServer) -> None:
    """Other weights of the same size, another README, and a file that is not there: not offered."""
    lock = lock_at(hub)
    modelscope.publish(MAPPED.name, {**FILES, "README.md": b"other text"})
    before = addresses(modelscope, lock)
    modelscope.publish(MAPPED.name, {"model.safetensors": noise("other", 2 * MIB), "README.md": b"here"})
    after = addresses(modelscope, lock)

    assert before == {"README.md": False, "config.json": True, "model.safetensors": True}
    assert after == {"README.md": True, "config.json": False, "model.safetensors": False}


def test_offers_nothing_of_a_repository_without_an_id(hub: FaultyHubServer, modelscope: ModelScopeServer) -> None:
    """And is not asked about it."""
    lock = lock_at(hub)
    wanted = Wanted(repo=RepoId(RepoType.MODEL, "org/b"), commit=lock.repos[0].commit, file=lock.repos[0].files[0])
    with Web(connections=1) as web:
        assert ModelScopeSource(place(modelscope), {}, web).address(wanted) is None

    assert not modelscope.requests


def test_a_list_that_does_not_come_is_the_sources_failure(hub: FaultyHubServer, modelscope: ModelScopeServer) -> None:
    """So that the next source is tried, and the reason is told."""
    lock = lock_at(hub)

    with pytest.raises(FetchError, match="record not found"):
        addresses(modelscope, lock)


def test_bytes_come_from_it_where_a_hub_told_the_lock(
    hub: FaultyHubServer, modelscope: ModelScopeServer, tmp_path: Path
) -> None:
    """The hub says what the files are, ModelScope carries those it has, and the hub the rest."""
    hub.publish("org/a", FILES)
    modelscope.publish(MAPPED.name, {**FILES, "README.md": b"other text"})
    gateway = Gateway(tmp_path)
    manifest = write_manifest(tmp_path, as_table(modelscope), f'"{hub.endpoint}"')

    built = gateway.build(manifest, "--json")

    assert built.returncode == 0, built.stderr
    assert json.loads(built.stdout)["bytes_from"] == {
        modelscope.endpoint: 2 * MIB + 2, hub.endpoint: len(FILES["README.md"])
    }


def test_what_it_serves_is_proven_like_all_else(
    hub: FaultyHubServer, modelscope: ModelScopeServer, tmp_path: Path
) -> None:
    """A small file is known by its git blob id: other bytes of the same size are found out after they came."""
    hub.publish("org/a", FILES)
    modelscope.publish(MAPPED.name, {**FILES, "README.md": b"HERE"})
    gateway = Gateway(tmp_path)
    manifest = write_manifest(tmp_path, as_table(modelscope), f'"{hub.endpoint}"')

    built = gateway.build(manifest, "--json")

    assert json.loads(built.stdout)["bytes_from"][hub.endpoint] == len(b"here")


def test_its_token_goes_to_it_alone(modelscope: ModelScopeServer) -> None:
    """As a bearer and as the cookie that it wants, and not to the host of its redirects."""
    modelscope.publish(MAPPED.name, FILES)
    request = Request(repo=RepoId(RepoType.MODEL, "org/a"), modelscope=MAPPED)
    own = place(modelscope, token=TOKEN)
    with Web(connections=1) as web:
        listing = list_modelscope(own, request, web)
        source = ModelScopeSource(own, {request.repo: Place(repo=MAPPED, revision="master")}, web)
        weights = next(file for file in listing.files if file.path == "model.safetensors")
        location = source.address(Wanted(repo=request.repo, commit=listing.commit, file=weights))
        assert location is not None and TOKEN not in repr(location)
        found = web.locate(location)
        assert web.ask(found).body == FILES["model.safetensors"]

    told = [seen.headers for seen in modelscope.requests if seen.host == "hub"]
    assert told and all(each["authorization"] == f"Bearer {TOKEN}" for each in told)
    assert all(each["cookie"] == f"m_session_id={TOKEN}" for each in told)
    assert not any(TOKEN in str(seen.headers) for seen in modelscope.requests if seen.host == "cdn")
