"""`bundle doctor`: whether a build could start, and what stands in its way."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bundler.errors import AccessDeniedError, Aria2MissingError, HubUnreachableError, NotEnoughSpaceError
from bundler.lock import lock_text
from tests.bundle_command import Result, bundle
from tests.faulty_hub import FaultyHubServer, Status
from tests.gateway_side import MIB, Gateway, endpoint, lock_of, small_disk
from tests.modelscope_server import ModelScopeServer


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """A connected machine with nothing on it."""
    return Gateway(tmp_path)


@pytest.fixture
def mirror() -> Iterator[FaultyHubServer]:
    """A second hub."""
    with FaultyHubServer() as server:
        yield server


def examine(gateway: Gateway, *options: object, **variables: str) -> tuple[Result, dict[str, Any]]:
    """Run `bundle doctor --json` on gift.toml, and return what it found."""
    manifest = gateway.place / "gift.toml"
    places = ("--staging", gateway.staging.root, "-o", gateway.place / "out")
    done = bundle("doctor", manifest, *places, "--json", *options, variables={"HF_TOKEN": "t", **variables})
    assert "Traceback" not in done.stderr
    return done, json.loads(done.stdout)


def by_url(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what was found of each endpoint."""
    return {each["url"]: each for each in found["endpoints"]}


def test_says_all_that_a_build_needs(hub: FaultyHubServer, gateway: Gateway) -> None:
    """Program, endpoints, tokens, proxy, space and clock; the exit code says that a build could start."""
    commit = hub.publish("org/a", {"a.json": b"{}"})
    gateway.manifest("org/a", hubs=(hub,))

    done, found = examine(gateway)

    assert done.returncode == 0, done.stderr
    assert found["could_start"] is True and found["reason"] is None
    assert Path(found["aria2c"]["path"]).is_file() and "aria2 version" in found["aria2c"]["says"]
    mine, official = by_url(found)[hub.endpoint], by_url(found)["https://huggingface.co"]
    assert mine["useful"] and mine["serves_bytes"] and commit in mine["says"]
    assert mine["milliseconds"] >= 0 and mine["token_of"] is None and mine["proxy"] is None
    assert not official["useful"] and not official["serves_bytes"]
    assert (official["token_of"], official["proxy"]) == ("$HF_TOKEN", "http://127.0.0.1:9")
    assert all(each["free"] > 0 and each["needed"] is None for each in found["space"])
    assert abs(found["clock_ahead_seconds"]) < 60
    assert not (gateway.place / "out").exists() and not gateway.staging.root.exists()


def test_says_it_to_people(hub: FaultyHubServer, gateway: Gateway) -> None:
    """A line for each thing to look at."""
    hub.publish("org/a", {"a.json": b"{}"})

    done = bundle("doctor", gateway.manifest("org/a", hubs=(hub,)))

    assert done.returncode == 0, done.stderr
    heads = [line.split()[0] for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert heads == ["aria2c", "endpoint", "endpoint", "space", "clock"] or heads.count("space") == 2
    assert f"endpoint   {hub.endpoint} (hub): answers in" in done.stdout
    assert "told no token; no proxy" in done.stdout and "clock      right" in done.stdout


def test_without_a_manifest_the_machine_is_looked_at(hub: FaultyHubServer) -> None:
    """Any answer will do then."""
    done = bundle("doctor", "--json", variables={"HF_ENDPOINT": hub.endpoint})

    assert done.returncode == 0, done.stderr
    assert [each["url"] for each in json.loads(done.stdout)["endpoints"]] == [hub.endpoint]


def test_one_endpoint_that_serves_is_enough(hub: FaultyHubServer, mirror: FaultyHubServer, gateway: Gateway) -> None:
    """A mirror that does not have the repository is said to be of no use, and that is all."""
    hub.publish("org/a", {"a.json": b"{}"})
    gateway.manifest("org/a", hubs=(mirror, hub))

    done, found = examine(gateway)

    assert done.returncode == 0
    assert [by_url(found)[each.endpoint]["useful"] for each in (mirror, hub)] == [False, True]
    assert "has no org/a" in by_url(found)[mirror.endpoint]["says"]


@pytest.mark.parametrize("status", [401, 404, 500])
def test_without_an_endpoint_that_serves_a_build_cannot_start(
    hub: FaultyHubServer, gateway: Gateway, status: int
) -> None:
    """What each of them says is in the report."""
    hub.publish("org/a", {"a.json": b"{}"})
    hub.fail(Status(code=status))
    gateway.manifest("org/a", hubs=(hub,))

    done, found = examine(gateway)

    assert done.returncode == HubUnreachableError.exit_code
    assert found["could_start"] is False and found["reason"]
    assert not by_url(found)[hub.endpoint]["useful"]


def test_an_aria2c_that_is_of_no_use_is_named(hub: FaultyHubServer, gateway: Gateway) -> None:
    """With the reason, and its own exit code."""
    hub.publish("org/a", {"a.json": b"{}"})
    gateway.manifest("org/a", hubs=(hub,))

    done, found = examine(gateway, "--aria2c", "/bin/false")

    assert done.returncode == Aria2MissingError.exit_code
    assert found["aria2c"]["path"] is None and "/bin/false" in found["aria2c"]["says"]


def test_too_little_space_is_found_by_the_lock(hub: FaultyHubServer, gateway: Gateway) -> None:
    """The lock knows how much will be written."""
    hub.publish("org/a", {"a.bin": bytes(5 * MIB)})
    manifest = gateway.manifest("org/a", hubs=(hub,))
    manifest.with_suffix(".lock.json").write_bytes(lock_text(lock_of("org/a", endpoints=(endpoint(hub),))))
    with small_disk(gateway.place / "disk", 3 * MIB) as disk:
        done, found = examine(gateway, "--staging", disk)

    assert done.returncode == NotEnoughSpaceError.exit_code
    staging = next(each for each in found["space"] if each["place"] == str(disk))
    assert staging["needed"] == 5 * MIB > staging["free"]


class _Ahead(BaseHTTPRequestHandler):
    """A server whose clock is two hours ahead of this machine's."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def test_a_clock_that_is_off_is_told() -> None:
    """By as much as the endpoint's own clock differs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Ahead) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        variables = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
        found = json.loads(bundle("doctor", "--json", variables=variables).stdout)
        told = bundle("doctor", variables=variables)
        server.shutdown()

    assert -7300 < found["clock_ahead_seconds"] < -7100
    assert "clock      120 minutes behind" in told.stdout


def test_a_proxy_that_cannot_be_used_is_told(hub: FaultyHubServer, gateway: Gateway) -> None:
    """SOCKS is named, and no password."""
    hub.publish("org/a", {"a.json": b"{}"})
    gateway.manifest("org/a", hubs=(hub,))

    done, found = examine(gateway, http_proxy="socks5://user:hunter2@127.0.0.1:1", no_proxy="", NO_PROXY="")

    assert done.returncode == HubUnreachableError.exit_code
    assert "`socks5://127.0.0.1:1` cannot be used" in by_url(found)[hub.endpoint]["says"]
    assert "hunter2" not in done.stdout + done.stderr


def test_modelscope_is_looked_at_in_its_own_way(gateway: Gateway) -> None:
    """By the id that the manifest gives."""
    with ModelScopeServer() as modelscope:
        commit = modelscope.publish("LLM-Research/a", {"a.json": b"{}"})
        (gateway.place / "gift.toml").write_text(
            f'name = "gift"\nendpoints = [{{ url = "{modelscope.endpoint}", kind = "modelscope" }}]\n'
            '[[repo]]\nid = "org/a"\nmodelscope = "LLM-Research/a"\n')

        done, found = examine(gateway)

    assert done.returncode == 0, done.stderr
    assert commit in by_url(found)[modelscope.endpoint]["says"]
    assert by_url(found)[modelscope.endpoint]["kind"] == "modelscope"


def test_small_files_need_no_aria2c(hub: FaultyHubServer, gateway: Gateway) -> None:
    """Neither does their build; before there is a lock, nobody knows how large they are."""
    hub.publish("org/a", {"a.json": b"{}"})
    manifest = gateway.manifest("org/a", hubs=(hub,))
    before, _ = examine(gateway, "--aria2c", "/bin/false")
    bundle("lock", manifest)

    after, found = examine(gateway, "--aria2c", "/bin/false")

    assert (before.returncode, after.returncode) == (Aria2MissingError.exit_code, 0)
    assert found["could_start"] is True and found["aria2c"]["path"] is None


@pytest.mark.parametrize("locked", [False, True], ids=["without a lock", "with a lock"])
def test_asks_for_every_repository_and_its_gate(hub: FaultyHubServer, gateway: Gateway, locked: bool) -> None:
    """The second repository of a manifest can stand in the way as well: its exit code is the one of a build."""
    for name in ("org/open", "org/gated"):
        hub.publish(name, {"a.json": name.encode()})
    hub.gate("org/gated", "hf_right")
    manifest = gateway.manifest("org/open", "org/gated", hubs=(hub,))
    if locked:
        lock = lock_of("org/open", "org/gated", endpoints=(endpoint(hub),))
        manifest.with_suffix(".lock.json").write_bytes(lock_text(lock))

    done, found = examine(gateway)

    assert done.returncode == AccessDeniedError.exit_code == 23
    assert found["could_start"] is False and "org/gated is gated or private" in found["reason"]
    assert "org/gated is gated or private" in bundle("doctor", manifest).stdout
