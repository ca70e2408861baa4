"""Lists of files as mirrors give them: pages that lead elsewhere, cursors that are ignored, sizes that are missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from bundler.demo.hub import InMemory
from bundler.demo.messages import Request, Response
from bundler.errors import HubError
from bundler.lock import LockedFile
from tests.faulty_hub import FaultyHubServer, Headers, Pause, Status
from tests.gateway_side import endpoint, lock_of

FILES = {f"{number // 400}/{number:04}.json": b"%d" % number for number in range(2500)}
FILES |= {"model.safetensors": b"weights"}
INFO, TREE = "/api/models/org/a/revision/*", "/api/models/org/a/tree/*"
TOKEN = "hf_secret"


@pytest.fixture
def elsewhere() -> Iterator[FaultyHubServer]:
    """Another host, which would be glad to be asked."""
    with FaultyHubServer() as server:
        server.publish("org/a", FILES)
        yield server


@dataclass(frozen=True, slots=True, kw_only=True)
class Retold:
    """A fault: the true answer with something in its JSON changed."""

    change: Callable[[Any], object]

    def hits(self, request: Request, response: Response) -> bool:
        """Say that errors stay as they are."""
        return response.status == 200

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        """Return the changed answer."""
        values = json.loads(b"".join(response.content.chunks(0, response.content.size)))
        self.change(values)
        return replace(response, content=InMemory(raw=json.dumps(values).encode()))


def without_blobs(values: Any) -> None:
    """Take away what `blobs=true` adds."""
    values["siblings"] = [{"rfilename": sibling["rfilename"]} for sibling in values["siblings"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoresTheCursor:
    """A fault: whichever page is asked for, the first one comes; with a link to the next, or without one."""

    server: FaultyHubServer
    link: bool

    def hits(self, request: Request, response: Response) -> bool:
        """Say that errors stay as they are."""
        return response.status == 200

    def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
        """Return the first page."""
        first = replace(request, target=f"{request.target.partition('?')[0]}?recursive=true")
        page = super(FaultyHubServer, self.server).answer(first)
        return page if self.link else replace(page, headers={"Content-Type": "application/json"})


def listed(hub: FaultyHubServer, *, token: str | None = None, **request: object) -> dict[str, LockedFile]:
    """Return what the lock of `org/a` holds, by path."""
    (repo,) = lock_of({"id": "org/a", **request}, endpoints=(endpoint(hub, token=token),)).repos
    return {file.path: file for file in repo.files}


def test_a_hub_that_tells_no_sizes_is_asked_page_by_page(hub: FaultyHubServer) -> None:
    """Where `blobs=true` is not known, the tree tells all that a lock needs, the same as the short way."""
    hub.publish("org/a", FILES)
    by_siblings = listed(hub)
    hub.fail(Retold(change=without_blobs), path=INFO)

    by_tree = listed(hub)

    assert by_tree == by_siblings
    assert set(by_tree) == set(FILES)
    assert len(hub.asked(TREE)) == 3


def test_a_hub_that_lists_nothing_is_asked_page_by_page(hub: FaultyHubServer) -> None:
    """Some tell the commit and no file at all."""
    hub.publish("org/a", FILES)
    hub.fail(Retold(change=lambda values: values.pop("siblings")), path=INFO)

    assert set(listed(hub)) == set(FILES)


def test_a_link_to_another_host_is_followed_on_the_endpoint_itself(
    hub: FaultyHubServer, elsewhere: FaultyHubServer
) -> None:
    """Mirrors hand on the links of the official hub: the other host is asked nothing, and told no token."""
    hub.publish("org/a", FILES)
    hub.fail(Retold(change=without_blobs), path=INFO)
    pages = iter(["MTAwMA==", "MjAwMA=="])

    class LinksElsewhere(Headers):
        def spoil(self, request: Request, response: Response, pause: Pause) -> Response:
            cursor = next(pages, "")
            link = f'<{elsewhere.endpoint}/other/path?recursive=true&cursor={cursor}>; rel="next"' if cursor else None
            return Headers(change={"Link": link}).spoil(request, response, pause)

    hub.fail(LinksElsewhere(change={}), path=TREE)

    files = listed(hub, token=TOKEN)

    assert set(files) == set(FILES)
    assert not elsewhere.requests
    assert all(seen.headers["authorization"] == f"Bearer {TOKEN}" for seen in hub.requests)


def test_a_cursor_that_is_ignored_does_not_go_on_for_ever(hub: FaultyHubServer) -> None:
    """The same page again ends the list. It is refused: most files are missing."""
    hub.publish("org/a", FILES)
    hub.fail(Retold(change=without_blobs), path=INFO)
    hub.fail(IgnoresTheCursor(server=hub, link=True), path=TREE)

    with pytest.raises(HubError, match="does not list all files of org/a: 1,") as caught:
        listed(hub)

    assert hub.endpoint in str(caught.value)
    assert len(hub.asked(TREE)) == 2


def test_a_page_that_repeats_is_fine_where_nothing_is_missing(hub: FaultyHubServer) -> None:
    """A server that sends everything at once, and a link to more all the same."""
    files = {"a.txt": b"a", "b.bin": b"b"}
    hub.publish("org/a", files)
    hub.fail(Retold(change=without_blobs), path=INFO)
    hub.fail(IgnoresTheCursor(server=hub, link=False), path=TREE)
    hub.fail(Headers(change={"Link": f'<{hub.endpoint}/x?cursor=MQ==&recursive=true>; rel="next"'}), path=TREE)

    assert set(listed(hub)) == set(files)
    assert len(hub.asked(TREE)) == 2


def test_pages_without_a_link_are_found_out(hub: FaultyHubServer) -> None:
    """A proxy that drops the header `Link` cuts the list short: never a lock without the rest."""
    hub.publish("org/a", FILES)
    hub.fail(Retold(change=without_blobs), path=INFO)
    hub.fail(Headers(change={"Link": None}), path=TREE)

    with pytest.raises(HubError, match="does not list all files"):
        listed(hub)


def test_pages_that_repeat_are_refused_where_nothing_tells_the_whole(hub: FaultyHubServer) -> None:
    """Without any other list, a list that ends in a circle may be cut off."""
    hub.publish("org/a", FILES)
    hub.fail(Retold(change=lambda values: values.pop("siblings")), path=INFO)
    hub.fail(IgnoresTheCursor(server=hub, link=True), path=TREE)

    with pytest.raises(HubError, match="its pages repeat"):
        listed(hub)


def test_a_repository_of_more_than_ten_thousand_files_is_listed_page_by_page(hub: FaultyHubServer) -> None:
    """The list that comes with the facts is not relied upon there: it may be cut off."""
    files = {f"{number // 1000}/{number}.txt": b"%d" % (number % 7) for number in range(12_000)}
    hub.publish("org/a", files)
    hub.fail(Retold(change=lambda values: values.update(siblings=values["siblings"][:10_001])), path=INFO)

    assert set(listed(hub)) == set(files)
    assert len(hub.asked(TREE)) == 13


def test_patterns_mean_the_same_page_by_page(hub: FaultyHubServer) -> None:
    """Folders are not files, and a pattern chooses among files."""
    hub.publish("org/a", FILES)
    hub.fail(Retold(change=without_blobs), path=INFO)

    assert set(listed(hub, include=["3/*"])) == {path for path in FILES if path.startswith("3/")}


@pytest.mark.parametrize("change", [
    lambda page: page.append({"type": "file", "path": "../evil", "oid": "0" * 40, "size": 1}),
    lambda page: page.append({"type": "file", "path": "x"}),
    lambda page: page.append("x"),
    lambda page: page.append({"type": "file", "oid": "0" * 40, "size": 1}),
    lambda page: page[-1]["lfs"].update(oid="0" * 40),
    lambda page: page[-1]["lfs"].update(size=-1),
    lambda page: page[0].update(path=7),
], ids=range(7))
def test_a_tree_that_cannot_be_is_refused(hub: FaultyHubServer, change: Callable[[Any], object]) -> None:
    """Nothing of it gets into a lock."""
    hub.publish("org/a", {"config.json": b"{}", "model.safetensors": b"w"})
    hub.fail(Retold(change=without_blobs), path=INFO)
    hub.fail(Retold(change=change), path=TREE)

    with pytest.raises(HubError, match="is not the hub's API") as caught:
        listed(hub)

    assert hub.endpoint in str(caught.value)


def test_a_hub_that_gives_neither_list_is_named(hub: FaultyHubServer) -> None:
    """The status of the second question is told."""
    hub.publish("org/a", FILES)
    hub.fail(Retold(change=without_blobs), path=INFO)
    hub.fail(Status(code=404), path=TREE)

    with pytest.raises(HubError, match="answers 404 for the files of org/a"):
        listed(hub)
