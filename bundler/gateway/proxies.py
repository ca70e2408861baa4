"""Which proxy a URL is reached by. Decided here, for every client: each reads the variables in its own way."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from bundler.errors import ProxyError


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """The proxy for each scheme, and the hosts that are reached without one; as it stands, none for any."""

    http: str | None = None
    https: str | None = None

    bypass: str = ""
    """Hosts, domains, networks (10.0.0.0/8) or `*`, with commas between them: what `no_proxy` holds."""

    def for_url(self, url: str) -> str | None:
        """Return `http://host:port`, perhaps with a user before the host; None to go direct.

        Raises `ProxyError` for a proxy that speaks another protocol than HTTP.
        """
        parts = urlsplit(url)
        proxy = self.https if parts.scheme == "https" else self.http
        direct = any(_covers(entry.strip(), parts.hostname or "", parts.port) for entry in self.bypass.split(","))
        return None if not proxy or direct else _checked(proxy)


def system_proxies() -> Proxies:
    """Return what the user has set: `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`, or the system's dialogs."""
    found = urllib.request.getproxies()
    everything = found.get("all")
    return Proxies(
        http=found.get("http", everything), https=found.get("https", everything), bypass=found.get("no", "")
    )


def without_user(proxy: str) -> str:
    """Return a proxy's URL as people may see it: a user's name and password left out."""
    scheme, separator, rest = proxy.partition("://")
    return scheme + separator + rest.rpartition("@")[2]


def _checked(proxy: str) -> str:
    url = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme == "http" and bool(parts.hostname)
    except ValueError:  # such as an IPv6 address without its end
        usable = False
    if not usable:
        raise ProxyError(
            f"the proxy `{without_user(proxy)}` cannot be used: only `http://host:port` can",
            hint="set `http_proxy` and `https_proxy` to such a one (a SOCKS proxy often speaks HTTP on another port), "
            "or name the hosts that need none in `no_proxy`",
        )
    return url.rstrip("/")


def _covers(entry: str, host: str, port: int | None) -> bool:
    """Say whether an entry of `no_proxy` means a host: itself, one below it, an address in a network, or any."""
    if "/" in entry:
        try:
            return ip_address(host) in ip_network(entry, strict=False)
        except ValueError:
            return False
    name = entry.removeprefix("*").removeprefix(".").lower()
    if not name:
        return entry == "*"
    return any(each == name or each.endswith(f".{name}") for each in (host, f"{host}:{port}"))
