"""Bytes and JSON documents, changed at random: the same seed, the same change."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

_NUMBERS = (-1, 0, 1, 511, 512, 513, 1 << 24, (1 << 24) + 1, 1 << 31, (1 << 53) - 1, 1 << 53, 1 << 63, 1 << 200)
_TEXTS = (
    "", ".", "..", "/", "../x", "../../../../x", "a/../../../../../x", "/etc/passwd", "C:x", "a\\b", "a\0b", "a\nb",
    "-x", ".git", "refs/main", "HEAD", "con", "nul.txt", "x" * 300, "a/" * 600 + "a", "ä", "a\u0308", "\u202ex",
    "\ud800", "0" * 40, "f" * 64,
)
_OTHERS: tuple[Any, ...] = (None, True, False, 0.5, 1e300, [], {}, [[]], [{}])

Slot = tuple[Any, Any]
"""A container of a document, and the name or place in it."""


# Bytes


def change_bytes(dice: Random, content: bytes) -> bytes:
    """Flip bits, cut, swap or repeat; return something else than `content`, which holds different bytes."""
    while (changed := dice.choice(_BYTE_CHANGES)(dice, content)) == content:
        pass
    return changed


def _flip(dice: Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(dice.choice((1, 1, 1, 2, 10))):
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _cut(dice: Random, content: bytes) -> bytes:
    start, end = _range(dice, content)
    return content[:start] + content[end:]


def _cut_off(dice: Random, content: bytes) -> bytes:
    return content[:dice.randrange(len(content))]


def _swap(dice: Random, content: bytes) -> bytes:
    (a, b), (c, d) = sorted((_range(dice, content), _range(dice, content)))
    if c < b:
        return content
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def _repeat(dice: Random, content: bytes) -> bytes:
    start, end = _range(dice, content)
    return content[:end] + content[start:end] + content[end:]


def _overwrite(dice: Random, content: bytes) -> bytes:
    """Repeat a range over another one: the length stays."""
    start, end = _range(dice, content)
    to = _position(dice, len(content) - (end - start))
    return content[:to] + content[start:end] + content[to + end - start:]


_BYTE_CHANGES = (_flip, _cut, _cut_off, _swap, _repeat, _overwrite)


def _range(dice: Random, content: bytes) -> tuple[int, int]:
    start, end = sorted((_position(dice, len(content)), _position(dice, len(content))))
    return start, end


def _position(dice: Random, end: int) -> int:
    """Return a position up to `end`, half the time where a block of a tar starts."""
    position = dice.randint(0, end)
    return position // 512 * 512 if dice.random() < 0.5 else position


# Documents


def change_document(dice: Random, document: Any) -> None:
    """Change values, names or lists of a JSON document in place."""
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        slots = list(_slots(document))
        if slots:
            dice.choice(_DOCUMENT_CHANGES)(dice, dice.choice(slots), slots)


def hostile_documents(document: Any) -> Iterator[Any]:
    """Yield the document with each of its values replaced by each of those that an enemy would try; all the same one.

    Whoever draws the next one loses the one before.
    """
    for container, key in list(_slots(document)):
        value = container[key]
        for hostile in (*_enemies_of(value), *_OTHERS):
            container[key] = copy.deepcopy(hostile)
            yield document
        container[key] = value


def _enemies_of(value: Any) -> tuple[Any, ...]:
    if type(value) is int:
        return (value - 1, value + 1, *_NUMBERS)
    return _TEXTS if isinstance(value, str) else ()


def json_text(document: Any) -> bytes:
    """Spell a document as FORMAT.md wants it; what no UTF-8 can hold comes out as bytes that are none."""
    text = json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8", errors="surrogatepass")


def _slots(value: Any) -> Iterator[Slot]:
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _slots(value[key])


def _replace(dice: Random, slot: Slot, slots: list[Slot]) -> None:
    container, key = slot
    container[key] = _like(dice, container[key])


def _like(dice: Random, value: Any) -> Any:
    """Return something in the place of a value, mostly of its type."""
    if dice.random() < 0.1:
        return copy.deepcopy(dice.choice(_OTHERS))
    if type(value) is int:
        return dice.choice((value - 1, value + 1, 2 * value, value // 2, dice.choice(_NUMBERS)))
    if isinstance(value, str):
        at = dice.randint(0, len(value))
        other = chr(dice.choice((0x20, 0x2f, 0x30, 0x41, 0x61, 0x7f, 0xe4)))
        return dice.choice((
            value[:at] + value[at + 1:], value[:at] + other + value[at:], value[:at] + other + value[at + 1:],
            value.swapcase(), f"{value}/{value}", dice.choice(_TEXTS),
        ))
    return copy.deepcopy(dice.choice(_OTHERS))


def _copy_over(dice: Random, slot: Slot, slots: list[Slot]) -> None:
    """Put a value from elsewhere in the document here."""
    container, key = slot
    other, other_key = dice.choice(slots)
    container[key] = copy.deepcopy(other[other_key])


def _remove(dice: Random, slot: Slot, slots: list[Slot]) -> None:
    container, key = slot
    del container[key]


def _double(dice: Random, slot: Slot, slots: list[Slot]) -> None:
    container, key = slot
    if isinstance(container, list):
        container.insert(key, copy.deepcopy(container[key]))
    else:
        container[f"{key}2"] = copy.deepcopy(container[key])


def _swap_values(dice: Random, slot: Slot, slots: list[Slot]) -> None:
    """Let two values of one container change places."""
    container, key = slot
    other = dice.choice(list(container) if isinstance(container, dict) else range(len(container)))
    container[key], container[other] = container[other], container[key]


def _sink(dice: Random, slot: Slot, slots: list[Slot]) -> None:
    """Nest a value deep."""
    container, key = slot
    for _ in range(dice.choice((1, 10, 200))):
        container[key] = [container[key]]


_Change = Callable[[Random, Slot, list[Slot]], None]
_DOCUMENT_CHANGES: tuple[_Change, ...] = (
    _replace, _replace, _replace, _copy_over, _copy_over, _remove, _double, _swap_values, _sink
)
