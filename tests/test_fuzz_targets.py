"""The fuzzer's targets: what it once found is met again in every run, and each of them still runs under it."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzz.targets import CORPUS, TARGETS, corpus

ROOT = Path(__file__).parent.parent
MAX_CORPUS_SIZE = 300_000


def check_of(target: str) -> Callable[[bytes], bool]:
    """Return what feeds the reader."""
    check: Callable[[bytes], bool] = importlib.import_module(f"fuzz.{target}").check
    return check


@pytest.mark.parametrize("path", [path for target in TARGETS for path in corpus(target)],
                         ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_kept_input_breaks_no_promise(path: Path) -> None:
    """Accepted or refused: nothing else."""
    assert check_of(path.parent.name)(path.read_bytes()) in (True, False)


@pytest.mark.parametrize("target", TARGETS)
def test_the_kept_inputs_reach_behind_the_first_refusal(target: str) -> None:
    """A target that accepts nothing would look at little, one that accepts everything would not look."""
    check = check_of(target)

    assert {check(path.read_bytes()) for path in corpus(target)} == {True, False}


def test_the_corpus_is_small_and_of_targets() -> None:
    """It is read in every run; a folder that no target reads would be forgotten."""
    files = [path for path in CORPUS.rglob("*") if path.is_file()]

    assert sum(path.stat().st_size for path in files) < MAX_CORPUS_SIZE
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert {path.parent.parent for path in files} == {CORPUS}


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this platform")
@pytest.mark.parametrize("target", TARGETS)
def test_the_fuzzer_finds_nothing_new(target: str, tmp_path: Path) -> None:
    """Real atheris, from the corpus on, for some thousand inputs of chance; `python -m fuzz` is for more."""
    command = [sys.executable, "-m", "fuzz", target, "--into", str(tmp_path / "new"), "-max_total_time=3"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "INITED cov:" in done.stderr and "Done " in done.stderr
