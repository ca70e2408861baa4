"""Fuzz one target. Needs atheris, which the extra `test` brings where it has a wheel: Linux on x86_64."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from random import Random

import atheris

from fuzz.mutations import change_document, json_text
from fuzz.targets import CORPUS, JSON_TARGETS, TARGETS


def main() -> None:
    """Run libFuzzer on a target; it ends the process."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--into", type=Path, help="folder for new inputs, which a later run goes on with")
    known, options = parser.parse_known_args()
    # Only what is imported in here is watched for coverage.
    with atheris.instrument_imports(include=["bundler"]):
        check = importlib.import_module(f"fuzz.{known.target}").check
    into = known.into or Path(".fuzz") / known.target
    into.mkdir(parents=True, exist_ok=True)
    limits = ["-timeout=20", "-rss_limit_mb=2048", f"-artifact_prefix={into}-"]
    arguments = ["fuzz", *limits, *options, str(into), str(CORPUS / known.target)]
    mutator = {"custom_mutator": change_json} if known.target in JSON_TARGETS else {}
    atheris.Setup(arguments, lambda content: None if check(content) else None, **mutator)
    atheris.Fuzz()


def change_json(content: bytes, max_size: int, seed: int) -> bytes:
    """Change a document as a document where it is one; else, and every other time, as bytes."""
    dice = Random(seed)
    if dice.random() < 0.5:
        try:
            document = [json.loads(content)]
            change_document(dice, document)
            text = json_text(document[0])
        except (ValueError, RecursionError, IndexError):
            text = b""
        if 0 < len(text) <= max_size:
            return text
    changed: bytes = atheris.Mutate(content, max_size)
    return changed


main()
