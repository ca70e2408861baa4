"""Endpoints as manifest, options and environment make them: what each is told, and how it is reached."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_url

from bundler.digest import Commit
from bundler.errors import AccessDeniedError, ManifestError, ProxyError
from bundler.gateway.endpoint import Endpoint, Endpoints, Surroundings, choose_endpoints
from bundler.gateway.hub import file_url
from bundler.gateway.proxies import Proxies, system_proxies, without_user
from bundler.gateway.tokens import user_token
from bundler.manifest import EndpointUrl, parse_manifest
from bundler.names import RelPath, RepoId, RepoType
from tests.bundle_command import bundle
from tests.faulty_hub import FaultyHubServer, Status
from tests.gateway_side import endpoint, lock_of
from tests.manifests import write_manifest
from tests.proxy_server import ProxyServer

OFFICIAL = "https://huggingface.co"
MIRROR = "https://mirror.example"
SECRET = "hf_secret"


def chosen(
    endpoints: str, home: Path, *, environment: Mapping[str, str] | None = None, proxies: Proxies = Proxies(),
    instead: tuple[str, ...] = (), identity: str | None = None,
) -> Endpoints:
    """Return what becomes of the list `endpoints` of a manifest in `home`."""
    manifest = parse_manifest(f'name = "m"\nendpoints = {endpoints}\n[[repo]]\nid = "org/a"\n'.encode())
    surroundings = Surroundings(environment=environment or {}, home=home, proxies=proxies)
    return choose_endpoints(
        manifest.endpoints, home, surroundings, instead=tuple(map(EndpointUrl, instead)),
        identity=EndpointUrl(identity) if identity else None,
    )


@pytest.mark.parametrize("path", ["config.json", "a folder/naïve name #1 100%+.txt", "x?y=z&w", "~/[1].bin"])
@pytest.mark.parametrize("repo_type", RepoType)
def test_files_are_where_the_hub_client_looks_for_them(repo_type: RepoType, path: str) -> None:
    """The URL of a file is the one that huggingface_hub makes, below an endpoint's prefix too."""
    commit = Commit("c" * 40)

    url = file_url(Endpoint(url=EndpointUrl(f"{MIRROR}/hf")), RepoId(repo_type, "org/a"), commit, RelPath(path))

    assert url == hf_hub_url("org/a", path, repo_type=repo_type, revision=commit, endpoint=f"{MIRROR}/hf")


def tokens(endpoints: Endpoints) -> dict[str, str | None]:
    """Return the token of each, by URL."""
    return {each.url: each.token for each in endpoints.tellers}


# tokens


def test_the_official_hub_alone_is_told_the_users_token(tmp_path: Path) -> None:
    """A mirror's URL in the manifest gives it nothing."""
    endpoints = chosen(f'["{MIRROR}", "{OFFICIAL}"]', tmp_path, environment={"HF_TOKEN": SECRET})

    assert tokens(endpoints) == {MIRROR: None, OFFICIAL: SECRET}


def test_a_manifest_says_otherwise(tmp_path: Path) -> None:
    """A token of its own for a corporate mirror, none for the official hub."""
    (tmp_path / "corp.token").write_text("file-token\n")
    entries = f"""[
        {{ url = "{MIRROR}/a", token = "env:CORP" }}, {{ url = "{MIRROR}/b", token = "file:corp.token" }},
        {{ url = "{MIRROR}/c", token = "user" }}, {{ url = "{OFFICIAL}", token = "none" }}]"""

    endpoints = chosen(entries, tmp_path, environment={"HF_TOKEN": SECRET, "CORP": "env-token"})

    assert tokens(endpoints) == {
        f"{MIRROR}/a": "env-token", f"{MIRROR}/b": "file-token", f"{MIRROR}/c": SECRET, OFFICIAL: None
    }
    assert [each.token_found_in for each in endpoints.sources] == [
        "$CORP", str(tmp_path / "corp.token"), "$HF_TOKEN", ""
    ]


def test_a_name_that_is_nearly_the_official_hubs_gets_nothing(tmp_path: Path) -> None:
    """Another scheme, another host, a path below: not the official hub."""
    near = ["http://huggingface.co", "https://huggingface.co.evil.example", f"{OFFICIAL}/mirror", "https://hf.co"]
    endpoints = chosen(str(near).replace("'", '"'), tmp_path, environment={"HF_TOKEN": SECRET})

    assert set(tokens(endpoints).values()) == {None, SECRET}
    assert {each.token for each in endpoints.sources} == {None}


@pytest.mark.parametrize(("environment", "files", "found"), [
    ({}, {}, None),
    ({"HF_TOKEN": " a \n"}, {".cache/huggingface/token": "b"}, "a"),
    ({"HUGGING_FACE_HUB_TOKEN": "a"}, {}, "a"),
    ({"HF_TOKEN": "  "}, {".cache/huggingface/token": "b\n"}, "b"),
    ({"HF_HOME": "{home}/hf"}, {"hf/token": "c", ".cache/huggingface/token": "b"}, "c"),
    ({"XDG_CACHE_HOME": "{home}/xdg"}, {"xdg/huggingface/token": "d"}, "d"),
    ({"HF_TOKEN_PATH": "{home}/mine"}, {"mine": "e", ".cache/huggingface/token": "b"}, "e"),
    ({}, {".huggingface/token": "old"}, "old"),
    ({}, {".huggingface/token": "old", ".cache/huggingface/token": "new"}, "new"),
    ({}, {".huggingface/token": "old", ".cache/huggingface/token": "\n"}, "old"),
])
def test_finds_the_users_token_where_huggingface_keeps_it(
    tmp_path: Path, environment: dict[str, str], files: dict[str, str], found: str | None
) -> None:
    """The variables, then the file that `hf auth login` writes, then that of older releases."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    token = user_token({name: value.format(home=tmp_path) for name, value in environment.items()}, tmp_path)

    assert (token and token.secret) == found
    assert SECRET not in repr(token) and (token is None or token.found_in)


@pytest.mark.parametrize("rule", ["env:ABSENT", "file:absent.txt", "env:EMPTY"])
def test_a_token_that_is_not_where_the_manifest_says_is_an_error(tmp_path: Path, rule: str) -> None:
    """Nothing is asked without the token that somebody wanted to be used."""
    with pytest.raises(Exception, match="ABSENT|absent.txt|EMPTY") as caught:
        chosen(f'[{{ url = "{MIRROR}", token = "{rule}" }}]', tmp_path, environment={"EMPTY": " "})

    assert getattr(caught.value, "exit_code") in (ManifestError.exit_code, 62)


@pytest.mark.parametrize("text", ["hf_se cret", "hf\r\nX-Evil: 1", "hf_sécret"])
def test_what_cannot_be_a_token_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    """A line break would be another header."""
    with pytest.raises(ManifestError, match=r"\$HF_TOKEN") as caught:
        chosen(f'["{OFFICIAL}"]', tmp_path, environment={"HF_TOKEN": text})

    assert text not in str(caught.value)


@pytest.mark.parametrize(("table", "place"), [
    ('{ token = "none" }', "`endpoints[0].url` is missing"),
    (f'{{ url = "{MIRROR}", token = "{SECRET}" }}', "`endpoints[0].token` is not valid"),
    (f'{{ url = "{MIRROR}", token = "env:A B" }}', "`endpoints[0].token` is not valid"),
    (f'{{ url = "{MIRROR}", kind = "ftp" }}', "`endpoints[0].kind` is not valid"),
    (f'{{ url = "{MIRROR}", proxy = "socks5://h:1" }}', "or a proxy that speaks HTTP, such as"),
    (f'{{ url = "{MIRROR}", proxy = "http://u:{SECRET}@h:1" }}', "`endpoints[0].proxy` is not valid"),
    (f'{{ url = "{MIRROR}", ca = 7 }}', "`endpoints[0].ca` is not text"),
    (f'{{ url = "{MIRROR}", tokne = "none" }}', "`endpoints[0].tokne` is not a known field"),
    (f'"{MIRROR}", "{MIRROR}/"', "an endpoint stands in it twice"),
])
def test_an_entry_without_sense_is_refused_with_its_place(tmp_path: Path, table: str, place: str) -> None:
    """And a token that somebody wrote into the manifest itself is not repeated in the error."""
    with pytest.raises(ManifestError) as caught:
        chosen(f"[{table}]", tmp_path)

    assert place in str(caught.value) and SECRET not in str(caught.value)


# whom to ask


def test_the_official_hub_is_asked_for_identities_and_not_for_bytes(tmp_path: Path) -> None:
    """A manifest that names mirrors alone still hears the official hub."""
    endpoints = chosen(f'["{MIRROR}"]', tmp_path)

    assert [each.url for each in endpoints.sources] == [MIRROR]
    assert [each.url for each in endpoints.tellers] == [MIRROR, OFFICIAL]


def test_who_names_other_endpoints_means_them_alone(tmp_path: Path) -> None:
    """`--endpoint` and HF_ENDPOINT ask nobody else, and keep what the manifest says of an endpoint that it knows."""
    manifest = f'[{{ url = "{MIRROR}", token = "env:CORP" }}]'
    endpoints = chosen(manifest, tmp_path, environment={"CORP": "t"}, instead=("http://other", MIRROR))

    assert tokens(endpoints) == {"http://other": None, MIRROR: "t"}
    assert endpoints.sources == endpoints.tellers


def test_who_names_the_teller_asks_it_too(tmp_path: Path) -> None:
    """`--identity` adds an endpoint that tells, in place of the official hub."""
    endpoints = chosen(f'["{MIRROR}"]', tmp_path, identity="http://teller")

    assert [each.url for each in endpoints.tellers] == [MIRROR, "http://teller"]


# proxies


@pytest.mark.parametrize(("url", "bypass", "proxy"), [
    ("http://a.example/x", "", "http://p:1"),
    ("https://a.example/x", "", "http://p:2"),
    ("https://a.example/x", "*", None),
    ("https://a.example/x", "other,a.example", None),
    ("https://a.example/x", ".example", None),
    ("https://a.example/x", "*.example", None),
    ("https://a.example/x", "ample", "http://p:2"),
    ("https://a.example:8443/x", "a.example:8443", None),
    ("https://a.example:8443/x", "a.example:443", "http://p:2"),
    ("http://10.1.2.3/x", "10.0.0.0/8", None),
    ("http://11.1.2.3/x", "10.0.0.0/8", "http://p:1"),
    ("http://a.example/x", "10.0.0.0/8, ,", "http://p:1"),
])
def test_chooses_the_proxy_url_by_url(url: str, bypass: str, proxy: str | None) -> None:
    """One for each scheme, and none for what `no_proxy` covers: hosts, domains, ports, networks, or all."""
    proxies = Proxies(http="p:1", https="http://p:2/", bypass=bypass)

    assert proxies.for_url(url) == proxy


@pytest.mark.parametrize("proxy", [
    "socks5://user:hunter2@p:1080", "socks4://p:1", "https://p:1", "ftp://p", "http://", "http://[::1"
])
def test_a_proxy_that_does_not_speak_http_is_refused_clearly(proxy: str) -> None:
    """Not used, not passed over without a word, and its password is not repeated."""
    with pytest.raises(ProxyError, match="cannot be used") as caught:
        Proxies(https=proxy).for_url("https://a.example")

    assert "hunter2" not in str(caught.value) + caught.value.hint
    assert Proxies(https=proxy, bypass="a.example").for_url("https://a.example") is None


def test_reads_the_variables_that_everybody_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """`all_proxy` stands for a scheme without its own; `no_proxy` is read as well."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("all_proxy", "http://all:1")
    monkeypatch.setenv("https_proxy", "http://tls:2")
    monkeypatch.setenv("no_proxy", "x.example")

    assert system_proxies() == Proxies(http="http://all:1", https="http://tls:2", bypass="x.example")


def test_a_manifest_chooses_the_proxy_of_an_endpoint(tmp_path: Path) -> None:
    """Its own, none, or what the environment says."""
    endpoints = chosen(
        f'[{{ url = "{MIRROR}/a", proxy = "http://own:1" }}, {{ url = "{MIRROR}/b", proxy = "none" }}, "{MIRROR}/c"]',
        tmp_path, proxies=Proxies(https="http://system:1"))

    used = [each.proxies.for_url("https://cdn.example") for each in endpoints.sources]

    assert used == ["http://own:1", None, "http://system:1"]


def test_an_endpoint_is_asked_through_its_proxy(hub: FaultyHubServer) -> None:
    """Every question goes through it, and none past it."""
    hub.publish("org/a", {"a.json": b"{}"})
    with ProxyServer() as proxy:
        behind = replace(endpoint(hub), proxies=Proxies(http=proxy.url))
        lock_of("org/a", endpoints=(behind,))

    assert len(proxy.heads) == len(hub.requests) == 1
    assert proxy.heads[0].startswith(f"GET {hub.endpoint}/api/models/org/a/revision/main?blobs=true ")


def test_a_proxy_is_told_its_own_user(hub: FaultyHubServer) -> None:
    """Name and password stand in its URL, where what is special there is written in `%`."""
    hub.publish("org/a", {"a.json": b"{}"})
    with ProxyServer() as proxy:
        asked_for = proxy.url.replace("://", "://me:a%40b%3Ac%E4%B8%AD@")
        lock_of("org/a", endpoints=(replace(endpoint(hub), proxies=Proxies(http=asked_for)),))

    (head,) = proxy.heads
    assert f"Basic {b64encode('me:a@b:c中'.encode()).decode()}" in head


def test_a_refusal_names_the_proxy_on_the_way(hub: FaultyHubServer) -> None:
    """Over plain HTTP nobody can tell who of the two has answered."""
    hub.publish("org/a", {"a.json": b"{}"})
    hub.fail(Status(code=403))
    with ProxyServer() as proxy:
        behind = replace(endpoint(hub), proxies=Proxies(http=proxy.url.replace("://", "://me:hunter2@")))

        with pytest.raises(AccessDeniedError) as caught:
            lock_of("org/a", endpoints=(behind,))

    assert f"{hub.endpoint} answers 403 (by the proxy {proxy.url}) and wants to know who asks" in str(caught.value)


def test_a_proxy_that_nobody_can_use_ends_the_command(hub: FaultyHubServer, tmp_path: Path) -> None:
    """A setting of this machine is to blame, and no endpoint is passed by because of it."""
    hub.publish("org/a", {"a.json": b"{}"})
    manifest = write_manifest(tmp_path / "m.toml", "org/a", endpoints=[hub.endpoint])

    refused = bundle("lock", manifest, variables={"https_proxy": "socks5://127.0.0.1:1080"})

    assert refused.returncode == ProxyError.exit_code == 36
    assert "socks5" in refused.stderr and "hint: set `http_proxy`" in refused.stderr


def test_people_see_no_password_of_a_proxy() -> None:
    """Neither does a log."""
    assert without_user("http://user:hunter2@proxy:3128") == "http://proxy:3128"
    assert without_user("proxy:3128") == "proxy:3128"


# certificates


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_that_cannot_be_used_is_an_error_at_once(tmp_path: Path, content: str | None) -> None:
    """Before anybody is asked, with the file's name."""
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)

    with pytest.raises(ManifestError, match="ca.pem cannot be used"):
        chosen(f'[{{ url = "{MIRROR}", ca = "ca.pem" }}]', tmp_path)
