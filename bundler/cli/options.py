"""Options that several verbs share, and the kinds of values that they take."""

from __future__ import annotations

import grp
import importlib.util
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bundler.errors import MissingExtraError
from bundler.format.policy import Policies, read_policies
from bundler.manifest import DEFAULT_ENDPOINTS, EndpointUrl, read_manifest
from bundler.names import RefName, RepoId
from bundler.pipeline import usable_cores
from bundler.target.hubcache import default_cache_dir

if TYPE_CHECKING:
    from bundler.gateway.endpoint import Endpoints

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Size(click.ParamType):  # type: ignore[type-arg]  # generic only in newer releases of click
    """A number of bytes, with or without a unit: `3900MiB`, `4GB`, `1048576`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value)
        if match is None or match[2].upper() not in _UNITS:
            self.fail(f"{value!r} is not a size such as `3900MiB` or `4GB`", param, ctx)
        return int(float(match[1]) * _UNITS[match[2].upper()])


class Duration(click.ParamType):  # type: ignore[type-arg]  # as above
    """A time: `90s`, `30m`, `6h`, `3d`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", value)
        if match is None:
            self.fail(f"{value!r} is not a time such as `30m` or `6h`", param, ctx)
        return float(match[1]) * _SECONDS[match[2]]


class Checked(click.ParamType):  # type: ignore[type-arg]  # as above
    """Text that has to be valid for a type of ours."""

    def __init__(self, name: str, make: Callable[[str], Any]) -> None:
        self.name = name
        self._make = make

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the checked value."""
        try:
            return self._make(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)

manifest_argument = click.argument("manifest", type=_FILE)
optional_manifest_argument = click.argument("manifest", type=_FILE, required=False)
bundle_argument = click.argument(
    "folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
workers_option = click.option(
    "--workers", type=click.IntRange(1, 256), default=usable_cores, show_default="usable cores",
    help="Threads for hashing and coding. Changes no byte of the result.",
)
endpoint_option = click.option(
    "--endpoint", "endpoints", multiple=True, type=Checked("url", EndpointUrl), envvar="HF_ENDPOINT",
    help="Ask here instead of the manifest's endpoints; may be given several times.  [env: HF_ENDPOINT]",
)
staging_option = click.option("--staging", type=FOLDER, help="Where fetched bytes wait.  [default: ~/.cache/bundler]")
aria2c_option = click.option(
    "--aria2c", type=click.Path(path_type=Path), help="The aria2c to use, instead of the one found."
)
REF = Checked("ref", RefName)


def _stores(ctx: click.Context, param: click.Parameter, folders: tuple[Path, ...]) -> tuple[Path, ...]:
    # An empty path is the option without a folder.
    return tuple(default_cache_dir(environment(), Path.home()) if folder == Path() else folder for folder in folders)


from_cache_option = click.option(
    "--from-cache", "caches", multiple=True, is_flag=False, flag_value="", type=FOLDER, callback=_stores,
    help="Take what this Hugging Face cache holds, without asking anybody; may be given several times.  "
    "[without a folder: where huggingface_hub would look]",
)
from_dir_option = click.option(
    "--from-dir", "folders", multiple=True, type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Take what this folder holds, at a repository's own paths or below ORG/NAME; may be given several times.",
)
REPO = Checked("repo", RepoId.parse)


def _parse_repo_and_ref(text: str) -> tuple[RepoId, RefName]:
    repo, _, ref = text.partition("@")
    return RepoId.parse(repo), RefName(ref or "main")


REPO_AND_REF = Checked("repo@ref", _parse_repo_and_ref)


def _cache_dir(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path:
    return value or default_cache_dir(environment(), Path.home())


cache_dir_option = click.option(
    "--cache-dir", type=FOLDER, callback=_cache_dir,
    help="The cache's hub folder.  [default: where huggingface_hub would look]",
)


def _parse_mode(text: str) -> int:
    if not re.fullmatch(r"[0-7]{3,4}", text) or int(text, 8) & 0o700 != 0o700:
        raise ValueError(f"`{text}` is not a folder's mode in octal, such as 755 or 2775, that lets its owner in")
    return int(text, 8)


def _find_group(text: str) -> int:
    try:
        return int(text) if text.isdecimal() else grp.getgrnam(text).gr_gid
    except KeyError as error:
        raise ValueError(f"there is no group `{text}` here") from error


MODE = Checked("mode", _parse_mode)
GROUP = Checked("group", _find_group)
signers_option = click.option(
    "--signers", type=_FILE,
    help="The file of allowed signers, see `man ssh-keygen`, unless the policy in /etc/bundler names one.",
)
KEY = _FILE
KEY_HELP = "A private key, or a public one whose private half an SSH agent or a piece of hardware has."

_ETC = Path("/etc/bundler")


def require_gateway() -> None:
    """Fail with what to install if the packages of the connected side are not here."""
    missing = [name for name in ("huggingface_hub", "urllib3") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"this command needs {', '.join(missing)}, and only the connected side has them",
            hint="pip install 'hf-bundler[gateway]'",
        )


def endpoints_for(
    manifest: Path | None, *, instead: tuple[EndpointUrl, ...] = (), identity: EndpointUrl | None = None
) -> Endpoints:
    """Return whom a manifest's endpoints, options and environment make us ask, with what each may be told.

    Without a manifest that is the official hub.
    """
    from bundler.gateway.endpoint import Surroundings, choose_endpoints
    from bundler.gateway.proxies import system_proxies

    surroundings = Surroundings(environment=environment(), home=Path.home(), proxies=system_proxies())
    named = read_manifest(manifest).endpoints if manifest else DEFAULT_ENDPOINTS
    folder = manifest.parent if manifest else Path()
    return choose_endpoints(named, folder, surroundings, instead=instead, identity=identity)


def policies(signers: Path | None) -> Policies:
    """Return what the machine and its user ask of a bundle."""
    given = environment().get("XDG_CONFIG_HOME", "")
    # https://specifications.freedesktop.org/basedir-spec/: one that is not absolute is ignored.
    config = Path(given) if given.startswith("/") else Path.home() / ".config"
    return read_policies(_ETC, config / "bundler", signers=signers)


def environment() -> dict[str, str]:
    """Return the process's variables: commands read them, nothing below does."""
    return dict(os.environ)
