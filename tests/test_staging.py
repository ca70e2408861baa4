"""Staging: blobs under their digests, proven again before use, and private."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.digest import Digest, GitOid
from bundler.errors import FileSystemError
from bundler.gateway.build import lock_manifest
from bundler.gateway.staging import Staging, default_staging
from bundler.lock import LockedFile
from bundler.names import RelPath
from tests.bundle_command import bundle
from tests.faulty_hub import FaultyHubServer
from tests.gateway_side import MIB, Gateway, endpoint, fetch_all, left_in, lock_of, noise

CONTENT = noise("content", 100_000)
GIT_OID = GitOid("1" * 40)


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """A connected machine with nothing on it."""
    return Gateway(tmp_path)


@pytest.fixture(params=["model.bin", "vocab.txt"], ids=["by SHA-256", "by git id"])
def file(request: pytest.FixtureRequest, hub: FaultyHubServer) -> LockedFile:
    """`CONTENT` as a lock names it."""
    hub.publish("org/a", {request.param: CONTENT})
    return lock_of("org/a", endpoints=(endpoint(hub),)).repos[0].files[0]


@pytest.fixture
def staging(gateway: Gateway) -> Staging:
    """An empty one, that has been in use."""
    with gateway.staging.exclusively(lambda text: None):
        return gateway.staging


def mode(path: Path) -> int:
    """Return the permissions of a file or folder."""
    return stat.S_IMODE(path.stat().st_mode)


def test_adopts_a_blob_that_is_right(staging: Staging, file: LockedFile) -> None:
    """A blob from an earlier run is hashed and stays; its SHA-256 is told."""
    staging.blob(file.etag).write_bytes(CONTENT)

    digest = staging.adopt(file)

    assert digest is not None and len(digest) == 64
    assert staging.blob(file.etag).read_bytes() == CONTENT


@pytest.mark.parametrize("found", [
    b"", CONTENT[:-1], CONTENT + b"x", CONTENT[:500] + b"\0" + CONTENT[501:], bytes(len(CONTENT)),
], ids=["empty", "short", "long", "one byte", "zeros"])
def test_removes_a_blob_that_is_wrong(staging: Staging, file: LockedFile, found: bytes) -> None:
    """What a disk, a crash or somebody has changed is neither used nor kept."""
    staging.blob(file.etag).write_bytes(found)

    assert staging.adopt(file) is None

    assert left_in(staging) == []


def test_believes_a_name_that_tells_the_bytes_if_others_prove_them(staging: Staging) -> None:
    """Who packs a blob proves it; to read it before as well would be for nothing. A git id tells no SHA-256."""
    large = LockedFile(path=RelPath("a.bin"), size=5, etag=Digest.of(b"right"), sha256=Digest.of(b"right"))
    for etag in (large.etag, GIT_OID):
        staging.blob(etag).write_bytes(b"wrong")

    assert staging.adopt(large, sure=False) == Digest.of(b"right")
    assert staging.adopt(replace(large, size=6), sure=False) is None
    assert staging.adopt(replace(large, etag=GIT_OID, sha256=None), sure=False) is None


def test_does_not_adopt_what_is_not_there(staging: Staging, file: LockedFile) -> None:
    """No blob is no error."""
    assert staging.adopt(file) is None


def test_fetches_again_what_was_damaged_in_staging(hub: FaultyHubServer, gateway: Gateway) -> None:
    """A damaged blob costs a fetch of this file alone, and never reaches a bundle."""
    hub.publish("org/a", {"a.bin": CONTENT, "b.bin": CONTENT[::-1]})
    lock = lock_of("org/a", endpoints=(endpoint(hub),))
    fetch_all(lock, gateway.staging, endpoint(hub))
    gateway.staging.blob(lock.repos[0].files[0].etag).write_bytes(CONTENT[:-1] + b"?")
    asked = len(hub.requests)

    again = fetch_all(lock, gateway.staging, endpoint(hub))

    assert again.contents == [CONTENT, CONTENT[::-1]]
    assert {seen.path.rpartition("/")[2] for seen in hub.requests[asked:]} == {"a.bin"}


def test_a_lock_may_pin_small_files_by_sha256(hub: FaultyHubServer, staging: Staging) -> None:
    """Bytes that only git's SHA-1 would let pass are refused where a lock names a SHA-256 as well."""
    hub.publish("org/a", {"config.json": CONTENT})
    (file,) = lock_of("org/a", endpoints=(endpoint(hub),)).repos[0].files
    staging.blob(file.etag).write_bytes(CONTENT)

    assert staging.adopt(replace(file, sha256=Digest.of(CONTENT))) == Digest.of(CONTENT)
    assert staging.adopt(replace(file, sha256=Digest.of(b"other"))) is None


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_nobody_else_may_look_into_staging(hub: FaultyHubServer, gateway: Gateway, umask: int) -> None:
    """Gated weights wait here: whatever the umask, the folder is its owner's alone."""
    hub.publish("org/a", {"a.bin": CONTENT})
    manifest = gateway.manifest("org/a", hubs=(hub,))

    built = bundle(*gateway.build_command(manifest), umask=umask)

    assert built.returncode == 0, built.stderr
    assert mode(gateway.staging.root) == 0o700


def test_lacks_what_is_neither_staged_nor_under_way(staging: Staging, hub: FaultyHubServer) -> None:
    """What is there, or half there, need not be written again; holes in a partial file do."""
    contents = {f"{number}.bin": noise(number, MIB) for number in range(3)}
    hub.publish("org/a", contents)
    files = lock_of("org/a", endpoints=(endpoint(hub),)).repos[0].files
    staging.blob(files[0].etag).write_bytes(contents["0.bin"])
    with (staging.partial / f"{files[1].etag}.part").open("wb") as part:
        part.seek(MIB // 2)
        part.write(contents["1.bin"][MIB // 2:])

    assert staging.lacks(files) == MIB // 2 + MIB


def test_clean_frees_everything(hub: FaultyHubServer, gateway: Gateway) -> None:
    """Blobs and halves of downloads go; what was freed is said."""
    lock = _two_repos(hub, gateway)
    (gateway.staging.partial / f"{lock}.part").write_bytes(CONTENT)
    (gateway.staging.partial / f"{lock}.part.aria2").write_bytes(b"control")

    cleaned = bundle("clean", "--staging", gateway.staging.root)

    assert cleaned.returncode == 0, cleaned.stderr
    assert left_in(gateway.staging) == []
    assert "freed" in cleaned.stdout and " kB in " in cleaned.stdout


def test_clean_keeps_what_a_manifests_lock_needs(hub: FaultyHubServer, gateway: Gateway) -> None:
    """`--keep` spares the blobs of that lock, and what of them is under way."""
    _two_repos(hub, gateway)
    manifest = gateway.manifest("org/a", hubs=(hub,))
    _, lock = lock_manifest(manifest, (endpoint(hub),))
    kept = lock.repos[0].files[0].etag
    (gateway.staging.partial / f"{kept}.part").write_bytes(CONTENT)
    (gateway.staging.partial / f"{kept}.part.aria2").write_bytes(b"control")

    cleaned = bundle("clean", "--staging", gateway.staging.root, "--keep", manifest)

    assert cleaned.returncode == 0, cleaned.stderr
    assert left_in(gateway.staging) == sorted([kept, f"{kept}.part", f"{kept}.part.aria2"])


def test_clean_removes_nothing_if_a_lock_to_keep_is_missing(hub: FaultyHubServer, gateway: Gateway) -> None:
    """Without its lock it is not known what a manifest needs: an error, before anything is removed."""
    _two_repos(hub, gateway)
    before = left_in(gateway.staging)

    refused = bundle(
        "clean", "--staging", gateway.staging.root, "--keep", gateway.manifest("org/a", hubs=(hub,)))

    assert refused.returncode == FileSystemError.exit_code
    assert "gift.lock.json" in refused.stderr and "Traceback" not in refused.stderr
    assert left_in(gateway.staging) == before


def test_the_default_is_the_users_cache_folder() -> None:
    """`$XDG_CACHE_HOME/bundler`, else `~/.cache/bundler`."""
    assert default_staging({}, Path("/home/u")) == Path("/home/u/.cache/bundler")
    assert default_staging({"XDG_CACHE_HOME": ""}, Path("/home/u")) == Path("/home/u/.cache/bundler")
    assert default_staging({"XDG_CACHE_HOME": "/caches"}, Path("/home/u")) == Path("/caches/bundler")


def _two_repos(hub: FaultyHubServer, gateway: Gateway) -> str:
    """Stage a blob of org/a and one of org/b; return the etag of the latter."""
    hub.publish("org/a", {"a.bin": CONTENT})
    hub.publish("org/b", {"b.bin": CONTENT[::-1]})
    lock = lock_of("org/a", "org/b", endpoints=(endpoint(hub),))
    fetch_all(lock, gateway.staging, endpoint(hub))
    return lock.repos[1].files[0].etag
