"""Who says what a revision is, and whose word counts: all are asked at once, one is believed, others agree or not."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from queue import Empty, SimpleQueue

from bundler.errors import (
    AccessDeniedError, BundlerError, DisagreementError, HubError, HubUnreachableError, NothingSelectedError,
    RepoNotFoundError, RevisionNotFoundError
)
from bundler.gateway.endpoint import Endpoint
from bundler.gateway.hub import list_snapshot
from bundler.gateway.listing import Listing
from bundler.gateway.modelscope import list_modelscope
from bundler.gateway.web import Web
from bundler.lock import Identity, LockedRepo
from bundler.manifest import EndpointKind, EndpointUrl, Request
from bundler.progress import Noted, OnEvent

_TELLING = (NothingSelectedError, AccessDeniedError, RevisionNotFoundError, RepoNotFoundError, HubError)
"""Where no endpoint gives a listing, which of their errors says most, in this order."""

_SILENCES = 2
"""After so many questions without an answer, an endpoint is asked no more in this run."""


_Told = SimpleQueue[tuple[EndpointUrl, Listing | Exception]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whose word counts."""

    identity: EndpointUrl | None = None
    """Only this endpoint's; None: the official hub's where it answers, else that of the first which does."""

    agree: int = 1
    """How many endpoints have to say the same, the one that is believed included."""

    patience: float = 8.0
    """Seconds that others are waited for once somebody could have been believed."""


class Hearing:
    """Asks endpoints about one repository after another. Safe to use from many threads."""

    def __init__(self, tellers: tuple[Endpoint, ...], trust: Trust, web: Web, on_event: OnEvent) -> None:
        # The official hub comes first wherever it stands in the list: the list's order is about bytes.
        in_order = sorted(tellers, key=lambda each: (each.url != trust.identity, not each.official))
        self._tellers = tellers
        self._first = [each for each in in_order if each.kind is EndpointKind.HUB or each.url == trust.identity]
        self._others = [each for each in in_order if each not in self._first]
        self._trust = trust
        self._web = web
        self._on_event = on_event
        self._silences: Counter[EndpointUrl] = Counter()
        self._noted: set[str] = set()
        self._lock = threading.Lock()

    def lock(self, request: Request) -> LockedRepo:
        """Find out what a request stands for now, from whoever is to be believed."""
        answers = self._ask_all(request)
        listings = {url: answer for url, answer in answers.items() if isinstance(answer, Listing)}
        failures = {url: answer for url, answer in answers.items() if isinstance(answer, BundlerError)}
        if self._trust.identity is not None and self._trust.identity not in listings:
            raise failures[self._trust.identity]
        if not listings:
            raise _most_telling([failures[each.url] for each in self._tellers if each.url in failures])
        for failure in failures.values():
            self._note(str(failure))
        told_by = next(url for url in answers if url in listings)
        told = listings.pop(told_by)
        for url, listing in listings.items():
            if not told.same(listing):
                self._note(_difference(request, url, listing, told_by, told))
        identity = Identity(
            told_by=told_by,
            agreed_by=tuple(url for url, listing in listings.items() if told.same(listing)),
            differed=tuple(url for url, listing in listings.items() if not told.same(listing)),
        )
        self._demand_agreement(request, identity, failures)
        return LockedRepo(
            request=request, commit=told.commit, identity=identity, files=told.files, restricted=told.restricted
        )

    def _ask_all(self, request: Request) -> dict[EndpointUrl, Listing | BundlerError]:
        """Return the answers in the order in which they are believed; those without commits only if no hub answers."""
        answers = self._answers_of(self._worth_asking(), request)
        for url, answer in answers.items():
            with self._lock:
                self._silences[url] = self._silences[url] + 1 if isinstance(answer, HubUnreachableError) else 0
        heard = any(type(answer) not in (HubError, HubUnreachableError) for answer in answers.values())
        return answers if heard else answers | self._answers_of(self._others, request)

    def _worth_asking(self) -> list[Endpoint]:
        with self._lock:
            answering = [each for each in self._first if self._silences[each.url] < _SILENCES]
        named = [each for each in self._first if each.url == self._trust.identity]
        return list(dict.fromkeys([*named, *answering])) if answering else self._first

    def _answers_of(self, endpoints: list[Endpoint], request: Request) -> dict[EndpointUrl, Listing | BundlerError]:
        """Ask all at once; once one could be believed, the others are not waited for without end."""
        told: _Told = SimpleQueue()
        for endpoint in endpoints:
            # A daemon: a server that never answers must not keep the program from ending.
            threading.Thread(target=_ask, args=(endpoint, request, self._web, told), daemon=True).start()
        answers: dict[EndpointUrl, Listing | BundlerError] = {}
        deadline = time.monotonic() + self._trust.patience
        while len(answers) < len(endpoints):
            believable = any(isinstance(answers.get(self._trust.identity or url), Listing) for url in answers)
            try:
                url, answer = told.get(timeout=max(0.0, deadline - time.monotonic()) if believable else None)
            except Empty:
                break
            if isinstance(answer, Exception) and not isinstance(answer, (HubError, NothingSelectedError)):
                raise answer
            answers[url] = answer
        late = f"has not answered within {self._trust.patience:g} seconds"
        return {each.url: answers.get(each.url) or HubUnreachableError(f"{each.url} {late}") for each in endpoints}

    def _demand_agreement(
        self, request: Request, identity: Identity, failures: dict[EndpointUrl, BundlerError]
    ) -> None:
        count = 1 + len(identity.agreed_by)
        if count < self._trust.agree:
            silent = [f"no answer: {url}" for url in failures]
            raise DisagreementError(
                f"{count} of the {self._trust.agree} endpoints that are demanded say what {request.repo} at "
                f"`{request.revision}` is: {', '.join([str(identity), *silent])}",
                hint="wait until mirrors have caught up, pin a commit as `revision`, or demand fewer with `--agree`",
            )

    def _note(self, text: str) -> None:
        with self._lock:
            known = text in self._noted
            self._noted.add(text)
        if not known:
            self._on_event(Noted(text))


def _ask(endpoint: Endpoint, request: Request, web: Web, told: _Told) -> None:
    listing = list_snapshot if endpoint.kind is EndpointKind.HUB else list_modelscope
    try:
        told.put((endpoint.url, listing(endpoint, request, web)))
    except Exception as error:  # raised again by whoever waits
        told.put((endpoint.url, error))


def _difference(
    request: Request, url: EndpointUrl, listing: Listing, told_by: EndpointUrl, told: Listing
) -> str:
    what = f"{request.repo} at `{request.revision}`"
    if listing.commit == told.commit:
        return f"{url} lists other files of {what} than {told_by}, at the same commit {told.commit}"
    lag = ""
    if listing.modified and told.modified and listing.modified != told.modified:
        apart = told.modified - listing.modified
        lag = f", {in_words(abs(apart))} {'behind' if apart > timedelta() else 'ahead of'} {told_by}"
    return f"{url} says that {what} is {listing.commit}{lag}; {told_by} says {told.commit}"


def in_words(duration: timedelta) -> str:
    """Spell a duration in the largest unit that fits twice."""
    for name, seconds in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if duration.total_seconds() >= 2 * seconds:
            return f"{duration.total_seconds() / seconds:.0f} {name}"
    return f"{duration.total_seconds():.0f} seconds"


def _most_telling(failures: list[BundlerError]) -> BundlerError:
    """Return the failure that says most; where nobody can be reached, all of them in one."""
    if all(isinstance(failure, HubUnreachableError) for failure in failures):
        return HubUnreachableError("; ".join(map(str, failures)), hint=failures[0].hint)

    def rank(error: BundlerError) -> int:
        unreachable = isinstance(error, HubUnreachableError)
        return len(_TELLING) if unreachable else next(i for i, kind in enumerate(_TELLING) if isinstance(error, kind))

    return min(failures, key=rank)
