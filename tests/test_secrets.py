"""Where a token goes, and where it must not: everything that could hold it is read.

A gated and an open repository are locked and built from a mirror and the official hub, which is reached through a proxy
that ends its TLS. The user's token is in the environment, a second one for a corporate mirror in a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bundler.demo.server import Exchange
from bundler.manifest import OFFICIAL_ENDPOINT
from tests.bundle_command import Result, bundle
from tests.faulty_hub import Corrupt, FaultyHubServer, Status
from tests.gateway_side import MIB, First, noise
from tests.proxy_server import Authority, ProxyServer

USERS, CORPORATE, PROXYS = "hf_users_secret", "corporate_secret", "proxys_secret"
SECRETS = (USERS, CORPORATE, PROXYS)


@dataclass(slots=True, kw_only=True)
class Site:
    """A gateway, its hubs, and what was seen while a command ran."""

    place: Path
    official: FaultyHubServer
    mirror: FaultyHubServer
    corporate: FaultyHubServer
    proxy: ProxyServer
    authority: Authority
    processes: list[tuple[str, str]] = field(default_factory=list)
    """Command line and environment of each, seen from outside."""

    def run(self, verb: str, *options: object) -> Result:
        """Run a verb on the manifest."""
        return bundle(verb, self.place / "gift.toml", *options, variables={
            "HF_TOKEN": USERS, "https_proxy": self.proxy.url.replace("://", f"://user:{PROXYS}@"),
            "REQUESTS_CA_BUNDLE": str(self.authority.ca), "HOME": str(self.place / "home"),
            "TMPDIR": str(self.place / "tmp"),
        })

    def build(self) -> Result:
        """Fetch from all of them."""
        return self.run(
            "build", "-o", self.place / "out", "--staging", self.place / "staging", "--aria2-from", "1MiB",
            "--connections", "2", "--workers", "2")

    def look_around(self) -> None:
        """Note what any user of the machine can see of processes, and what the user's own children were given."""
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().decode(errors="replace")
                environment = (process / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            self.processes.append((command, environment))

    def asked(self) -> list[tuple[str, Exchange]]:
        """Return every request, with the host that got it."""
        servers = {"official": self.official, "mirror": self.mirror, "corporate": self.corporate}
        return [(f"{name} {seen.host}", seen) for name, server in servers.items() for seen in server.requests]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """All of it, with one open, one gated and one corporate repository."""
    for name in ("tmp", "home"):
        (tmp_path / name).mkdir()
    authority = Authority(tmp_path / "authority")
    with FaultyHubServer() as official, FaultyHubServer() as mirror, FaultyHubServer(cdn=False) as corporate:
        both = (official, mirror)
        for name, hubs in (("org/open", both), ("org/gated", both), ("org/own", (corporate,))):
            for each in hubs:
                each.publish(name, {"small.bin": noise(name, 3000), "large.bin": noise(name, 2 * MIB), "a.json": b"{}"})
        official.gate("org/gated", USERS)
        mirror.gate("org/gated", "another")
        corporate.gate("org/own", CORPORATE, private=True)
        (tmp_path / "corporate.token").write_text(CORPORATE)
        (tmp_path / "gift.toml").write_text(f"""
            name = "gift"
            endpoints = [
                "{mirror.endpoint}", "{OFFICIAL_ENDPOINT}",
                {{ url = "{corporate.endpoint}", token = "file:corporate.token" }},
            ]
            [[repo]]
            id = "org/open"
            [[repo]]
            id = "org/gated"
            [[repo]]
            id = "org/own"
        """)
        with ProxyServer(authority, stands_for={"huggingface.co": official.endpoint}) as proxy:
            yield Site(
                place=tmp_path, official=official, mirror=mirror, corporate=corporate, proxy=proxy, authority=authority
            )


def assert_told_only_to(secret: str, host: str, site: Site) -> None:
    """Check that one host was told a secret, and no other."""
    told = {name for name, seen in site.asked() if secret in str(seen)}
    assert told == {host}


def assert_kept_nowhere(site: Site, *results: Result) -> None:
    """Read all files, all output, all that the proxy itself and other users of the machine could see."""
    for secret in SECRETS:
        assert not any(secret in done.stdout + done.stderr for done in results)
        assert not any(secret in command for command, _ in site.processes)
        holders = [
            path for path in site.place.rglob("*")
            if path.is_file() and path.name != "corporate.token" and secret.encode() in path.read_bytes()
        ]
        assert holders == []
    assert not any(secret in head for head in site.proxy.heads for secret in (USERS, CORPORATE))


def test_a_build_tells_each_token_to_its_own_host_alone(site: Site) -> None:
    """Requests, proxy, process list, aria2c's environment, files, output: nothing holds what it must not."""
    for each in (site.official, site.corporate, site.mirror):
        each.fail(First(act=site.look_around), path="large.bin", times=1)

    locked, built = site.run("lock"), site.build()

    assert (locked.returncode, built.returncode) == (0, 0), locked.stderr + built.stderr
    assert_told_only_to(USERS, "official hub", site)
    assert_told_only_to(CORPORATE, "corporate hub", site)
    assert_kept_nowhere(site, locked, built)
    assert site.mirror.asked("/org/open/*") and not site.mirror.asked("/org/gated/*")
    downloaders = [environment for command, environment in site.processes if "--enable-rpc" in command]
    assert downloaders and not any(secret in environment for environment in downloaders for secret in SECRETS)
    by_aria2 = [seen for _, seen in site.asked() if seen.headers.get("user-agent", "").startswith("aria2")]
    assert by_aria2 and not any(secret in str(seen) for seen in by_aria2 for secret in SECRETS)
    assert site.proxy.heads and all(head.startswith("CONNECT huggingface.co:443 ") for head in site.proxy.heads)


def test_errors_tell_no_token(site: Site) -> None:
    """Where everything goes wrong, what is printed and what is left behind is as clean."""
    locked = site.run("lock")
    for each in (site.official, site.corporate, site.mirror):
        each.fail(Status(code=403), path="small.bin")
        each.fail(Corrupt(at=7), path="large.bin")

    built = site.build()

    assert locked.returncode == 0 and built.returncode != 0
    assert_told_only_to(USERS, "official hub", site)
    assert_kept_nowhere(site, locked, built)


def test_a_denial_tells_no_token(site: Site) -> None:
    """The error says where the token was found, and no more."""
    site.official.gate("org/gated", "only for others")

    refused = site.run("lock")

    assert refused.returncode == 23
    assert "the token of $HF_TOKEN" in refused.stderr
    assert_kept_nowhere(site, refused)


def test_the_doctor_says_where_a_token_is_and_not_what(site: Site) -> None:
    """For people and for programs."""
    told, as_json = site.run("doctor"), site.run("doctor", "--json")

    assert "told the token of $HF_TOKEN" in told.stdout
    assert str(site.place / "corporate.token") in as_json.stdout
    assert_kept_nowhere(site, told, as_json)
