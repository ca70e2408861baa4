"""Which room may know which: read from the sources, so that it holds for imports inside of functions too."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bundler

PACKAGE = Path(bundler.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

ROOMS = {
    "ground": ("ground",),
    "format": ("ground", "format"),
    "gateway": ("ground", "format", "gateway"),
    "target": ("ground", "format", "target"),
    "demo": ("ground", "format", "gateway", "target", "demo"),
    "cli": ("ground", "format", "gateway", "target", "demo", "cli"),
}
"""What the modules of a room may import of the package."""

WAYS_IN = ("__init__.py", "__main__.py")
"""Not a room: the version, and `python -m bundler`."""

STAND_ALONE = {"format/restore.py": (), "demo/speak.py": ("bundler.demo.llama.",), "demo/llama.py": ()}
"""Programs that share nothing with the rest of the package, and the beginnings of what they may import of it."""

THIRD_PARTIES = {
    "huggingface_hub": ("gateway/hub.py", "demo/speak.py"),
    "aria2c": ("gateway/aria2c.py",),
    "urllib3": ("gateway/web.py", "gateway/connections.py", "gateway/aria2_client.py"),
    "certifi": ("gateway/certificates.py",),
    "zstandard": ("format/codec.py",),
    "numpy": ("format/codec.py", "format/planes.py", "demo/llama.py"),
    "click": ("cli/",),
    "tqdm": ("cli/",),
}
"""The modules, or the room, that may import a package from elsewhere; `planes` is what `codec` consists of."""


def imports_of(module: str) -> Iterator[str]:
    """Yield the full name of everything that a module imports, wherever in it."""
    for node in ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_ours(name: str) -> bool:
    """Say whether an imported name is the package's own."""
    return name.partition(".")[0] == "bundler"


def room_of(module: str) -> str:
    """Return the room that a module's path lies in."""
    return module.partition("/")[0] if "/" in module else "ground"


def room_of_import(name: str) -> str:
    """Return the room that an imported name of ours lies in."""
    first = name.split(".")[1] if "." in name else ""
    return first if first in ROOMS else "ground"


@pytest.mark.parametrize("module", [module for module in MODULES if module not in WAYS_IN])
def test_a_room_imports_only_what_it_stands_on(module: str) -> None:
    """Gateway and target know the format and the ground, and never each other."""
    ours = [name for name in imports_of(module) if is_ours(name)]

    strangers = [name for name in ours if room_of_import(name) not in ROOMS[room_of(module)]]

    assert strangers == []


@pytest.mark.parametrize("module", STAND_ALONE)
def test_a_program_that_stands_alone_imports_nothing_of_ours(module: str) -> None:
    """`restore.py` runs where no package is, and the demo's reader finds a model as a user's program would."""
    ours = [name for name in imports_of(module) if is_ours(name)]

    assert [name for name in ours if not name.startswith(STAND_ALONE[module])] == []


@pytest.mark.parametrize("module", MODULES)
def test_each_third_party_has_one_room(module: str) -> None:
    """Another package is imported where it is at home, and nowhere else; the ground needs the standard library only."""
    others = {name.partition(".")[0] for name in imports_of(module)} - {"bundler", *sys.stdlib_module_names}

    strangers = {name for name in others if not module.startswith(THIRD_PARTIES.get(name, ()))}

    assert strangers == set()


def test_every_third_party_is_still_needed() -> None:
    """A package that nothing imports any more leaves the list, and the dependencies."""
    imported = {name.partition(".")[0] for module in MODULES for name in imports_of(module)}

    assert set(THIRD_PARTIES) <= imported


def test_only_fsio_syncs_and_renames() -> None:
    """What must survive a crash is done in one module, which says how."""
    calls = {
        module: sorted(set(_crash_calls(ast.parse((PACKAGE / module).read_text(encoding="utf-8")))))
        for module in MODULES if module not in STAND_ALONE
    }

    assert {module for module, names in calls.items() if names} == {"fsio.py"}, calls


def _crash_calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, one_argument = node.func.attr, len(node.args) == 1 and not node.keywords
        # `text.replace(old, new)` has two, `time.replace(hour=0)` a named one; `path.replace(target)` has just one.
        of_os = isinstance(node.func.value, ast.Name) and node.func.value.id in ("os", "shutil")
        if name in ("fsync", "fdatasync", "rename", "renames", "move"):
            yield name
        elif name == "replace" and (of_os or one_argument):
            yield name


def test_what_the_target_needs_opens_no_socket() -> None:
    """On the air-gapped side nothing even imports what could."""
    rooms = ("ground", "format", "target")
    network = {"socket", "ssl", "http", "urllib.request", "ftplib", "smtplib", "asyncio", "socketserver", "xmlrpc"}

    found = {
        (module, name)
        for module in MODULES if room_of(module) in rooms and module not in STAND_ALONE
        for name in imports_of(module)
        if name.partition(".")[0] in network or name.startswith("urllib.request")
    }

    assert found == set()
