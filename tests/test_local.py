"""What the gateway holds already: a Hugging Face cache, or a folder, is proven and used, and only read."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.gateway.local import CacheStore, FolderStore, Store
from bundler.lock import Lock
from bundler.progress import Event, Noted
from tests.bundle_command import bundle, succeed
from tests.cache_layout import layout_of
from tests.faulty_hub import FaultyHubServer, Status
from tests.gateway_side import MIB, Gateway, assert_right, endpoint, fetch_all, left_in, lock_of, noise

FILES = {"config.json": b'{"a": 1}', "small.bin": noise("small", 5000), "sub/large.bin": noise("large", 2 * MIB)}
TOTAL = sum(map(len, FILES.values()))


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """A connected machine with nothing on it."""
    return Gateway(tmp_path)


@pytest.fixture
def lock(hub: FaultyHubServer) -> Lock:
    """`FILES`, published and locked; what is asked of the hub from now on is refused."""
    hub.publish("org/a", FILES)
    locked = lock_of("org/a", endpoints=(endpoint(hub),))
    hub.fail(Status(code=500))
    return locked


def cache_with(lock: Lock, folder: Path) -> Path:
    """Write a cache as huggingface_hub does, and return its `hub`."""
    repo = folder / "hub" / "models--org--a"
    snapshot = repo / "snapshots" / lock.repos[0].commit
    for file in lock.repos[0].files:
        blob, link = repo / "blobs" / file.etag, snapshot / file.path
        for path in (blob, link):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(FILES[file.path])
        link.symlink_to(os.path.relpath(blob, link.parent))
    return folder / "hub"


def with_shared_store(hub_folder: Path) -> Path:
    """Turn blobs into links to a store that repositories share, as newer clients keep it: read-only."""
    shared = hub_folder / "blobs"
    shared.mkdir()
    for blob in (hub_folder / "models--org--a" / "blobs").iterdir():
        shutil.move(blob, shared / blob.name)
        (shared / blob.name).chmod(0o444)
        blob.symlink_to(Path("..", "..", "blobs", blob.name))
    return hub_folder


def without_links(hub_folder: Path) -> Path:
    """Leave real files in the snapshot and no blobs, as on a medium without links."""
    repo = hub_folder / "models--org--a"
    shutil.copytree(repo / "snapshots", repo / "copied")
    shutil.rmtree(repo / "snapshots")
    (repo / "copied").rename(repo / "snapshots")
    shutil.rmtree(repo / "blobs")
    return hub_folder


def at_another_commit(hub_folder: Path) -> Path:
    """Have the files at a commit that was not locked."""
    snapshots = without_links(hub_folder) / "models--org--a" / "snapshots"
    next(snapshots.iterdir()).rename(snapshots / ("a" * 40))
    return hub_folder


def home_of(hub_folder: Path) -> Path:
    """Name the folder above, HF_HOME."""
    return hub_folder.parent


def as_it_is(hub_folder: Path) -> Path:
    """Change nothing."""
    return hub_folder


@pytest.mark.parametrize("shape", [as_it_is, home_of, with_shared_store, without_links, at_another_commit])
def test_takes_all_from_a_cache(
    hub: FaultyHubServer, gateway: Gateway, lock: Lock, tmp_path: Path, shape: Callable[[Path], Path]
) -> None:
    """Whatever way a cache is laid out, what it holds is not fetched, and the cache stays as it is."""
    folder = shape(cache_with(lock, tmp_path / "home"))
    before, asked = layout_of(folder), len(hub.requests)

    fetched = fetch_all(lock, gateway.staging, endpoint(hub), stores=(CacheStore(folder),))

    assert fetched.contents == list(FILES.values())
    assert fetched.record.by_source == {str(folder): TOTAL}
    assert len(hub.requests) == asked
    assert layout_of(folder) == before
    assert left_in(gateway.staging) == sorted(file.etag for file in lock.repos[0].files)


@pytest.mark.parametrize("below", [".", "org/a"])
def test_takes_all_from_a_folder(
    hub: FaultyHubServer, gateway: Gateway, lock: Lock, tmp_path: Path, below: str
) -> None:
    """Files at a repository's own paths, or below its id."""
    for path, content in FILES.items():
        (tmp_path / "files" / below / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "files" / below / path).write_bytes(content)
    asked = len(hub.requests)

    fetched = fetch_all(lock, gateway.staging, endpoint(hub), stores=(FolderStore(tmp_path / "files"),))

    assert fetched.contents == list(FILES.values())
    assert len(hub.requests) == asked


@pytest.mark.parametrize("kind", ["cache", "folder"])
def test_fetches_what_is_wrong_on_this_machine(
    hub: FaultyHubServer, gateway: Gateway, lock: Lock, tmp_path: Path, kind: str
) -> None:
    """A rotten file of the right name and size is found out, and the true one fetched; nothing is mended there."""
    cache = cache_with(lock, tmp_path / "home")
    store: Store = CacheStore(cache)
    if kind == "folder":
        store = FolderStore(cache / "models--org--a" / "snapshots" / lock.repos[0].commit)
    (rotten,) = (file for file in lock.repos[0].files if file.path == "small.bin")
    blob = cache / "models--org--a" / "blobs" / rotten.etag
    blob.write_bytes(FILES["small.bin"][:-1] + b"?")
    before, notes = layout_of(cache), []
    hub.heal()

    def listen(event: Event) -> None:
        if isinstance(event, Noted):
            notes.append(event.text)

    fetched = fetch_all(lock, gateway.staging, endpoint(hub), stores=(store,), on_event=listen)

    assert fetched.contents == list(FILES.values())
    assert fetched.record.by_source == {store.name: TOTAL - 5000, hub.endpoint: 5000}
    assert layout_of(cache) == before
    assert left_in(gateway.staging) == sorted(file.etag for file in lock.repos[0].files)
    place = blob if kind == "cache" else cache / "models--org--a" / "snapshots" / lock.repos[0].commit / "small.bin"
    assert notes == [f"{place} has the size of `small.bin` of org/a, and other bytes: it is not used"]


def test_what_changes_later_does_not_change_what_was_taken(
    hub: FaultyHubServer, gateway: Gateway, lock: Lock, tmp_path: Path
) -> None:
    """The bytes that were proven are the bundler's own: the cache's owner may write to his files."""
    cache = cache_with(lock, tmp_path / "home")
    fetch_all(lock, gateway.staging, endpoint(hub), stores=(CacheStore(cache),))

    for blob in (cache / "models--org--a" / "blobs").iterdir():
        with blob.open("r+b") as stream:
            stream.write(b"changed")
    again = fetch_all(lock, gateway.staging, endpoint(hub))

    assert again.contents == list(FILES.values())


def test_passes_over_what_is_no_file_or_cannot_be_read(
    hub: FaultyHubServer, gateway: Gateway, lock: Lock, tmp_path: Path
) -> None:
    """Dangling and circular links, folders, pipes and sockets are not waited for."""
    cache = cache_with(lock, tmp_path / "home")
    blobs = cache / "models--org--a" / "blobs"
    strange = sorted(blobs.iterdir())
    for blob in strange:
        blob.unlink()
    strange[0].symlink_to("nowhere")
    os.mkfifo(strange[1])
    strange[2].symlink_to(strange[2].name)
    hub.heal()

    fetched = fetch_all(lock, gateway.staging, endpoint(hub), stores=(CacheStore(cache), FolderStore(tmp_path / "no")))

    assert fetched.contents == list(FILES.values())
    assert fetched.record.by_source == {hub.endpoint: TOTAL}


def test_builds_without_asking_anybody(hub: FaultyHubServer, gateway: Gateway, tmp_path: Path) -> None:
    """With a lock, and all files in the cache that huggingface_hub would use, no endpoint need be there."""
    hub.publish("org/a", FILES)
    manifest = gateway.manifest("org/a", hubs=(hub,))
    succeed("lock", manifest)
    cache_with(lock_of("org/a", endpoints=(endpoint(hub),)), tmp_path / "home")
    asked = len(hub.requests)

    built = bundle(*gateway.build_command(manifest, "--from-cache"), variables={"HF_HOME": str(tmp_path / "home")})

    assert_right(gateway, built)
    assert len(hub.requests) == asked
    assert f"from {tmp_path / 'home' / 'hub'}" in built.stdout


def test_takes_from_several_places_before_the_line(
    hub: FaultyHubServer, gateway: Gateway, tmp_path: Path
) -> None:
    """Two folders and a cache together, and the rest from the hub."""
    hub.publish("org/a", FILES)
    manifest = gateway.manifest("org/a", hubs=(hub,))
    succeed("lock", manifest)
    for number, path in enumerate(("config.json", "small.bin")):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / path).write_bytes(FILES[path])
    asked = len(hub.requests)

    built = gateway.build(
        manifest, "--from-dir", str(tmp_path / "0"), "--from-dir", str(tmp_path / "1"),
        "--from-cache", str(tmp_path / "no cache"))

    assert_right(gateway, built)
    assert {seen.path.rpartition("/")[2] for seen in hub.requests[asked:]} == {"large.bin"}


def test_a_socket_is_no_file(hub: FaultyHubServer, gateway: Gateway, lock: Lock, tmp_path: Path) -> None:
    """Whatever a folder holds under the name of a file."""
    hub.heal()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "small.bin"))

        fetched = fetch_all(lock, gateway.staging, endpoint(hub), stores=(FolderStore(tmp_path),))

    assert fetched.record.by_source == {hub.endpoint: TOTAL}
