"""The same lock gives the same bytes, whatever happened on the way; a bundle that stands is not touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bundle_command import Result, bundle, succeed
from tests.bundles import flip_bit, noise
from tests.faulty_hub import FaultyHubServer, Late
from tests.manifests import write_manifest

FILES = {
    "config.json": b'{"a": 1}',
    "model.safetensors": noise("one", 1 << 20),
    "notes/a.txt": b"a line\n" * 40_000,
    "notes/b.txt": b"b line\n" * 200_000,
    "tokenizer.json": noise("two", 300_000),
}
LARGE = {"large-1.bin": noise("three", 12 << 20), "large-2.bin": noise("four", 9 << 20)}
EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}
OF_THE_BUILD = ("build-info.json", "SHA256SUMS")
"""What tells when and where a bundle was built; all else follows from the lock."""


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """A hub with two repositories, and a manifest that asks for both."""

    hub: FaultyHubServer
    place: Path
    manifest: Path

    def build(self, name: str, *options: str, **how: object) -> Path:
        """Build into `name`, from staging of that name, and return the bundle's folder."""
        output, staging = self.place / name, self.place / f"staging-{name}"
        succeed(*self.command(output, staging), *options, **how)
        return output / self.manifest.stem

    def build_over(self, folder: Path, *options: str) -> Result:
        """Build again where `folder` stands, with nothing in staging."""
        shutil.rmtree(self.place / "staging-again", ignore_errors=True)
        return bundle(*self.command(folder.parent, self.place / "staging-again"), *options, "--json")

    def command(self, output: Path, staging: Path) -> list[object]:
        """Return the command that builds, with the smallest of volumes."""
        return ["build", self.manifest, "-o", output, "--staging", staging, "--volume-size", "18MiB"]


@pytest.fixture
def gateway(hub: FaultyHubServer, tmp_path: Path) -> Gateway:
    """A gateway whose lock is made."""
    hub.publish("org/model", FILES)
    hub.publish("org/data", {"copy.txt": FILES["notes/a.txt"], "train.jsonl": b"{}\n" * 9}, repo_type="dataset")
    repos = ({"id": "org/data", "type": "dataset"}, {"id": "org/model"})
    manifest = write_manifest(tmp_path / "twice.toml", *repos, endpoints=[hub.endpoint])
    succeed("lock", manifest)
    return Gateway(hub=hub, place=tmp_path, manifest=manifest)


def contents(folder: Path, *, without: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Return every file of a bundle."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in without}


def change(gateway: Gateway, files: Mapping[str, bytes]) -> None:
    """Let the hub have other or more files, and the lock know of them."""
    gateway.hub.publish("org/model", {**FILES, **files})
    succeed("lock", gateway.manifest)


def fetched_bytes(gateway: Gateway) -> int:
    """Return how many bytes the hub has given out so far."""
    return sum(exchange.sent for exchange in gateway.hub.requests)


def test_two_builds_give_the_same_bytes(gateway: Gateway) -> None:
    """Volumes, index, README and restore.py do not depend on time, staging, workers, or the order of arrival."""
    change(gateway, LARGE)

    one = gateway.build("one", "--workers", "1", "--jobs", "1", "--connections", "1")

    for first_in_the_lock in ("config.json", "large-1.bin", "copy.txt"):
        gateway.hub.fail(Late(seconds=0.5), path=first_in_the_lock)
    two = gateway.build("two", "--workers", "8", "--aria2-from", "200KiB")

    assert contents(one, without=OF_THE_BUILD) == contents(two, without=OF_THE_BUILD)
    assert sorted(path.name for path in one.iterdir()) == [
        "README.txt", "SHA256SUMS", "build-info.json", "index.json", "restore.py", "twice-001.tar", "twice-002.tar"]


def test_with_a_set_date_all_files_are_the_same(gateway: Gateway) -> None:
    """SOURCE_DATE_EPOCH makes build-info.json, and so SHA256SUMS, the same as well."""
    one = gateway.build("one", variables=EPOCH)
    two = gateway.build("two", variables=EPOCH)

    assert contents(one) == contents(two)
    assert json.loads((one / "build-info.json").read_text())["built_at"] == "2023-11-14T22:13:20+00:00"


def test_staged_files_give_the_same_bytes_as_fetched_ones(gateway: Gateway) -> None:
    """A second build from what the first one staged fetches nothing, and writes the same."""
    one = gateway.build("one")
    fetched = fetched_bytes(gateway)

    shutil.move(gateway.place / "staging-one", gateway.place / "staging-two")
    two = gateway.build("two")

    assert fetched_bytes(gateway) == fetched
    assert contents(one, without=OF_THE_BUILD) == contents(two, without=OF_THE_BUILD)


def test_a_bundle_that_stands_is_not_built_again(gateway: Gateway) -> None:
    """Building over the same complete bundle says so; the hub is asked for nothing, and no file changes."""
    folder = gateway.build("one")
    before, asked = contents(folder), len(gateway.hub.requests)

    again = gateway.build_over(folder)
    said = succeed(*gateway.command(folder.parent, gateway.place / "staging-again"))

    assert (again.returncode, json.loads(again.stdout)["fresh"]) == (0, False)
    assert "is this bundle already, nothing to do" in said.stdout
    assert len(gateway.hub.requests) == asked
    assert contents(folder) == before


def test_another_bundle_is_not_overwritten(gateway: Gateway) -> None:
    """Exit code 52 for another complete bundle in the same place, which stays as it was; the way out is named."""
    folder = gateway.build("one")
    before = contents(folder)
    change(gateway, {"config.json": b'{"a": 2}'})

    refused = gateway.build_over(folder)

    assert refused.returncode == 52
    assert f"{folder} holds another bundle" in refused.stderr and "--replace" in refused.stderr
    assert contents(folder) == before


def test_another_bundle_is_replaced_on_request(gateway: Gateway) -> None:
    """With --replace the new bundle stands there, the same as if nothing had been there before."""
    folder = gateway.build("one")
    change(gateway, {"config.json": b'{"a": 2}'})

    replaced = gateway.build_over(folder, "--replace")

    assert (replaced.returncode, json.loads(replaced.stdout)["fresh"]) == (0, True)
    assert contents(folder, without=OF_THE_BUILD) == contents(gateway.build("two"), without=OF_THE_BUILD)
    succeed("verify", "--allow-unsigned", folder)


@pytest.mark.parametrize("harm", ["volume gone", "volume cut", "interrupted"])
def test_an_incomplete_bundle_is_made_whole(gateway: Gateway, harm: str) -> None:
    """What an interrupted copy or build left is no bundle to protect: the same one is built over it."""
    folder = gateway.build("one", variables=EPOCH)
    before = contents(folder)
    match harm:
        case "volume gone":
            (folder / "twice-001.tar").unlink()
        case "volume cut":
            (folder / "twice-001.tar").write_bytes(before["twice-001.tar"][:-512])
        case "interrupted":
            (folder / "SHA256SUMS").unlink()
            flip_bit(folder / "twice-001.tar", at=2000)

    again = gateway.build_over(folder)

    assert (again.returncode, json.loads(again.stdout)["fresh"]) == (0, True)
    assert contents(folder, without=OF_THE_BUILD) == {
        name: content for name, content in before.items() if name not in OF_THE_BUILD}
