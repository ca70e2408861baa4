"""Manifests in files, for the real command line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path


def write_manifest(path: Path, *repos: str | Mapping[str, object], endpoints: Iterable[str]) -> Path:
    """Write a manifest named as its file; a repository is its id, or the fields of its table."""
    lines = [f"name = {_toml(path.stem)}", f"endpoints = {_toml(list(endpoints))}"]
    for repo in repos:
        fields = {"id": repo} if isinstance(repo, str) else repo
        lines += ["[[repo]]", *(f"{key} = {_toml(value)}" for key, value in fields.items())]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def _toml(value: object) -> str:
    # Texts and lists of texts are spelled as in JSON.
    return json.dumps(value, ensure_ascii=False)
