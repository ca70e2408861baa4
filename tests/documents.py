"""JSON documents with one thing changed: for tables of what a reader must refuse.

    change = put("../x", "repos", 0, "id")
    change(document)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Document = dict[str, Any]
Change = Callable[[Document], object]
Step = str | int


def at(document: Document, *steps: Step) -> Any:
    """Return the value that `steps` lead to: names of fields, places in lists."""
    value: Any = document
    for step in steps:
        value = value[step]
    return value


def put(value: object, *steps: Step) -> Change:
    """Return a change that sets what `steps` lead to."""
    def change(document: Document) -> None:
        at(document, *steps[:-1])[steps[-1]] = value
    return change


def remove(*steps: Step) -> Change:
    """Return a change that removes what `steps` lead to."""
    def change(document: Document) -> None:
        del at(document, *steps[:-1])[steps[-1]]
    return change


def both(*changes: Change) -> Change:
    """Return a change that is all of these, in order."""
    def change(document: Document) -> None:
        for each in changes:
            each(document)
    return change
