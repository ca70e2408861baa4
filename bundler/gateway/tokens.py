"""Where a token is found. What is found goes into `Endpoint.token`, and from there to that endpoint's origin alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bundler.errors import ManifestError
from bundler.fields import read_bounded
from bundler.manifest import TokenFrom

_MAX_TOKEN_SIZE = 16 << 10
_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A secret, and where it was found."""

    secret: str = field(repr=False)
    found_in: str
    """`$NAME` or a path: for people."""


def user_token(environment: Mapping[str, str], home: Path) -> Token | None:
    """Return what `HF_TOKEN` holds, else what `hf auth login` wrote, else what its forerunners did."""
    for name in _VARIABLES:
        if text := environment.get(name, "").strip():
            return _token(text, f"${name}")
    for path in _token_files(environment, home):
        if path.is_file() and (token := _read_token(path)):
            return token
    return None


def named_token(rule: TokenFrom, environment: Mapping[str, str], folder: Path, home: Path) -> Token | None:
    """Return the token that a manifest in `folder` names. Raises `ManifestError` if there is none where it says."""
    match rule.partition(":"):
        case ["none", _, _]:
            return None
        case ["user", _, _]:
            return user_token(environment, home)
        case ["env", _, name]:
            found = _token(environment[name].strip(), f"${name}") if environment.get(name, "").strip() else None
        case [_, _, path]:
            found = _read_token(folder / Path(path).expanduser())
    if found is None:
        raise ManifestError(f"there is no token in `{rule}`", hint="set it there, or say `token = \"none\"`")
    return found


def _token_files(environment: Mapping[str, str], home: Path) -> list[Path]:
    """Return the places in the order in which huggingface_hub knows them, and last the one it has left."""
    cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache") / "huggingface"
    hf_home = Path(environment.get("HF_HOME") or cache)
    current = Path(environment.get("HF_TOKEN_PATH") or hf_home / "token")
    return [current.expanduser(), home / ".huggingface" / "token"]


def _read_token(path: Path) -> Token | None:
    text = read_bounded(path, limit=_MAX_TOKEN_SIZE, failure=ManifestError).decode(errors="replace").strip()
    return _token(text, str(path)) if text else None


def _token(text: str, place: str) -> Token:
    # A line break would begin another header, and an error of the HTTP library might quote the text.
    if not all("!" <= character <= "~" for character in text):
        raise ManifestError(f"what {place} holds is not a token", hint="a token is one word of ASCII")
    return Token(secret=text, found_in=place)
