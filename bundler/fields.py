"""Reading documents that somebody else wrote: JSON and TOML into checked values, with errors that say where."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import NoReturn, TypeVar

from bundler.errors import BundlerError, FileSystemError

T = TypeVar("T")

MAX_INTEGER = 2**53 - 1
"""The largest number that every JSON reader keeps exact (RFC 8785)."""

_READ_SIZE = 1 << 20


class Fields:
    """One object of a document, asked field by field.

    Every question names the field, so an error can say `repo[2].revision` instead of showing a traceback. `document`
    is what an error calls the whole, `failure` the error class of that kind of document.
    """

    __slots__ = ("_values", "_where", "_document", "_failure")

    def __init__(self, values: object, *, document: str, failure: type[BundlerError], where: str = "") -> None:
        self._where = where
        self._document = document
        self._failure = failure
        if not isinstance(values, dict):
            self.refuse("", "is not an object")
        self._values: dict[str, object] = values

    def refuse(self, key: str, reason: str) -> NoReturn:
        """Raise the document's error for the field `key` (of the object itself if empty)."""
        place = ".".join(step for step in (self._where, key) if step)
        raise self._failure(f"{self._document}: `{place}` {reason}" if place else f"{self._document} {reason}")

    def has(self, key: str) -> bool:
        """Say whether the field is there and not null."""
        return self._values.get(key) is not None

    def keys(self) -> tuple[str, ...]:
        """Return the names of all fields."""
        return tuple(self._values)

    def need(self, *required: str) -> None:
        """Refuse if one of these fields is not there, for lists that may be empty but not absent."""
        for key in required:
            if not self.has(key):
                self.refuse(key, "is missing")

    def only(self, *known: str) -> None:
        """Refuse any field that is not named here."""
        for key in self._values:
            if key not in known:
                self.refuse(key, f"is not a known field (known here: {', '.join(known)})")

    def text(self, key: str) -> str:
        """Return a field that is text."""
        value = self._values.get(key)
        if not isinstance(value, str):
            self.refuse(key, "is missing" if value is None else "is not text")
        if not _is_unicode(value):
            self.refuse(key, "is not Unicode text")
        return value

    def name(self, key: str, make: Callable[[str], T]) -> T:
        """Return a field that is text and valid for `make`, which raises ValueError where it is not."""
        return self._valid(key, self.text(key), make)

    def optional(self, key: str, make: Callable[[str], T]) -> T | None:
        """Return a field like `name`, None if it is absent."""
        return self.name(key, make) if self.has(key) else None

    def size(self, key: str, *, limit: int = MAX_INTEGER) -> int:
        """Return a field that is a whole number from 0 to `limit`."""
        value = self._values.get(key)
        if type(value) is not int or not 0 <= value <= limit:
            self.refuse(key, "is missing" if value is None else f"is not a whole number from 0 to {limit:,}")
        return value

    def flag(self, key: str) -> bool:
        """Return a field that is true or false; false if it is absent."""
        value = self._values.get(key, False)
        if not isinstance(value, bool):
            self.refuse(key, "is neither true nor false")
        return value

    def texts(self, key: str, make: Callable[[str], T]) -> tuple[T, ...]:
        """Return a list of texts, each valid for `make`; empty if the field is absent."""
        return tuple(self._valid(f"{key}[{position}]", value, make) for position, value in enumerate(self._list(key)))

    def texts_or_objects(self, key: str, make: Callable[[str], T], build: Callable[[Fields], T]) -> tuple[T, ...]:
        """Return a list like `texts`, in which an object may stand as well: what `build` makes of it."""
        return tuple(
            build(self._below(f"{key}[{position}]", value)) if isinstance(value, dict)
            else self._valid(f"{key}[{position}]", value, make)
            for position, value in enumerate(self._list(key))
        )

    def says(self, key: str) -> bool:
        """Say whether a field is there and means something: not null, false, zero or empty."""
        return bool(self._values.get(key))

    def inner(self, key: str) -> Fields:
        """Return a field that is an object."""
        return self._below(key, self._values.get(key))

    def objects(self, key: str) -> list[Fields]:
        """Return a list of objects; empty if the field is absent."""
        return [self._below(f"{key}[{position}]", value) for position, value in enumerate(self._list(key))]

    def _valid(self, place: str, value: object, make: Callable[[str], T]) -> T:
        try:
            if not isinstance(value, str) or not _is_unicode(value):
                raise ValueError("not text")
            return make(value)
        except ValueError as error:
            if isinstance(make, type) and issubclass(make, Enum):
                known = ", ".join(f"`{member.value}`" for member in make)
                self.refuse(place, f"is not valid: {str(value)[:80]!r} is none of {known}")
            self.refuse(place, f"is not valid: {error}")

    def _list(self, key: str) -> list[object]:
        value = self._values.get(key, [])
        if not isinstance(value, list):
            self.refuse(key, f"is not a list, such as TOML's {f'[[{key}]]' if isinstance(value, dict) else '[…]'}")
        return value

    def _below(self, key: str, value: object) -> Fields:
        where = f"{self._where}.{key}" if self._where else key
        return Fields(value, document=self._document, failure=self._failure, where=where)


def _is_unicode(text: str) -> bool:
    """Say whether text can be written down: JSON may hold halves of surrogate pairs, which no file can."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def parse_json(text: bytes, *, document: str, failure: type[BundlerError], plain: bool = False) -> object:
    """Parse JSON strictly: UTF-8, no name twice in an object, no NaN, not nested without end.

    `plain` refuses what programs spell in more than one way: numbers that are not whole, from 0 to `MAX_INTEGER`, and
    names that are not ASCII.
    """
    try:
        if plain:
            return json.loads(
                text.decode(), object_pairs_hook=_plain_names, parse_constant=_no_constant,
                parse_float=_no_constant, parse_int=_plain_number,
            )
        return json.loads(text.decode(), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise failure(f"{document} is not readable JSON: {reason}") from error


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return values


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"`{text[:40]}` is not a number that may stand here")


def _plain_names(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if not all(name.isascii() for name, _ in pairs):
        raise ValueError("a name is not ASCII")
    return _no_duplicates(pairs)


def _plain_number(text: str) -> int:
    if not 0 <= (number := int(text)) <= MAX_INTEGER:
        raise ValueError(f"`{text[:40]}` is not a whole number from 0 to {MAX_INTEGER:,}")
    return number


def read_bounded(path: Path, *, limit: int, failure: type[BundlerError]) -> bytes:
    """Read a small regular file whole, refusing one of more than `limit` bytes."""
    content = bytearray()
    try:
        with path.open("rb", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            # Piece by piece: reading `limit` bytes at once would take as much memory from the start.
            while size <= limit and (piece := stream.read(_READ_SIZE)):
                content += piece
                size = max(size, len(content))
    except OSError as error:
        raise FileSystemError(f"{path} cannot be read: {error.strerror}") from error
    if size > limit:
        raise failure(f"{path} is larger than the {limit:,} bytes that such a file may have")
    return bytes(content)
