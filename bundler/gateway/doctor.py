"""Whether a build could start here: the program, the endpoints, the room, the clock. Changes nothing."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

from bundler.errors import Aria2MissingError, BundlerError, HubUnreachableError
from bundler.gateway.aria2c import HOW_TO_GET_ONE, find_aria2c, version_of
from bundler.gateway.endpoint import Endpoint, Endpoints
from bundler.gateway.fetch import FetchOptions
from bundler.gateway.gate import check_access
from bundler.gateway.hub import find_commit
from bundler.gateway.modelscope import find_modelscope_commit
from bundler.gateway.proxies import without_user
from bundler.gateway.resolve import resolve_manifest
from bundler.gateway.sources import wanted_blobs
from bundler.gateway.space import Need, space_needs
from bundler.gateway.staging import Staging
from bundler.gateway.web import Location, Web
from bundler.lock import Lock, lock_path, read_lock
from bundler.manifest import EndpointKind, Manifest, Request

_TIMEOUTS = (5.0, 20.0)
_PROBES_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How an endpoint fared."""

    endpoint: Endpoint
    serves: bool
    """Whether bytes are asked from it; from the others only what a revision is."""

    proxy: str = ""
    """The one that is used, without user and password; empty for none."""

    seconds: float | None = None
    """Until it answered anything at all; None if it did not."""

    says: str = ""
    """What it answers, in words."""

    useful: bool = False
    """Whether it knows the manifest's first repository; without a manifest, whether it answers."""

    ahead: timedelta | None = None
    """By how much this machine's clock is ahead of its own; None if it does not tell the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What was found."""

    aria2c: Path | None
    aria2c_says: str
    """Its version, or why there is none."""

    large: bool
    """Whether there may be files to fetch that need aria2c; False where a lock names none."""

    probes: tuple[Probe, ...]
    needs: tuple[Need, ...]

    locked: bool
    """Whether a lock says how much is needed; without one only the free space means something."""

    refusal: BundlerError | None = None
    """Why the manifest cannot be locked, or its files not be fetched, though somebody answers."""

    @property
    def ahead(self) -> timedelta | None:
        """By how much this machine's clock is ahead, as the first endpoint that tells the time says."""
        return next((probe.ahead for probe in self.probes if probe.ahead is not None), None)

    def failure(self) -> BundlerError | None:
        """Return why a build could not start, None if it could."""
        if self.aria2c is None and self.large:
            return Aria2MissingError(self.aria2c_says, hint=HOW_TO_GET_ONE)
        if not any(probe.useful for probe in self.probes if probe.serves):
            return HubUnreachableError(
                "no endpoint could serve a build", hint="mend what is said of the endpoints above, or name another one"
            )
        if self.refusal is not None:
            return self.refusal
        for need in self.needs:
            try:
                need.check()
            except BundlerError as error:
                return error
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What is to be looked at."""

    manifest: Path | None
    """None to look at the machine alone."""

    output: Path
    staging: Staging
    aria2c: Path | None
    """None for the one that would be found."""


def examine(site: Site, wanted: Manifest | None, endpoints: Endpoints) -> Diagnosis:
    """Look at all that a build of `wanted` would need, which is what `site.manifest` holds."""
    program, says = _aria2c(site.aria2c)
    request = wanted.requests[0] if wanted else None
    with Web(connections=1, timeouts=_TIMEOUTS) as web, ThreadPoolExecutor(_PROBES_AT_ONCE) as pool:
        probes = tuple(pool.map(
            lambda endpoint: _probe(endpoint, request, web, serves=endpoint in endpoints.sources), endpoints.tellers
        ))
        lock = _lock(site, wanted)
        useful = any(probe.useful for probe in probes)
        refusal = _refusal(wanted, lock, endpoints, web) if wanted and useful else None
    blobs = wanted_blobs(lock) if lock else ()
    files = [blob.file for blob in blobs]
    folder = site.output / wanted.name if wanted else site.output
    return Diagnosis(
        aria2c=program,
        aria2c_says=says,
        large=not lock or any(map(FetchOptions().is_large, blobs)),
        probes=probes,
        locked=bool(files),
        refusal=refusal,
        needs=space_needs(folder, files, site.staging),
    )


def _aria2c(explicit: Path | None) -> tuple[Path | None, str]:
    try:
        program = find_aria2c(explicit)
    except Aria2MissingError as error:
        return None, str(error)
    return program, version_of(program)


def _probe(endpoint: Endpoint, request: Request | None, web: Web, *, serves: bool) -> Probe:
    proxy, seconds, ahead = "", None, None
    try:
        base = Location.at(endpoint, endpoint.url)
        proxy = without_user(base.proxy or "")
        start = time.monotonic()
        answer = web.ask(base, method="HEAD")
        seconds, ahead = time.monotonic() - start, _ahead(answer.headers.get("Date", ""))
        says, useful = (f"answers {answer.status}", answer.status < 500) if request is None else ("", True)
        if request is not None:
            find = find_commit if endpoint.kind is EndpointKind.HUB else find_modelscope_commit
            says = f"has {request.repo} at `{request.revision}`: {find(endpoint, request, web)}"
    except BundlerError as error:
        says, useful = str(error), False
    return Probe(
        endpoint=endpoint, serves=serves, proxy=proxy, seconds=seconds, says=says, useful=useful, ahead=ahead
    )


def _ahead(date: str) -> timedelta | None:
    try:
        told = parsedate_to_datetime(date)
    except ValueError:
        return None
    return datetime.now(UTC) - told if told.tzinfo else None


def _lock(site: Site, wanted: Manifest | None) -> Lock | None:
    """Return the lock beside the manifest, None if there is none that fits."""
    if wanted is None or site.manifest is None or not lock_path(site.manifest).exists():
        return None
    lock = read_lock(lock_path(site.manifest))
    return None if lock.why_stale(wanted) else lock


def _refusal(wanted: Manifest, lock: Lock | None, endpoints: Endpoints, web: Web) -> BundlerError | None:
    """Do what a build does before it fetches, for every repository, and return what stands in its way."""
    try:
        repos = (lock or resolve_manifest(wanted, endpoints.tellers)).repos
        check_access(repos, endpoints.tellers, web)
    except BundlerError as error:
        return error
    return None
