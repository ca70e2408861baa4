"""`bundle demo`: the first thing that a newcomer runs, on any machine, with any variables set."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from pathlib import Path

import pytest

from bundler.demo.journey import REPO_ID
from tests.bundle_command import Result, bundle, succeed, without_network
from tests.cache_layout import layout_of, wrong_blobs

STEPS = (
    "$ bundle lock alice.toml", "$ bundle build alice.toml -o gateway",
    "$ bundle verify gateway/alice --allow-unsigned", "$ cp -r gateway/alice stick/alice",
    "$ bundle install stick/alice --cache-dir server/hub", f"python -m bundler.demo.speak {REPO_ID}",
)
PROMPT = "Alice was beginning to get very tired"


def story_of(done: Result) -> str:
    """Return what the model said, without the line breaks."""
    said = done.stdout[done.stdout.index(f"\n   {PROMPT}"):]
    return " ".join(said.split())


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """A demo that was run, and the folder it was told to work in."""
    folder = tmp_path_factory.mktemp("demo") / "deep" / "work"
    return bundle("demo", "--folder", folder), folder


def test_walks_the_whole_journey(demo: tuple[Result, Path]) -> None:
    """Each step is shown with the command to type, in order, and the model tells a story at the end."""
    done, _ = demo

    assert done.returncode == 0, done.stderr
    places = [done.stdout.find(step) for step in STEPS]
    assert -1 not in places and places == sorted(places)
    assert len(story_of(done).split()) > 60


def test_the_story_comes_out_of_the_installed_cache(demo: tuple[Result, Path]) -> None:
    """The program that speaks says which snapshot it has read, and this is the one below the server's cache."""
    done, folder = demo

    (snapshot,) = (folder / "server" / "hub").glob("models--*/snapshots/*")
    # The path is as the speaker was given it: below the folder in which all commands run.
    assert re.search(rf"from \S*{re.escape(str(snapshot.relative_to(folder)))}", done.stdout)


def test_the_folder_holds_all_there_is_to_look_at(demo: tuple[Result, Path]) -> None:
    """Manifest, lock, bundle, stick and cache are left, and the commands shown can be typed again there."""
    _, folder = demo

    again = [
        succeed("verify", "stick/alice", "--allow-unsigned", cwd=folder, under=without_network()),
        succeed("install", "stick/alice", "--cache-dir", "other/hub", cwd=folder, under=without_network())]

    assert {path.name for path in folder.iterdir()} >= {"alice.toml", "alice.lock.json", "gateway", "stick", "server"}
    assert "alice" in again[0].stdout and REPO_ID in again[1].stdout
    assert wrong_blobs(folder / "server" / "hub") == []


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    """Nothing of the user's is mixed with the demo's, not even with what is in an empty folder of his."""
    (tmp_path / "mine").mkdir()

    refused = bundle("demo", "--folder", tmp_path / "mine")

    assert refused.returncode == 60
    assert str(tmp_path / "mine") in refused.stderr and "hint:" in refused.stderr
    assert list((tmp_path / "mine").iterdir()) == []


def test_leaves_nothing_behind_without_a_folder(tmp_path: Path) -> None:
    """The temporary folder is gone after the demo, and nothing was written anywhere else that a user has."""
    places = {"TMPDIR": tmp_path / "tmp", "HOME": tmp_path / "home"}
    for place in places.values():
        place.mkdir()

    succeed("demo", cwd=tmp_path, variables={name: str(place) for name, place in places.items()} | {"HF_HOME": None})

    assert {path.name for path in tmp_path.iterdir()} == {"tmp", "home"}
    assert list(layout_of(tmp_path / "tmp")) == list(layout_of(tmp_path / "home")) == []


def test_variables_of_the_user_do_not_disturb_it(demo: tuple[Result, Path], tmp_path: Path) -> None:
    """Tokens, caches, mirrors, proxies and an offline mode of the user's change nothing; his cache stays as it is."""
    home = tmp_path / "home"
    (home / "hub" / "models--org--mine" / "refs").mkdir(parents=True)
    (home / "hub" / "models--org--mine" / "refs" / "main").write_text("0" * 40)
    (home / "token").write_text("hf_of_the_user")
    before = layout_of(home)
    nowhere = "http://127.0.0.1:9"

    done = succeed("demo", variables={
        "HF_TOKEN": "hf_secret_of_the_user", "HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub"),
        "HUGGINGFACE_HUB_CACHE": str(home / "hub"), "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": nowhere,
        "HTTP_PROXY": nowhere, "http_proxy": nowhere, "HTTPS_PROXY": nowhere, "ALL_PROXY": nowhere, "NO_PROXY": None,
        "no_proxy": None, "XDG_CACHE_HOME": str(tmp_path / "xdg"), "COLUMNS": "40",
    })

    assert story_of(done) == story_of(demo[0])
    assert "hf_" not in done.stdout + done.stderr
    assert layout_of(home) == before
    assert not (tmp_path / "xdg").exists()


def test_works_where_there_is_no_network(demo: tuple[Result, Path]) -> None:
    """Loopback is all that it needs."""
    up = ("sh", "-c", f'"{sys.executable}" -c "$UP" && exec "$@"', "sh")

    done = succeed("demo", under=(*without_network(), *up) if without_network() else (), variables={"UP": _LOOPBACK_UP})

    assert story_of(done) == story_of(demo[0])


_LOOPBACK_UP = textwrap.dedent("""
    import fcntl, socket, struct
    SIOCSIFFLAGS, IFF_UP = 0x8914, 1
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
""")
"""Switches on the loopback of a new network namespace, as `ip link set lo up` does where there is an `ip`."""


def test_says_what_to_do_where_there_is_no_aria2c(tmp_path: Path) -> None:
    """Neither on PATH nor as a wheel: both ways to get it are named, before anything is shown or written."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(textwrap.dedent("""
        import sys

        class Hidden:
            def find_spec(self, name, path=None, target=None):
                if name == "aria2c":
                    raise ModuleNotFoundError("No module named 'aria2c'", name="aria2c")

        sys.meta_path.insert(0, Hidden())
    """))

    python_path = os.pathsep.join([str(hidden), os.environ.get("PYTHONPATH", "")])
    refused = bundle("demo", "--folder", tmp_path / "work", variables={"PATH": "", "PYTHONPATH": python_path})

    assert refused.returncode == 33
    assert "apt-get install aria2" in refused.stderr and "pip install 'hf-bundler[gateway]'" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert refused.stdout == "" and not (tmp_path / "work").exists()
