"""Exit codes: one for each thing that may go wrong, told by README.md as it is."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from bundler import errors
from bundler.errors import BundlerError, FormatError, NotEnoughSpaceError

README = Path(__file__).parent.parent / "README.md"
SUCCESS, BUG = 0, 1
KINDS = [
    kind for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, BundlerError) and kind is not BundlerError
]
FAMILIES = {
    10: ("ManifestError", "LockError", "StaleLockError", "NothingSelectedError"),
    20: ("HubError",),
    30: ("FetchError",),
    40: ("DamagedBundleError", "IncompleteBundleError"),
    50: ("FormatError", "BundleExistsError"),
    60: ("InstallError", "NotEnoughSpaceError", "FileSystemError"),
}
"""Heads of families and loners: whoever derives from one of them is of its family."""


def test_every_error_has_an_exit_code_of_its_own() -> None:
    """A script can tell any two errors apart."""
    codes = Counter(vars(kind).get("exit_code") for kind in KINDS)

    assert None not in codes
    assert [code for code, count in codes.items() if count > 1] == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
def test_an_exit_code_is_of_its_family(kind: type[BundlerError]) -> None:
    """The tens say whose move it is, for those who derive from a family as well."""
    family = kind.exit_code // 10 * 10

    parents = [parent for parent in kind.__mro__ if issubclass(parent, BundlerError) and parent is not BundlerError]

    assert 10 <= family <= 80
    assert {parent.exit_code // 10 * 10 for parent in parents} == {family}


@pytest.mark.parametrize(("family", "name"), [(family, name) for family, names in FAMILIES.items() for name in names])
def test_the_families_stay_where_they_are(family: int, name: str) -> None:
    """Scripts rely on the tens: a release that moved one would mislead them."""
    kind = getattr(errors, name)

    assert kind.exit_code // 10 * 10 == family


def test_exit_codes_mean_nothing_else() -> None:
    """No error ends like success, a bug, a wrong command line, an interruption, or a death by signal."""
    reserved = {SUCCESS, BUG, errors.USAGE_EXIT_CODE, errors.INTERRUPTED_EXIT_CODE}

    assert reserved == {0, 1, 2, 130}
    assert all(2 < kind.exit_code < 126 for kind in KINDS)


def test_the_readme_lists_all_exit_codes() -> None:
    """The table in README.md has the codes that the program can end with, and no others."""
    rows = re.findall(r"^\| *`?(\d+)`? *\|(.*)$", README.read_text(encoding="utf-8"), flags=re.MULTILINE)

    told = [int(code) for code, _ in rows]

    reserved = [SUCCESS, BUG, errors.USAGE_EXIT_CODE, errors.INTERRUPTED_EXIT_CODE]
    assert sorted(told) == sorted([*reserved, *(kind.exit_code for kind in KINDS)])


def test_an_error_says_what_to_do_next() -> None:
    """`str` has the facts, `hint` the way out, and there may be none."""
    plain = FormatError("this is not a bundle")
    helpful = FormatError("this is not a bundle", hint="look elsewhere")

    assert (str(plain), plain.hint) == ("this is not a bundle", "")
    assert (str(helpful), helpful.hint) == ("this is not a bundle", "look elsewhere")


def test_not_enough_space_tells_the_numbers() -> None:
    """How much there is, how much is needed, for what, how much to free, and what else would help."""
    error = NotEnoughSpaceError(
        Path("/place"), needed=5_000, free=2_000, purpose="the bundle", way_out="choose another place"
    )

    assert str(error) == "/place has 2,000 bytes free, the bundle needs 5,000"
    assert error.hint == "free 3,000 bytes there, or choose another place"
    assert (error.needed, error.free) == (5_000, 2_000)
