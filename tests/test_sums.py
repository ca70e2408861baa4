"""SHA256SUMS: what `sha256sum` prints and checks, in one spelling."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.digest import Digest
from bundler.errors import FormatError
from bundler.format.sums import parse_sums, sums_text

A, B = "a" * 64, "b" * 64
NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,30}", fullmatch=True)


@given(st.dictionaries(NAMES, st.sampled_from([Digest(A), Digest(B)])))
def test_comes_back_as_it_was_written(digests: dict[str, Digest]) -> None:
    """Any files, in any order."""
    assert parse_sums(sums_text(digests)) == digests


def test_is_what_sha256sum_prints_and_checks(tmp_path: Path) -> None:
    """The stock tool writes the same file, and takes ours."""
    names = ["index.json", "README.txt", "speech-001.tar", "restore.py"]
    for name in names:
        (tmp_path / name).write_text(name)

    text = sums_text({name: Digest.of(name.encode()) for name in names})

    printed = subprocess.run(["sha256sum", *sorted(names)], cwd=tmp_path, capture_output=True, check=True).stdout
    assert text == printed
    checked = subprocess.run(["sha256sum", "-c", "--strict"], cwd=tmp_path, input=text, capture_output=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("text", [
    f"{A}  a", f"{A}  a\n\n", f"\n{A}  a\n", f"{A} a\n", f"{A} *a\n", f"{A}   a\n", f"{A}\ta\n", f"{A}  a\r\n",
    f"{A}  a \n", f"{A.upper()}  a\n", f"{A[1:]}  a\n", f"{A}0  a\n", f"{A}  \n", f"{A}  .a\n", f"{A}  -a\n",
    f"{A}  ..\n", f"{A}  ../a\n", f"{A}  a/b\n", f"{A}  /a\n", f"{A}  a\\b\n", f"\\{A}  a\n", f"{A}  ä\n",
    f"{A}  a\0\n", f"{A}  {'a' * 101}\n", f"{A}  b\n{A}  a\n", f"{A}  a\n{A}  a\n", f"{A}  a\n{B}  a\n", f"# {A}  a\n",
    f"{A}  a\n#\n", f"SHA256 (a) = {A}\n", "\n", " ", "\0", "\ufeff" + f"{A}  a\n", f"{A}  a\x0b\n", f"{A}  a\u2028\n",
], ids=repr)
def test_refuses_any_other_spelling(text: str) -> None:
    """Comments, other orders, doubles, paths, binary marks and carriage returns have no place."""
    with pytest.raises(FormatError, match="SHA256SUMS"):
        parse_sums(text.encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_sums_or_refused(text: bytes) -> None:
    """What is taken is spelled the same again."""
    try:
        digests = parse_sums(text)
    except FormatError:
        return

    assert sums_text(digests) == text
