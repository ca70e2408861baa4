"""Options that several verbs share, and the kinds of values that they take."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bundler.errors import MissingExtraError
from bundler.manifest import EndpointUrl
from bundler.names import RefName
from bundler.pipeline import usable_cores

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


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
REF = Checked("ref", RefName)


def require_gateway() -> None:
    """Fail with what to install if the packages of the connected side are not here."""
    missing = [name for name in ("huggingface_hub", "aria2p", "requests") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"this command needs {', '.join(missing)}, and only the connected side has them",
            hint="pip install 'hf-bundler[gateway]'",
        )


def environment() -> dict[str, str]:
    """Return the process's variables: commands read them, nothing below does."""
    return dict(os.environ)
